"""Volumes are trusted where the scanner's geometry agrees, and registered where it cannot."""

from dataclasses import replace

import numpy as np
import pytest

from inference.register import align, on_grid, overlap
from inference.select import Sequence


def test_in_the_same_frame_of_reference_nothing_is_moved(demo):
    fixed, moving = demo[Sequence.T1C], demo[Sequence.T2]

    assert align(moving, fixed) is moving
    assert on_grid(moving, fixed) is moving.voxels


@pytest.mark.slow
def test_a_head_that_moved_between_two_frames_of_reference_is_brought_back(demo, turned):
    fixed = demo[Sequence.T1C]
    movement = np.eye(4)
    movement[:3, :3] = turned(4, -3, 6)
    movement[:3, 3] = (7, -5, 9)
    original = demo[Sequence.FLAIR]
    moved = replace(original, affine=movement @ original.affine, frame_of_reference="9.9")

    found = align(moved, fixed)
    again = align(moved, fixed)

    corners = np.array([[20, 20, 20], [80, 100, 90], [50, 60, 20], [90, 30, 60]], dtype=float)
    error = np.linalg.norm(found.place(corners) - original.place(corners), axis=1)
    assert error.max() < 1.5  # mm, the voxel size
    assert found.frame_of_reference == fixed.frame_of_reference
    np.testing.assert_array_equal(found.affine, again.affine)


def test_overlap_is_a_share_of_the_smaller_box(make_grid):
    grid = make_grid((10, 10, 10))

    assert overlap(grid, grid) == pytest.approx(1)
    assert overlap(grid, make_grid((10, 10, 10), origin=(5, 0, 0))) == pytest.approx(0.5)
    assert overlap(grid, make_grid((10, 10, 10), origin=(50, 0, 0))) == 0
