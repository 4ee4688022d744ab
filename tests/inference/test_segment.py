"""The reference model, from DICOM to labels on the native grid."""

import numpy as np
import pytest
from scipy import ndimage

from hilum.example.series import truth
from inference.errors import ModelError
from inference.evaluate import dice_by_region
from inference.measure import Region
from inference.models import load_model
from inference.register import overlap
from inference.segment import drop_small, working_grid, z_score
from inference.select import Sequence
from inference.volume import Volume

CARD = {Region.WT: 0.894, Region.TC: 0.923, Region.ET: 0.814}  # model card, synth-ring


def test_the_demo_case_reaches_the_dice_of_the_model_card(segmenter, demo):
    labels = segmenter.segment(demo, demo[Sequence.T1C])

    found = dice_by_region(labels, truth("synth-ring"))
    assert {region: found[region] for region in CARD} == pytest.approx(CARD, abs=0.03)


def test_a_healthy_head_gives_an_empty_label_map(segmenter, load_case):
    volumes = load_case("synth-no-tumour")

    labels = segmenter.segment(volumes, volumes[Sequence.T1C])

    assert not labels.any()


def test_a_missing_sequence_still_gives_a_result(segmenter, demo):
    without = {kind: volume for kind, volume in demo.items() if kind is not Sequence.T2}

    labels = segmenter.segment(without, demo[Sequence.T1C])

    assert dice_by_region(labels, truth("synth-ring"))[Region.WT] > 0.5


def test_an_oblique_acquisition_gives_the_same_lesion(segmenter, demo, turned):
    oblique = {kind: _reacquired(volume, turned(12, -8, 15)) for kind, volume in demo.items()}
    reference = oblique[Sequence.T1C]
    labels = truth("synth-ring")
    expected = np.zeros(reference.shape, np.uint8)
    for value in (1, 2, 3):
        part = _sampled((labels == value).astype(np.float32), demo[Sequence.T1C], reference)
        expected[part > 0.5] = value

    found = segmenter.segment(oblique, reference)

    dice = dice_by_region(found, expected)
    assert {region: dice[region] for region in CARD} == pytest.approx(CARD, abs=0.05)


def _reacquired(volume, turn):
    """The same head, scanned on a turned grid with other voxels."""
    affine = volume.affine.copy()
    scale = np.diag([1.2, 0.8, 0.8])
    affine[:3, :3] = turn @ volume.affine[:3, :3] @ scale
    shape = tuple(
        int(np.ceil(n * 1.25 / s)) for n, s in zip(volume.shape, (1.2, 0.8, 0.8), strict=True)
    )
    centre = volume.place(((np.array(volume.shape) - 1) / 2.0)[None])[0]
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    target = Volume(np.zeros(shape, np.float32), affine, volume.frame_of_reference)
    return Volume(_sampled(volume.voxels, volume, target), affine, volume.frame_of_reference)


def _sampled(voxels, source, target):
    mapping = np.linalg.inv(source.affine) @ target.affine
    return ndimage.affine_transform(
        voxels, mapping[:3, :3], mapping[:3, 3], output_shape=target.shape, order=1
    )


def test_series_without_signal_are_refused(segmenter, demo):
    grid = demo[Sequence.T1C]
    empty = Volume(np.zeros(grid.shape, np.float32), grid.affine, grid.frame_of_reference)

    with pytest.raises(ModelError):
        segmenter.segment({Sequence.T1: empty}, empty)


def test_the_working_grid_is_two_millimetres_covers_the_volume_and_points_to_ras(make_grid, turned):
    grid = make_grid((20, 30, 40), (3, 1, 0.5), turned(5, 10, 15), (100, -50, 25))

    affine, shape = working_grid(grid)

    np.testing.assert_allclose(affine[:3, :3], np.diag([-2, -2, 2]))
    assert overlap(grid, Volume(np.zeros(shape, np.float32), affine, "1.2.3")) > 0.999


def test_lesions_below_the_least_volume_are_dropped_by_face_connection():
    mask = np.zeros((10, 10, 10), bool)
    mask[0:2, 0:2, 0:2] = True
    mask[2, 2, 2] = True  # touches by a corner only
    mask[7, 7, 7] = True

    kept = drop_small(mask, minimum_ml=2.0, voxel_ml=0.5)

    assert kept.sum() == 8


def test_scores_leave_the_background_at_zero():
    values = np.array([0, 1, 2, 3], np.float32)

    scored = z_score(values)

    assert scored[0] == 0
    assert scored[1:].tolist() == pytest.approx([-1, 0, 1])


def test_a_folder_that_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(ModelError, match="incomplete"):
        load_model(tmp_path)
