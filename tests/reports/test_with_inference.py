"""The report of what inference really writes: both sides agree on the shape of the resources."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hilum.example.series import truth
from inference.fhir_results import Result, transaction
from inference.key_images import key_images
from inference.measure import Region as Measured
from inference.measure import measure
from inference.models import load_model
from inference.select import Sequence
from reports import docx, pdf
from reports.layout import document
from reports.reading import findings_of
from reports.regions import Kind, Region
from tests.inference.conftest import demo, load_case, run
from tests.reports.example import STUDY_UID, imaging_study, patient

INPUTS = {Sequence.T1: 2, Sequence.T1C: 3, Sequence.T2: 4, Sequence.FLAIR: 5}
__all__ = ["demo", "load_case", "run"]


def result_of(demo, run, labels):
    grid = demo[Sequence.T1C]
    task = {
        "resourceType": "Task",
        "id": "task-1",
        "meta": {"versionId": "3"},
        "status": "in-progress",
        "intent": "order",
        "for": {"reference": "Patient/patient"},
        "focus": {"reference": "ImagingStudy/study"},
    }
    return Result(
        run,
        load_model(),
        task,
        imaging_study(),
        "Site",
        measure(labels, grid, demo[Sequence.T1].voxels, grid.voxels),
        key_images(labels, grid),
        run.uid("SEG"),
        run.uid("SR"),
        {kind.value: f"{STUDY_UID}.{number}" for kind, number in INPUTS.items()},
    )


def filed(result):
    """What the transaction leaves behind, by reference."""
    entries = transaction(result)
    text = json.dumps(entries)
    for entry in entries:
        kind, name = entry["resource"]["resourceType"], entry["fullUrl"].removeprefix("urn:uuid:")
        text = text.replace(f'"reference": "{entry["fullUrl"]}"', f'"reference": "{kind}/{name}"')
    written = {"Patient/patient": patient(), "ImagingStudy/study": imaging_study()}
    reference = ""
    for entry in json.loads(text):
        resource, name = entry["resource"], entry["fullUrl"].removeprefix("urn:uuid:")
        written[f"{resource['resourceType']}/{name}"] = {**resource, "id": name}
        if resource["resourceType"] == "DiagnosticReport":
            reference = f"DiagnosticReport/{name}"
    return written, reference


@pytest.mark.parametrize("lesion", [True, False])
def test_a_report_prints_what_inference_measured(lesion, demo, run):
    labels = truth("synth-ring")
    result = result_of(demo, run, labels if lesion else np.zeros_like(labels))

    findings = findings_of(*filed(result))

    assert [r.region for r in findings.regions] == list(Region)
    assert findings.omissions == ()
    assert findings.lesion is lesion
    assert len(findings.images) == 3
    for region in findings.regions:
        measured = result.measurements[Measured(region.region.value)]
        volume, parts = region.volume, region.figure(Kind.PARTS)
        assert volume is not None and abs(float(volume.value) - measured.volume_ml) < 0.006
        assert parts is not None and parts.value == measured.components
        long = region.figure(Kind.LONG_AXIS)
        assert (long is None) == (measured.diameters is None)
    report = document(findings, "Site")
    assert [row[-1] for row in report.series] == ["T1", "T1c", "T2", "FLAIR"]
    assert report.cautions == ("Lesions smaller than 1 mL are not shown.",)
    assert pdf.render(report).startswith(b"%PDF")
    assert docx.render(report).startswith(b"PK")
