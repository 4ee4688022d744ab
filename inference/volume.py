"""Volume: voxels with their place in the patient, built from MR instances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_rescale

from inference.errors import (
    DuplicateSlice,
    GeometryError,
    MissingGeometry,
    MixedSlices,
    SliceGap,
    SlicesDrift,
    UnreadablePixels,
)

FloatArray = NDArray[np.float64]

SPACING_TOLERANCE = 0.05  # of the slice distance; scanners round positions to 1e-3 mm or better
DRIFT_TOLERANCE_MM = 0.5  # over the whole stack
DIRECTION_TOLERANCE = 1e-3  # of a direction cosine


@dataclass(frozen=True, slots=True)
class Volume:
    """Voxels on a regular grid in the patient.

    Attributes:
        voxels: float32, shape (slices, rows, columns), modality rescale applied.
        affine: 4 x 4, from (slice, row, column, 1) to LPS millimetres of the voxel's centre.
        frame_of_reference: UID under which the millimetres hold; empty when the series has none.
        sources: the instances in the order of the slices (one entry for a multi-frame instance).
        frames: of a multi-frame instance, the frame index of each slice; else empty.
    """

    voxels: NDArray[np.float32]
    affine: FloatArray
    frame_of_reference: str
    sources: tuple[Dataset, ...] = ()
    frames: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns)."""
        slices, rows, columns = self.voxels.shape
        return slices, rows, columns

    @property
    def spacing(self) -> tuple[float, float, float]:
        """mm between voxel centres along (slices, rows, columns)."""
        slices, rows, columns = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(slices), float(rows), float(columns)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def place(self, indices: FloatArray) -> FloatArray:
        """LPS millimetres of (slice, row, column) indices; shape (n, 3) to (n, 3)."""
        return indices @ self.affine[:3, :3].T + self.affine[:3, 3]


@dataclass(frozen=True, slots=True)
class Plane:
    """One slice: where it lies and, when asked for, what it shows."""

    position: FloatArray
    orientation: FloatArray  # (2, 3): direction of a row (increasing column), of a column
    spacing: tuple[float, float]  # between rows, between columns; mm
    size: tuple[int, int]


def volume_from_instances(instances: Sequence[Dataset]) -> Volume:
    """Build the volume of one series.

    Args:
        instances: single-frame images in any order, or one enhanced multi-frame image whose
            frames form one stack.

    Raises:
        GeometryError: the slices do not form one regular stack (a subclass says why).
        UnreadablePixels: an instance could not be decoded.
    """
    if not instances:
        raise MissingGeometry("the series has no instances")
    if len(instances) == 1 and int(instances[0].get("NumberOfFrames", 1)) > 1:
        planes = _frame_planes(instances[0])
        order, affine = stack(planes)
        voxels = _frame_voxels(instances[0])[order]
        sources: tuple[Dataset, ...] = (instances[0],)
        frames = tuple(order)
    else:
        order, affine = stack([_plane(instance) for instance in instances])
        sources = tuple(instances[index] for index in order)
        frames = ()
        voxels = np.stack([_pixels(source) for source in sources])
    return Volume(
        np.ascontiguousarray(voxels, dtype=np.float32),
        affine,
        str(instances[0].get("FrameOfReferenceUID", "")),
        sources,
        frames,
    )


def stack(planes: Sequence[Plane]) -> tuple[list[int], FloatArray]:
    """Order slices along their normal and check that they are one regular grid.

    Returns:
        The order of the planes, and the affine of (slice, row, column) to LPS mm. A single slice
        gets its pixel size as thickness, for want of a distance.

    Raises:
        GeometryError: a subclass says which rule is broken.
    """
    first = planes[0]
    for plane in planes[1:]:
        _require_same_grid(first, plane)
    normal = np.cross(first.orientation[0], first.orientation[1])
    heights = np.array([plane.position @ normal for plane in planes])
    order = [int(index) for index in np.argsort(heights, kind="stable")]
    positions = np.stack([planes[index].position for index in order])
    step = _slice_step(positions, normal, first.spacing)
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = first.orientation[1] * first.spacing[0]
    affine[:3, 2] = first.orientation[0] * first.spacing[1]
    affine[:3, 3] = positions[0]
    return order, affine


