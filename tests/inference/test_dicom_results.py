"""SEG and SR: valid, readable by others, and the same bytes when the run is repeated."""

import json
import shutil
import subprocess
import sys
import time
from copy import deepcopy
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread

from hilum.example.series import truth
from inference import terms
from inference.dicom_results import encode, labels_from, report, segmentation
from inference.lesions import lesions_of
from inference.measure import Region, measure
from inference.models import load_model
from inference.rejection import rejection
from inference.select import Sequence
from tests.fixtures.peers import needs


@pytest.fixture(scope="module")
def model():
    return load_model()


@pytest.fixture(scope="module")
def grid(demo):
    return demo[Sequence.T1C]


@pytest.fixture(params=["lesion", "empty"])
def labels(request):
    found = truth("synth-ring")
    return found if request.param == "lesion" else np.zeros_like(found)


@pytest.fixture
def results(labels, grid, demo, model, run):
    measurements = measure(labels, grid, demo[Sequence.T1].voxels, grid.voxels)
    seg = segmentation(labels, grid, model, run)
    return seg, report(measurements, seg, grid, model, run), measurements


@needs("dciodvfy")
def test_dciodvfy_finds_no_error(results, tmp_path):
    for name, dataset in zip(("seg", "sr"), results, strict=False):
        path = tmp_path / f"{name}.dcm"
        path.write_bytes(encode(dataset))

        answer = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True)

        assert "Error" not in answer.stderr + answer.stdout
        assert answer.returncode == 0


def test_the_mask_reads_back_as_it_was_and_an_empty_one_is_a_result(results, labels, grid):
    seg = dcmread(BytesIO(encode(results[0])))

    assert seg.SegmentationType == "BINARY"
    np.testing.assert_array_equal(labels_from(seg, grid), labels)


def test_a_second_reader_finds_each_segment_where_it_was_drawn(grid, model, run, tmp_path):
    labels = truth("synth-ring")
    path = tmp_path / "seg.dcm"
    path.write_bytes(encode(segmentation(labels, grid, model, run)))

    _run_dcmqi(
        "segimage2itkimage",
        "--inputDICOM", path, "--outputDirectory", tmp_path, "--prefix", "s", "-t", "nrrd",
    )  # fmt: skip

    codes = [s["SegmentedPropertyTypeCodeSequence"]["CodeValue"] for s in _segments(tmp_path)]
    assert codes == ["C81175", "79654002", "C113842"]
    for number in (1, 2, 3):
        image = sitk.ReadImage(str(tmp_path / f"s-{number}.nrrd"))
        places = np.argwhere(sitk.GetArrayFromImage(image))[:, ::-1]
        found = {_key(image.TransformIndexToPhysicalPoint([int(v) for v in p])) for p in places}
        expected = grid.place(np.argwhere(labels == number).astype(float))
        assert found == {_key(place) for place in expected}


def _segments(folder):
    return [
        group[0] for group in json.loads((folder / "s-meta.json").read_text())["segmentAttributes"]
    ]


def _key(place):
    return tuple(round(float(v), 2) + 0.0 for v in place)


def test_a_second_reader_finds_the_measurements(results, tmp_path):
    path, out = tmp_path / "sr.dcm", tmp_path / "sr.json"
    path.write_bytes(encode(results[1]))

    _run_dcmqi("tid1500reader", "--inputDICOM", path, "--outputMetadata", out)

    groups = json.loads(out.read_text())["Measurements"]
    volumes = {
        group["TrackingIdentifier"]: float(item["value"])
        for group in groups
        for item in group["measurementItems"]
        if item["quantity"]["CodeValue"] == terms.VOLUME.value
    }
    for region in terms.SEGMENTED:
        assert volumes[region.value] == pytest.approx(results[2][region].volume_ml, abs=1e-4)


