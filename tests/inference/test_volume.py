"""Volumes from instances: geometry kept, irregular stacks refused by name."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset

from inference.errors import (
    DuplicateSlice,
    GeometryError,
    MissingGeometry,
    MixedSlices,
    SliceGap,
    SlicesDrift,
    UnreadablePixels,
)
from inference.volume import Plane, stack, volume_from_instances


@pytest.mark.parametrize("turn", [(0, 0, 0), (20, -15, 40), (90, 0, 0), (0, 90, 10)])
def test_position_and_orientation_survive_in_any_direction_and_any_order(
    make_grid, make_slices, turned, turn
):
    grid = make_grid((6, 4, 5), (3.3, 0.7, 0.9), turned(*turn), (10.5, -20.25, 30.125))
    grid.voxels[:] = np.arange(120).reshape(6, 4, 5)

    volume = volume_from_instances(make_slices(grid, order=[3, 0, 5, 1, 4, 2]))

    np.testing.assert_allclose(volume.affine, grid.affine, atol=1e-6)
    np.testing.assert_array_equal(volume.voxels, grid.voxels)
    assert [s.SOPInstanceUID for s in volume.sources] == [f"1.2.3.{k}" for k in range(1, 7)]
    assert volume.spacing == pytest.approx((3.3, 0.7, 0.9))


@settings(max_examples=60, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 8)] * 3),
    origin=st.tuples(*[st.floats(-300, 300)] * 3),
    shuffle=st.permutations(range(7)),
)
def test_a_stack_in_any_pose_gives_back_its_affine(angles, spacing, origin, shuffle):
    directions = _turn(angles)
    affine = np.eye(4)
    affine[:3, :3] = directions @ np.diag(spacing)
    affine[:3, 3] = origin
    handed = np.cross(directions[:, 2], directions[:, 1]) @ directions[:, 0]
    affine[:3, 0] *= np.sign(handed)  # slices are ordered along the normal
    planes = [
        Plane(
            affine[:3, 3] + k * affine[:3, 0],
            np.stack([affine[:3, 2] / spacing[2], affine[:3, 1] / spacing[1]]),
            (spacing[1], spacing[2]),
            (4, 5),
        )
        for k in range(7)
    ]

    order, found = stack([planes[k] for k in shuffle])

    np.testing.assert_allclose(found, affine, atol=1e-6)
    assert [shuffle[k] for k in order] == list(range(7))


def _turn(angles):
    a, b, c = np.radians(angles)
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return z @ y @ x


def test_a_missing_slice_is_named_by_its_place(make_grid, make_slices):
    slices = make_slices(make_grid((8, 4, 4), (2.0, 1, 1)))
    del slices[3]

    with pytest.raises(SliceGap, match=r"4\.000 mm between slices 3 and 4, 2\.000 mm elsewhere"):
        volume_from_instances(slices)


def test_a_repeated_position_is_refused(make_grid, make_slices):
    slices = make_slices(make_grid((8, 4, 4)))
    slices.append(slices[2])

    with pytest.raises(DuplicateSlice):
        volume_from_instances(slices)


def test_two_complete_stacks_in_one_series_are_refused(make_grid, make_slices):
    slices = make_slices(make_grid((8, 4, 4)))

    with pytest.raises(DuplicateSlice):
        volume_from_instances(slices + slices)


def test_a_tilted_stack_is_refused(make_grid, make_slices):
    slices = make_slices(make_grid((8, 4, 4)))
    for index, one in enumerate(slices):
        x, y, z = one.ImagePositionPatient
        one.ImagePositionPatient = [x, y + 0.3 * index, z]

    with pytest.raises(SlicesDrift):
        volume_from_instances(slices)


@pytest.mark.parametrize(
    ("keyword", "value", "error"),
    [
        ("ImagePositionPatient", None, MissingGeometry),
        ("ImagePositionPatient", [0, 0], MissingGeometry),
        ("ImageOrientationPatient", [1, 0, 0, 0, 0, 1], MixedSlices),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0], GeometryError),
        ("PixelSpacing", [2, 2], MixedSlices),
        ("PixelSpacing", [0, 1], GeometryError),
        ("Rows", 3, MixedSlices),
        ("PixelData", b"", UnreadablePixels),
    ],
)
def test_one_bad_instance_is_refused_for_its_own_reason(
    make_grid, make_slices, keyword, value, error
):
    slices = make_slices(make_grid((5, 4, 4)))
    setattr(slices[2], keyword, value)

    with pytest.raises(error):
        volume_from_instances(slices)


def test_rescale_is_applied(make_grid, make_slices):
    grid = make_grid((3, 2, 2))
    grid.voxels[:] = 10

    volume = volume_from_instances(make_slices(grid, RescaleSlope=2.5, RescaleIntercept=-5))

    assert set(volume.voxels.ravel().tolist()) == {20.0}


def test_an_enhanced_multi_frame_image_is_the_same_volume(make_grid, make_slices, turned):
    grid = make_grid((5, 4, 4), (3.0, 1, 1), turned(10, 20, 30))
    grid.voxels[:] = np.arange(80).reshape(5, 4, 4)
    order = [2, 0, 4, 1, 3]

    volume = volume_from_instances([_multi_frame(make_slices(grid), order)])

    np.testing.assert_allclose(volume.affine, grid.affine, atol=1e-6)
    np.testing.assert_array_equal(volume.voxels, grid.voxels)
    assert [order[k] for k in volume.frames] == [0, 1, 2, 3, 4]


def _multi_frame(slices, order):
    first = slices[0]
    image = Dataset()
    image.update(first)
    image.file_meta = first.file_meta
    image.NumberOfFrames = len(slices)
    image.PixelData = b"".join(slices[k].PixelData for k in order)
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = first.ImageOrientationPatient
    measures.PixelSpacing = first.PixelSpacing
    shared.PlaneOrientationSequence = [orientation]
    shared.PixelMeasuresSequence = [measures]
    image.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for k in order:
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = slices[k].ImagePositionPatient
        frame.PlanePositionSequence = [position]
        frames.append(frame)
    image.PerFrameFunctionalGroupsSequence = frames
    return image
