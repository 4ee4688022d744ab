"""Measurements of phantoms whose values can be worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import GeometryError
from inference.measure import Region, longest_diameters, measure, measure_region
from inference.volume import Volume

BALL_ML = 4 / 3 * np.pi * 20**3 / 1000


@pytest.mark.parametrize("turn", [(0, 0, 0), (25, -35, 15)])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.8, 0.8), (1.5, 0.6, 1.2)])
def test_a_ball_has_its_volume_diameter_and_centre_on_any_grid(
    make_grid, ball, turned, turn, spacing
):
    shape = tuple(int(48 / side) | 1 for side in spacing)
    grid = make_grid(shape, spacing, turned(*turn), (5.0, -7.0, 11.0))

    found = measure_region(Region.WT, ball(grid, 20.0), grid, None, None)

    centre = grid.place(((np.array(shape) - 1) / 2.0)[None])[0]
    assert found.volume_ml == pytest.approx(BALL_ML, rel=0.02)
    assert found.diameters.long_axis.length_mm == pytest.approx(40, abs=2 * max(spacing[1:]))
    assert found.diameters.short_axis.length_mm == pytest.approx(40, abs=2 * max(spacing[1:]))
    assert found.centroid_mm == pytest.approx(tuple(centre), abs=0.05)
    assert found.components == 1


def test_an_ellipse_gives_both_its_axes_and_their_ends_in_the_patient(make_grid, turned):
    grid = make_grid((3, 101, 101), (5.0, 0.5, 0.5), turned(10, 20, 30), (1.0, 2.0, 3.0))
    rows, columns = np.mgrid[-50:51, -50:51] * 0.5
    along = np.cos(0.5) * columns + np.sin(0.5) * rows
    across = -np.sin(0.5) * columns + np.cos(0.5) * rows
    mask = np.zeros(grid.shape, bool)
    mask[1] = (along / 20) ** 2 + (across / 8) ** 2 <= 1

    found = longest_diameters(mask, np.zeros(3), grid)

    ends = np.array(found.long_axis.ends_mm)
    assert found.slice_index == 1
    assert found.long_axis.length_mm == pytest.approx(40, abs=1)
    assert found.short_axis.length_mm == pytest.approx(16, abs=1)
    assert found.product_mm2 == pytest.approx(640, rel=0.05)
    assert np.linalg.norm(ends[1] - ends[0]) == pytest.approx(found.long_axis.length_mm)
    lines = [np.diff(axis.ends_mm, axis=0)[0] for axis in (found.long_axis, found.short_axis)]
    assert abs(lines[0] @ lines[1]) < 1e-6 * np.linalg.norm(lines[0]) * np.linalg.norm(lines[1])


def test_the_lines_of_a_ring_cross_its_cavity(make_grid, ball):
    grid = make_grid((49, 49, 49))

    found = measure_region(Region.ET, ball(grid, 20, 15), grid, None, None)

    assert found.volume_ml == pytest.approx(BALL_ML * (1 - 0.75**3), rel=0.03)
    assert found.diameters.long_axis.length_mm == pytest.approx(40, abs=2)
    assert found.diameters.short_axis.length_mm == pytest.approx(40, abs=2)
    assert found.components == 1


def test_parts_that_touch_by_a_corner_are_one_and_the_diameter_never_spans_two(make_grid):
    grid = make_grid((9, 30, 30))
    mask = np.zeros(grid.shape, bool)
    mask[2, 2:5, 2:5] = True
    mask[3, 5, 5] = True  # touches the first by a corner
    mask[2, 20:24, 20:24] = True

    found = measure_region(Region.WT, mask, grid, None, None)

    assert found.components == 2
    assert found.diameters.long_axis.length_mm == pytest.approx(3 * np.sqrt(2))


@pytest.mark.parametrize(
    ("voxels", "long_mm", "short_mm"),
    [([(0, 0)], 0, 0), ([(0, 0), (0, 1)], 2, 0), ([(0, k) for k in range(5)], 8, 0)],
)
def test_a_point_or_a_line_has_no_width_and_breaks_nothing(make_grid, voxels, long_mm, short_mm):
    grid = make_grid((1, 6, 6), (1, 2, 2))
    mask = np.zeros(grid.shape, bool)
    for row, column in voxels:
        mask[0, row, column] = True

    found = longest_diameters(mask, np.zeros(3), grid)

    assert found.long_axis.length_mm == pytest.approx(long_mm)
    assert found.short_axis.length_mm == pytest.approx(short_mm)


def test_regions_are_unions_of_labels_and_an_empty_one_has_volume_zero_only(make_grid):
    grid = make_grid((4, 10, 10), (10, 10, 10))  # one voxel is 1 mL
    labels = np.zeros(grid.shape, np.uint8)
    labels[1, 1, 1:4] = 1
    labels[1, 2, 1:6] = 2

    found = measure(labels, grid)

    assert {r.value: m.volume_ml for r, m in found.items()} == pytest.approx(
        {"NCR": 3, "ED": 5, "ET": 0, "TC": 3, "WT": 8}
    )
    assert found[Region.ET].diameters is None
    assert found[Region.ET].centroid_mm is None


def test_enhancement_is_the_ratio_of_means_and_unknown_without_either_series(make_grid):
    grid = make_grid((2, 4, 4))
    labels = np.full(grid.shape, 3, np.uint8)
    before, after = np.full(grid.shape, 100, np.float32), np.full(grid.shape, 180, np.float32)

    both = measure(labels, grid, before, after)[Region.ET]
    without = measure(labels, grid, None, after)[Region.ET]

    assert both.enhancement_ratio == pytest.approx(1.8)
    assert without.enhancement_ratio is None


def test_labels_of_another_shape_are_refused(make_grid):
    with pytest.raises(GeometryError):
        measure(np.zeros((2, 2, 2), np.uint8), make_grid((3, 2, 2)))


@settings(max_examples=80, deadline=None)
@given(
    cells=st.sets(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=40),
    spacing=st.tuples(st.floats(0.4, 3), st.floats(0.4, 3)),
)
def test_the_long_axis_is_the_farthest_pair_and_the_short_one_never_longer(cells, spacing):
    affine = np.diag([1.0, *spacing, 1.0])
    grid = Volume(np.zeros((1, 10, 10), np.float32), affine, "1.2")
    mask = np.zeros((1, 10, 10), bool)
    mask[0][tuple(np.array(sorted(cells)).T)] = True

    found = longest_diameters(mask, np.zeros(3), grid)

    points = np.array(sorted(cells)) * spacing
    farthest = max(np.linalg.norm(a - b) for a in points for b in points)
    assert found.long_axis.length_mm <= farthest + 1e-9
    assert found.short_axis.length_mm <= found.long_axis.length_mm + 1e-9
