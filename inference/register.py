"""Bring volumes onto one grid; register them first where the headers do not already agree."""

from __future__ import annotations

# SimpleITK carries no annotations:
# mypy: disable-error-code="no-untyped-call"
from dataclasses import replace

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from inference.errors import RegistrationError
from inference.volume import FloatArray, Volume

MINIMUM_OVERLAP = 0.5  # of the smaller volume's box; less means that the headers disagree
MAXIMUM_SHIFT_MM = 120.0
SEED = 20260101


def align(moving: Volume, fixed: Volume) -> Volume:
    """Give `moving` the frame of reference of `fixed`.

    In the same frame of reference, with boxes that overlap, the scanner's geometry is trusted and
    the volume is returned as it is. Otherwise its affine is corrected by a rigid registration; the
    voxels are never resampled here.

    Raises:
        RegistrationError: no plausible rigid movement was found.
    """
    same_frame = bool(moving.frame_of_reference) and (
        moving.frame_of_reference == fixed.frame_of_reference
    )
    if same_frame and overlap(moving, fixed) >= MINIMUM_OVERLAP:
        return moving
    movement = rigid_movement(moving, fixed)
    return replace(
        moving, affine=movement @ moving.affine, frame_of_reference=fixed.frame_of_reference
    )


def overlap(one: Volume, other: Volume) -> float:
    """Share of the smaller volume's axis-parallel box that lies in the other's box."""
    (low_a, high_a), (low_b, high_b) = _box(one), _box(other)
    common = np.clip(np.minimum(high_a, high_b) - np.maximum(low_a, low_b), 0, None)
    smaller = min(np.prod(high_a - low_a), np.prod(high_b - low_b))
    return float(np.prod(common) / smaller)


def on_grid(volume: Volume, grid: Volume) -> NDArray[np.float32]:
    """The volume's voxels, trilinear, on another grid of the same frame of reference."""
    if volume.shape == grid.shape and np.allclose(volume.affine, grid.affine, atol=1e-4):
        return volume.voxels
    return resample(volume.voxels, volume.affine, grid.affine, grid.shape)


def resample(
    voxels: NDArray[np.float32],
    source: FloatArray,
    target: FloatArray,
    shape: tuple[int, int, int],
    *,
    smooth: bool = True,
) -> NDArray[np.float32]:
    """Trilinear resampling between two grids, with a low-pass where the target is coarser.

    Args:
        voxels: values on the source grid.
        source: affine of the source grid, indices to mm.
        target: affine of the target grid.
        shape: of the target grid.
        smooth: False where `voxels` has already been through `low_pass`.
    """
    mapping = np.linalg.inv(source) @ target
    values = low_pass(voxels, mapping) if smooth else voxels
    result: NDArray[np.float32] = ndimage.affine_transform(
        values, mapping[:3, :3], mapping[:3, 3], output_shape=shape, order=1, mode="constant"
    )
    return result


def low_pass(voxels: NDArray[np.float32], mapping: FloatArray) -> NDArray[np.float32]:
    """Gaussian smoothing along the axes on which `mapping` takes steps of over 1.2 voxels."""
    steps = np.linalg.norm(mapping[:3, :3], axis=1)
    if steps.max() <= 1.2:
        return voxels
    widths = [0.35 * step if step > 1.2 else 0.0 for step in steps]
    smoothed: NDArray[np.float32] = ndimage.gaussian_filter(voxels, widths)
    return smoothed


def rigid_movement(moving: Volume, fixed: Volume) -> FloatArray:
    """The rigid movement (4 x 4, LPS mm) that lays `moving` onto `fixed`, by mutual information.

    One thread and a fixed seed: a repeated run must find the same movement.

    Raises:
        RegistrationError: the optimiser failed or went further than a head can be.
    """
    still, other = _image(fixed), _image(moving)
    start = sitk.CenteredTransformInitializer(
        still,
        other,
        sitk.Euler3DTransform(),
        sitk.CenteredTransformInitializerFilter.MOMENTS,
    )
    try:
        found = sitk.Euler3DTransform(
            sitk.CompositeTransform(_method(start).Execute(still, other)).GetNthTransform(0)
        )
    except RuntimeError as error:
        raise RegistrationError("registration of two series did not converge") from error
    matrix = np.eye(4)
    matrix[:3, :3] = np.asarray(found.GetMatrix()).reshape(3, 3)
    matrix[:3, 3] = found.TransformPoint((0.0, 0.0, 0.0))
    # The transform maps points of the fixed image to the moving one; voxels move the other way.
    # Rounded far below a voxel: ITK sums in no fixed order, and a repeat must be the same.
    movement: FloatArray = np.round(np.linalg.inv(matrix), 5).astype(np.float64)
    middle = moving.place((np.array(moving.shape, dtype=float) / 2)[None])[0]
    target = fixed.place((np.array(fixed.shape, dtype=float) / 2)[None])[0]
    moved = movement[:3, :3] @ middle + movement[:3, 3]
    if float(np.linalg.norm(moved - target)) > MAXIMUM_SHIFT_MM:
        raise RegistrationError("registration of two series ended far outside the head")
    return movement


def _method(start: sitk.Transform) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentagePerLevel([0.3, 0.2, 0.1], SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 1e-3, 80, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([3.0, 1.5, 0.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(start, inPlace=False)
    return method


def _image(volume: Volume) -> sitk.Image:
    image = sitk.GetImageFromArray(volume.voxels)
    slices, rows, columns = volume.spacing
    image.SetSpacing((columns, rows, slices))
    directions = volume.affine[:3, :3] / np.array(volume.spacing)
    image.SetDirection(directions[:, ::-1].ravel().tolist())
    image.SetOrigin(volume.affine[:3, 3].tolist())
    return image


def _box(volume: Volume) -> tuple[FloatArray, FloatArray]:
    return bounds(volume.affine, volume.shape)


def bounds(affine: FloatArray, shape: tuple[int, int, int]) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest coordinates (mm) of a grid's outer voxel faces."""
    edges = [(-0.5, size - 0.5) for size in shape]
    corners = np.array([[i, j, k] for i in edges[0] for j in edges[1] for k in edges[2]])
    places = corners @ affine[:3, :3].T + affine[:3, 3]
    return places.min(axis=0), places.max(axis=0)
