"""The transaction that ends a run: complete, repeatable, and honest about being a draft."""

import base64
import hashlib
import json
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset

from hilum.example.series import truth
from inference.conclusion import conclusion
from inference.fhir_results import Result, transaction
from inference.key_images import key_images, side_markers
from inference.lesions import lesions_of
from inference.measure import Region, measure
from inference.models import load_model
from inference.select import Sequence
from records import identifiers

STUDY = {
    "resourceType": "ImagingStudy",
    "id": "study-1",
    "started": "2026-01-15T09:30:00+00:00",
    "subject": {"reference": "Patient/p-1"},
}
ALL = {kind.value: f"1.2.{n}" for n, kind in enumerate(Sequence)}


@pytest.fixture(params=["lesion", "empty"])
def result(request, demo, run):
    grid = demo[Sequence.T1C]
    labels = truth("synth-ring")
    if request.param == "empty":
        labels = np.zeros_like(labels)
    task = {
        "resourceType": "Task",
        "id": "task-1",
        "meta": {"versionId": "3"},
        "identifier": [{"system": identifiers.INFERENCE_RUN, "value": run.identifier}],
        "status": "in-progress",
        "intent": "order",
        "for": {"reference": "Patient/p-1"},
        "focus": {"reference": "ImagingStudy/study-1"},
    }
    measurements = measure(labels, grid, demo[Sequence.T1].voxels, grid.voxels)
    images = key_images(labels, grid)
    model = load_model()
    return Result(
        run,
        model,
        task,
        STUDY,
        "Site",
        measurements,
        images,
        run.uid("SEG"),
        run.uid("SR"),
        ALL,
        lesions_of(labels, grid, demo[Sequence.T1].voxels, grid.voxels),
    )


def of_type(entries, kind):
    return [e["resource"] for e in entries if e["resource"]["resourceType"] == kind]


def test_a_repeat_creates_nothing_and_a_lost_race_for_the_task_writes_nothing(result):
    entries = transaction(result)

    assert entries == transaction(result)
    for entry in entries:
        request = entry["request"]
        assert "ifNoneExist" in request or request["method"] == "PUT"
    assert entries[-1]["request"]["ifMatch"] == 'W/"3"'


def test_the_task_ends_with_its_report_measurements_and_both_dicom_objects(result, run):
    entries = transaction(result)
    task = of_type(entries, "Task")[0]
    urls = {e["fullUrl"]: e["resource"] for e in entries}

    outputs = [(o["type"]["text"], o["valueReference"]) for o in task["output"]]
    assert task["status"] == "completed"
    assert [kind for kind, _ in outputs] == [
        "report",
        *["measurement"] * len(of_type(entries, "Observation")),
        "segmentation",
        "measurement-report",
    ]
    assert urls[outputs[0][1]["reference"]]["identifier"] == [
        {"system": identifiers.REPORT, "value": run.identifier}
    ]
    assert outputs[-2][1]["identifier"]["value"] == f"urn:oid:{run.uid('SEG')}"


def test_every_reference_in_the_bundle_is_resolved(result):
    entries = transaction(result)
    known = {e["fullUrl"] for e in entries}

    text = json.dumps([e["resource"] for e in entries])
    used = {part.split('"')[0] for part in text.split('"reference": "')[1:]}
    assert {reference for reference in used if reference.startswith("urn:uuid:")} <= known


def totals_of(entries):
    """The Observations of whole regions."""
    return [
        o
        for o in of_type(entries, "Observation")
        if not o["code"]["text"].startswith("Lesion ") and "hasMember" not in o
    ]


def volumes_of(entries):
    return [o for o in totals_of(entries) if o.get("valueQuantity", {}).get("code") == "mL"]