def _slice_step(
    positions: FloatArray, normal: FloatArray, spacing: tuple[float, float]
) -> FloatArray:
    if len(positions) == 1:
        return normal * spacing[0]
    distances = np.diff(positions @ normal)
    usual = float(np.median(distances))
    tolerance = max(SPACING_TOLERANCE * usual, 1e-3)
    if distances.min() < min(tolerance, 0.01):
        raise DuplicateSlice(f"{int((distances < 0.01).sum())} slice position(s) occur twice")
    irregular = np.flatnonzero(np.abs(distances - usual) > tolerance)
    if irregular.size:
        where = int(irregular[0])
        raise SliceGap(
            f"{distances[where]:.3f} mm between slices {where + 1} and {where + 2}, "
            f"{usual:.3f} mm elsewhere"
        )
    across = positions - positions[0] - np.outer((positions - positions[0]) @ normal, normal)
    if float(np.linalg.norm(across, axis=1).max()) > DRIFT_TOLERANCE_MM:
        raise SlicesDrift("slices are shifted in-plane: a tilted stack is not supported")
    step: FloatArray = normal * float(distances.mean())
    return step


def _require_same_grid(first: Plane, other: Plane) -> None:
    if first.size != other.size:
        raise MixedSlices(f"slices of {first.size} and {other.size} pixels in one series")
    if float(np.abs(first.orientation - other.orientation).max()) > DIRECTION_TOLERANCE:
        raise MixedSlices("slices of different orientation in one series")
    if not np.allclose(first.spacing, other.spacing, rtol=1e-3):
        raise MixedSlices("slices of different pixel spacing in one series")


def _plane(instance: Dataset) -> Plane:
    return _checked_plane(instance, instance, instance, instance)


def _checked_plane(
    position: Dataset, orientation: Dataset, measures: Dataset, image: Dataset
) -> Plane:
    uid = image.get("SOPInstanceUID", "unknown")
    try:
        plane = Plane(
            np.array([float(v) for v in position.ImagePositionPatient]),
            np.array([float(v) for v in orientation.ImageOrientationPatient]).reshape(2, 3),
            (float(measures.PixelSpacing[0]), float(measures.PixelSpacing[1])),
            (int(image.Rows), int(image.Columns)),
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise MissingGeometry(f"{uid} has no usable position in the patient") from error
    _require_sound(plane, str(uid))
    return plane


def _require_sound(plane: Plane, uid: str) -> None:
    row, column = plane.orientation
    numbers = np.concatenate([plane.position, row, column, np.array(plane.spacing)])
    if plane.position.shape != (3,) or not np.isfinite(numbers).all():
        raise MissingGeometry(f"{uid} has a position that is not three finite numbers")
    lengths = np.array([row @ row, column @ column])
    if min(plane.spacing) <= 0 or np.abs(lengths - 1).max() > 1e-2 or abs(row @ column) > 1e-2:
        raise GeometryError(f"{uid} has an orientation or a spacing that no grid can have")


def _frame_planes(instance: Dataset) -> list[Plane]:
    shared = _first(instance.get("SharedFunctionalGroupsSequence"))
    planes = []
    for frame in instance.get("PerFrameFunctionalGroupsSequence") or []:

        def group(keyword: str, frame: Dataset = frame) -> Dataset:
            return _first(frame.get(keyword)) or _first(shared.get(keyword))

        planes.append(
            _checked_plane(
                group("PlanePositionSequence"),
                group("PlaneOrientationSequence"),
                group("PixelMeasuresSequence"),
                instance,
            )
        )
    if not planes:
        raise MissingGeometry(f"{instance.SOPInstanceUID} has frames without positions")
    return planes


def _frame_voxels(instance: Dataset) -> NDArray[np.float32]:
    voxels = _decoded(instance).astype(np.float32)
    shared = _first(instance.get("SharedFunctionalGroupsSequence"))
    for index, frame in enumerate(instance.PerFrameFunctionalGroupsSequence):
        keyword = "PixelValueTransformationSequence"
        rescale = _first(frame.get(keyword)) or _first(shared.get(keyword))
        slope = float(rescale.get("RescaleSlope", 1))
        voxels[index] = voxels[index] * slope + float(rescale.get("RescaleIntercept", 0))
    return voxels


def _pixels(instance: Dataset) -> NDArray[np.float32]:
    stored = _decoded(instance)
    if stored.ndim != 2:
        raise UnreadablePixels(f"{instance.SOPInstanceUID} is not one greyscale frame")
    return np.asarray(apply_rescale(stored, instance), dtype=np.float32)


def _decoded(instance: Dataset) -> NDArray[np.number]:
    try:
        return np.asarray(instance.pixel_array)
    except (AttributeError, ValueError, RuntimeError) as error:
        raise UnreadablePixels(f"{instance.SOPInstanceUID} cannot be decoded") from error


def _first(sequence: Sequence[Dataset] | None) -> Dataset:
    return sequence[0] if sequence else Dataset()
