"""The packaged cases as DICOM studies: placed right, valid, repeatable or fresh as asked."""

import subprocess

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread

from hilum.example.series import (
    UnknownCase,
    case_names,
    load_image,
    truth,
    write_study,
)
from inference.select import Sequence
from tests.fixtures.peers import needs


def test_the_voxels_lie_where_the_case_has_them(demo):
    volume = demo[Sequence.T1C]
    source = load_image("synth-ring", "t1c")

    for index in [(0, 0, 0), (50, 60, 40), (107, 131, 107)]:
        x, y, z = index
        place = volume.place(np.array([[z, y, x]], dtype=float))[0]
        assert place == pytest.approx(source.TransformIndexToPhysicalPoint(index), abs=1e-3)
    np.testing.assert_array_equal(volume.voxels, sitk.GetArrayFromImage(source))
    assert truth("synth-ring").shape == volume.shape


def test_a_fixed_study_is_the_same_bytes_again_and_a_fresh_one_is_not(tmp_path):
    def study(name, **options):
        return [p.read_bytes() for p in write_study("synth-ring", tmp_path / name, **options)]

    assert study("a", study_uid="2.25.7") == study("b", study_uid="2.25.7")
    first, second = (dcmread(write_study("synth-ring", tmp_path / n)[0]) for n in "cd")
    assert first.StudyInstanceUID != second.StudyInstanceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID


@needs("dciodvfy")
def test_dciodvfy_finds_nothing_to_say_about_any_series(tmp_path):
    paths = write_study("synth-ring", tmp_path, study_uid="2.25.7")

    for path in paths[::108]:
        answer = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True)
        assert (answer.returncode, answer.stderr.strip()) == (0, "MRImage")


def test_an_unknown_case_is_named_with_those_there_are(tmp_path):
    with pytest.raises(UnknownCase, match=case_names()[0]):
        write_study("nobody", tmp_path)