def test_each_region_has_an_observation_with_its_volume_even_when_it_is_zero(result):
    volumes = volumes_of(transaction(result))

    assert [o["valueQuantity"]["value"] for o in volumes] == [
        round(m.volume_ml, 2) for m in result.measurements.values()
    ]
    assert {o["status"] for o in volumes} == {"preliminary"}
    assert all(c["system"] for o in volumes for c in o["code"]["coding"])


def test_a_lesion_is_a_group_of_all_that_is_said_about_it(result, run):
    entries = transaction(replace(result, lesions=result.lesions[:1]))
    found = {e["fullUrl"]: e["resource"] for e in entries}
    groups = [o for o in of_type(entries, "Observation") if "hasMember" in o]

    if not result.measurements[Region.WT].volume_ml:
        assert groups == of_type(entries, "BodyStructure") == []
        return
    (group,) = groups
    members = [found[one["reference"]] for one in group["hasMember"]]
    kinds = {m["code"]["coding"][-2]["code"] for m in members}
    assert not {"valueQuantity", "component"} & set(group)
    assert kinds == {"118565006", "21889-1", "enhancement-ratio"}
    assert group["identifier"][1]["value"] == f"urn:oid:{run.uid('tracking WT')}"
    assert group["device"]["reference"] in found
    body = found[group["focus"][0]["reference"]]
    assert body["resourceType"] == "BodyStructure"


def test_a_size_has_the_shape_of_a_tumour_size_of_mcode(result):
    sizes = [o for o in totals_of(transaction(result)) if o["code"]["text"].endswith(", size")]

    assert len(sizes) == sum(m.diameters is not None for m in result.measurements.values())
    for size in sizes:
        assert "valueQuantity" not in size
        assert size["code"]["coding"][0]["code"] == "21889-1"
        assert [c["code"]["coding"][0]["code"] for c in size["component"]] == ["33728-7", "33729-5"]
        assert {c["valueQuantity"]["code"] for c in size["component"]} == {"mm"}


def test_two_lesions_are_two_groups_and_the_totals_belong_to_neither(demo, run, result):
    grid = demo[Sequence.T1C]
    labels = np.zeros(grid.shape, np.uint8)
    labels[10:16, 20:40, 20:40] = 2
    labels[12:14, 25:30, 25:30] = 3
    labels[30:34, 60:70, 60:70] = 2
    t1 = demo[Sequence.T1].voxels
    several = replace(
        result,
        measurements=measure(labels, grid, t1, grid.voxels),
        lesions=lesions_of(labels, grid, t1, grid.voxels),
    )

    entries = transaction(several)

    found = {e["fullUrl"]: e["resource"] for e in entries}
    groups = [o for o in of_type(entries, "Observation") if "hasMember" in o]
    report = of_type(entries, "DiagnosticReport")[0]
    results = [found[one["reference"]]["code"]["text"] for one in report["result"]]
    wholes = [found[group["hasMember"][0]["reference"]] for group in groups]
    total = next(o for o in volumes_of(entries) if o["code"]["text"] == "Whole tumour, volume")
    assert [group["code"]["text"] for group in groups] == ["Lesion 1", "Lesion 2"]
    assert results[:2] == ["Lesion 1", "Lesion 2"]
    assert not [text for text in results if text.startswith("Lesion 1, ")]
    assert sum(w["valueQuantity"]["value"] for w in wholes) == pytest.approx(
        total["valueQuantity"]["value"], abs=0.02
    )
    tracked = [group["identifier"][1]["value"] for group in groups]
    assert tracked == [f"urn:oid:{run.uid(f'tracking lesion {n}')}" for n in (1, 2)]