def _run_dcmqi(name, *arguments):
    program = shutil.which(name) or shutil.which(name, path=Path(sys.executable).parent)
    if program is None:
        pytest.skip(f"{name} of dcmqi is not installed")
    subprocess.run([program, *map(str, arguments)], check=True, capture_output=True, timeout=120)


def test_the_report_holds_every_region_with_its_lines_in_the_patient(results):
    sr = hd.sr.srread(BytesIO(encode(results[1])))
    groups = sr.content.get_volumetric_roi_measurement_groups()
    text = json.dumps(sr.to_json_dict())

    assert len(groups) == 3
    assert all(f'"{region}"' in text for region in Region)
    assert ("POLYLINE" in text) == (results[2][Region.WT].volume_ml > 0)


def test_a_repeated_run_makes_the_same_bytes(labels, grid, model, run):
    def make():
        seg = segmentation(labels, grid, model, run)
        return encode(seg), encode(report(measure(labels, grid), seg, grid, model, run))

    first = make()
    time.sleep(1.1)  # the clock has moved on
    assert make() == first


def test_results_belong_to_the_patient_of_the_source_with_its_issuer(results, grid):
    source = grid.sources[0]
    for dataset in results[:2]:
        for keyword in ("PatientID", "IssuerOfPatientID", "StudyInstanceUID", "AccessionNumber"):
            assert dataset[keyword].value == source[keyword].value
        qualifiers = dataset.IssuerOfPatientIDQualifiersSequence[0]
        assert qualifiers.UniversalEntityID.startswith("https://")
        assert dataset.SpecificCharacterSet == "ISO_IR 192"


def test_a_japanese_name_survives_into_the_results(grid, model, run):
    names = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    sources = []
    for source in grid.sources:
        copy = deepcopy(source)
        copy.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
        copy.PatientName = names
        buffer = BytesIO()
        copy.save_as(buffer, enforce_file_format=True)
        sources.append(dcmread(BytesIO(buffer.getvalue())))
    japanese = type(grid)(grid.voxels, grid.affine, grid.frame_of_reference, tuple(sources))
    labels = truth("synth-ring")

    seg = dcmread(BytesIO(encode(segmentation(labels, japanese, model, run))))

    assert str(seg.PatientName) == names


def test_the_model_is_named_with_its_digest_in_every_segment(results, model):
    for segment in results[0].SegmentSequence:
        algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
        assert algorithm.AlgorithmName == model.name
        assert algorithm.AlgorithmVersion == model.version
        assert model.digest in algorithm.AlgorithmParameters
        assert segment.RecommendedDisplayCIELabValue


def test_each_of_several_lesions_has_a_group_of_its_own_under_its_tracking_uid(
    grid, demo, model, run
):
    labels = np.zeros(grid.shape, np.uint8)
    labels[10:16, 20:40, 20:40] = 2
    labels[30:34, 60:70, 60:70] = 2
    voxels = (demo[Sequence.T1].voxels, grid.voxels)
    lesions = lesions_of(labels, grid, *voxels)
    seg = segmentation(labels, grid, model, run)

    sr = report(measure(labels, grid, *voxels), seg, grid, model, run, lesions)

    text = str(sr)
    assert [run.uid(f"tracking lesion {n}") in text for n in (1, 2)] == [True, True]


@needs("dciodvfy")
def test_the_note_that_rejects_earlier_results_is_valid_and_names_both(
    results, model, run, tmp_path
):
    seg, sr, _ = results
    later = replace(run, identifier="cd" * 32)

    note = rejection([seg, sr], model, later)
    again = rejection([seg, sr], model, later)

    path = tmp_path / "ko.dcm"
    path.write_bytes(encode(note))
    answer = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True)
    referenced = {
        str(item.ReferencedSOPInstanceUID)
        for series in note.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert "Error" not in answer.stderr + answer.stdout
    assert encode(note) == encode(again)
    assert note.ConceptNameCodeSequence[0].CodeValue == "113001"
    assert referenced == {str(seg.SOPInstanceUID), str(sr.SOPInstanceUID)}
