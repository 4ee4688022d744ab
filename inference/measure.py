"""Measure the regions of a segmentation: volume, diameters, centroid, components, enhancement."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist, squareform

from inference.errors import GeometryError
from inference.volume import FloatArray, Volume

Mask = NDArray[np.bool_]
Labels = NDArray[np.uint8]
Point = tuple[float, float, float]
FloatImage = NDArray[np.float32]

ANY_NEIGHBOUR = np.ones((3, 3, 3), dtype=np.int8)  # 26-connectivity
ANY_NEIGHBOUR_IN_PLANE = np.ones((3, 3), dtype=np.int8)


class Region(StrEnum):
    """Regions of a glioma: the three labels of the model, then their unions."""

    NCR = "NCR"
    ED = "ED"
    ET = "ET"
    TC = "TC"
    WT = "WT"


LABELS: dict[Region, tuple[int, ...]] = {
    Region.NCR: (1,),
    Region.ED: (2,),
    Region.ET: (3,),
    Region.TC: (1, 3),
    Region.WT: (1, 2, 3),
}


@dataclass(frozen=True, slots=True)
class Segment:
    """A straight line in a slice: both ends in LPS mm, and in (row, column) of the slice."""

    length_mm: float
    ends_mm: tuple[Point, Point]
    ends_pixel: tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Bidimensional:
    """Longest diameter of a region in one slice and the longest chord across it.

    `slice_index` counts from 0 along the reference volume.
    """

    slice_index: int
    long_axis: Segment
    short_axis: Segment

    @property
    def product_mm2(self) -> float:
        """Product of the two, as RANO sums it."""
        return self.long_axis.length_mm * self.short_axis.length_mm


@dataclass(frozen=True, slots=True)
class Measurement:
    """What is known of one region. None where an empty region or a missing series has no value."""

    region: Region
    volume_ml: float
    components: int
    centroid_mm: Point | None
    diameters: Bidimensional | None
    enhancement_ratio: float | None


def region_mask(labels: Labels, region: Region) -> Mask:
    """The voxels of a region; shape as `labels`."""
    mask: Mask = np.isin(labels, LABELS[region])
    return mask


def measure(
    labels: Labels, grid: Volume, t1: FloatImage | None = None, t1c: FloatImage | None = None
) -> dict[Region, Measurement]:
    """Measure every region of a label map.

    Args:
        labels: 0 background, 1 necrotic core, 2 oedema, 3 enhancing; the grid's shape.
        grid: the volume on whose grid the labels lie.
        t1: T1 on the same grid, or None.
        t1c: T1 with contrast on the same grid, or None.

    Raises:
        GeometryError: the labels do not lie on the grid.
    """
    if labels.shape != grid.shape:
        raise GeometryError(f"labels of shape {labels.shape} on a grid of shape {grid.shape}")
    return {
        region: measure_region(region, region_mask(labels, region), grid, t1, t1c)
        for region in Region
    }


def measure_region(
    region: Region, mask: Mask, grid: Volume, t1: FloatImage | None, t1c: FloatImage | None
) -> Measurement:
    """Measure one region; an empty one has volume 0 and no other value."""
    count = int(mask.sum())
    if not count:
        return Measurement(region, 0.0, 0, None, None, None)
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    inside = mask[box]
    low = np.array([side.start for side in box], dtype=float)
    _, components = ndimage.label(inside, structure=ANY_NEIGHBOUR)
    centre = grid.place((np.argwhere(inside).mean(axis=0) + low)[None])[0]
    return Measurement(
        region,
        count * grid.voxel_ml,
        int(components),
        _point(centre),
        longest_diameters(inside, low, grid),
        enhancement_ratio(mask, t1, t1c),
    )


def enhancement_ratio(mask: Mask, t1: FloatImage | None, t1c: FloatImage | None) -> float | None:
    """Mean signal after contrast divided by the mean before it, over a region.

    The two series are taken as they are: MR has no absolute scale, so this compares a region with
    another of the same study, not with one of another study.
    """
    if t1 is None or t1c is None or not mask.any():
        return None
    before = float(t1[mask].mean(dtype=np.float64))
    after = float(t1c[mask].mean(dtype=np.float64))
    return after / before if before > 0 else None


def longest_diameters(mask: Mask, offset: FloatArray, grid: Volume) -> Bidimensional | None:
    """The slice and line of the longest in-plane diameter, and its perpendicular.

    Taken between voxel centres of one connected part (8 neighbours) of one acquired slice. The
    perpendicular is the longest chord of the part's convex hull across the diameter, so a line
    through a ring crosses its cavity (RANO 2.0; spec: centres give up to 4 % less than the true
    product at 1 mm).

    Args:
        mask: the region, or the box of it that starts at `offset`.
        offset: (slice, row, column) of the box in the grid.
        grid: gives the place of voxels in the patient.
    """
    best: Bidimensional | None = None
    for index, plane in enumerate(mask):
        parts, count = ndimage.label(plane, structure=ANY_NEIGHBOUR_IN_PLANE)
        for part in range(1, count + 1):
            candidate = _part_diameters(parts == part, index, offset, grid)
            if best is None or candidate.long_axis.length_mm > best.long_axis.length_mm + 1e-9:
                best = candidate
    return best


def _part_diameters(part: Mask, index: int, offset: FloatArray, grid: Volume) -> Bidimensional:
    pixels = np.argwhere(part).astype(float) + offset[1:]
    scale = np.array(grid.spacing[1:])
    hull = _hull(pixels * scale)
    first, second = _farthest(hull)
    slice_index = int(offset[0]) + index
    start, end = hull[first], hull[second]
    across = _longest_chord(hull, start, end)

    def segment(ends: tuple[FloatArray, FloatArray]) -> Segment:
        return _segment(ends, slice_index, scale, grid)

    return Bidimensional(slice_index, segment((start, end)), segment(across))


def _farthest(points: FloatArray) -> tuple[int, int]:
    if len(points) == 1:
        return 0, 0
    first, second = divmod(int(squareform(pdist(points)).argmax()), len(points))
    return first, second


def _hull(points: FloatArray) -> FloatArray:
    """Corners of the convex hull in order; of points on one line, the two ends."""
    if len(points) > 2:
        try:
            corners: FloatArray = points[ConvexHull(points).vertices]
            return corners
        except QhullError:  # all on one line
            pass
    order = np.lexsort(points.T)
    return points if len(points) == 1 else points[[order[0], order[-1]]]


def _longest_chord(
    hull: FloatArray, start: FloatArray, end: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """The longest chord of a convex polygon at right angles to the line from start to end.

    Chord length is concave along the line, and linear between corners: a longest one passes
    through a corner.
    """
    length = float(np.linalg.norm(end - start))
    if length == 0 or len(hull) < 3:
        middle = (start + end) / 2
        return middle, middle
    along = (end - start) / length
    across = np.array([-along[1], along[0]])
    best = (start, start)
    span = 0.0
    for corner in hull:
        reach = _crossings(hull, float((corner - start) @ along), start, along, across)
        if max(reach) - min(reach) > span + 1e-9:
            span = max(reach) - min(reach)
            foot = start + along * float((corner - start) @ along)
            best = (foot + across * min(reach), foot + across * max(reach))
    return best


def _crossings(
    hull: FloatArray, at: float, start: FloatArray, along: FloatArray, across: FloatArray
) -> list[float]:
    """Where the line across at distance `at` meets the polygon, as distances along `across`."""
    u = (hull - start) @ along
    v = (hull - start) @ across
    found = []
    for index in range(len(hull)):
        other = (index + 1) % len(hull)
        if abs(u[index] - at) < 1e-9:
            found.append(float(v[index]))
        elif (u[index] - at) * (u[other] - at) < 0:
            part = (at - u[index]) / (u[other] - u[index])
            found.append(float(v[index] + part * (v[other] - v[index])))
    return found


def _segment(
    ends: tuple[FloatArray, FloatArray], slice_index: int, scale: FloatArray, grid: Volume
) -> Segment:
    pixels = np.stack(ends) / scale
    places = grid.place(np.column_stack([np.full(2, float(slice_index)), pixels]))
    (row_a, column_a), (row_b, column_b) = pixels
    return Segment(
        float(np.linalg.norm(ends[1] - ends[0])),
        (_point(places[0]), _point(places[1])),
        ((float(row_a), float(column_a)), (float(row_b), float(column_b))),
    )


def _point(values: FloatArray) -> Point:
    x, y, z = (float(value) for value in values)
    return x, y, z