def test_the_provenance_says_who_answers_for_it_what_made_it_and_from_what(result, run):
    entries = transaction(result)
    (provenance,) = of_type(entries, "Provenance")
    found = {e["fullUrl"]: e["resource"] for e in entries}

    agents = {
        agent["type"]["coding"][0]["code"]: found[agent["who"]["reference"]]["resourceType"]
        for agent in provenance["agent"]
    }
    sources = [
        e["what"].get("reference") or e["what"]["identifier"]["value"] for e in provenance["entity"]
    ]
    assert agents == {"author": "Organization", "assembler": "Device", "transmitter": "Device"}
    assert all("onBehalfOf" in agent for agent in provenance["agent"])
    assert sources[0] == "ImagingStudy/study-1"
    assert {f"urn:oid:{uid}" for uid in (run.uid("SEG"), run.uid("SR"), *ALL.values())} == set(
        sources[1:]
    )


def test_each_observation_names_the_series_it_was_measured_on_and_what_speaks_against_it(result):
    observations = of_type(transaction(result), "Observation")

    for observation in observations:
        study, *series = observation["derivedFrom"]
        assert study == {"reference": "ImagingStudy/study-1"}
        assert {s["display"]: s["identifier"]["value"] for s in series} == {
            name: f"urn:oid:{uid}" for name, uid in ALL.items()
        }
        assert observation["note"] == [{"text": "Lesions smaller than 1 mL are not shown."}]


def test_the_report_is_a_preliminary_draft_with_three_key_images(result):
    entries = transaction(result)
    report, media = of_type(entries, "DiagnosticReport")[0], of_type(entries, "Media")

    assert report["status"] == "preliminary"
    assert "not reviewed" in report["conclusion"]
    assert len(report["media"]) == len(media) == 3
    for one in media:
        png = base64.b64decode(one["content"]["data"])
        digest = base64.b64encode(hashlib.sha1(png).digest()).decode()
        assert one["content"]["hash"] == digest
        assert png.startswith(b"\x89PNG")


def test_key_images_show_the_lesion_in_colour_and_a_healthy_head_in_grey(result, tmp_path):
    coloured = []
    for image in result.images:
        path = tmp_path / "key.png"
        path.write_bytes(image.png)
        pixels = np.asarray(Image.open(path)).astype(int)
        coloured.append(bool((np.ptp(pixels, axis=2) > 0).any()))

    assert coloured == [result.measurements[Region.WT].volume_ml > 0] * 3


@pytest.mark.parametrize(
    ("degrees", "markers"),
    [
        ({}, {"left": "R", "right": "L"}),
        ({"z_deg": 180}, {"left": "L", "right": "R"}),
        ({"z_deg": 90}, {"top": "L", "bottom": "R"}),
        ({"x_deg": 15, "z_deg": 10}, {"left": "R", "right": "L"}),
        ({"y_deg": 90}, {}),  # sagittal: the picture has no side
    ],
)
def test_side_markers_follow_the_orientation_of_the_slices(make_grid, turned, degrees, markers):
    grid = make_grid((4, 64, 64), turn=turned(**degrees))

    assert side_markers(grid) == markers


def test_side_markers_are_burned_into_the_edges_of_a_key_image(make_grid):
    grid = make_grid((4, 64, 64))
    grid = replace(grid, sources=(Dataset(),) * 4)
    for source in grid.sources:
        source.SOPInstanceUID = "1.2.3"

    for image in key_images(np.zeros(grid.shape, np.uint8), grid):
        pixels = np.asarray(Image.open(BytesIO(image.png)).convert("L"))
        middle = slice(image.height // 2 - 20, image.height // 2 + 20)
        assert pixels[middle, :40].max() == pixels[middle, -40:].max() == 255
        assert not pixels[:, 60:-60].any()


def test_a_missing_series_and_an_empty_result_are_said_in_the_conclusion(make_grid):
    nothing = measure(np.zeros((2, 2, 2), np.uint8), make_grid((2, 2, 2)))

    text = conclusion(nothing, {"T1": "1", "FLAIR": "2"}, load_model())

    assert text == (
        "No lesion found by the model. The study has no T1c and T2 series; the result is less "
        "reliable. Lesions smaller than 1 mL are not shown. Measured automatically by "
        f"{load_model().label}; not reviewed. Not for clinical use."
    )
