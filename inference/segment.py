"""Segment a brain MR study with the reference model on ONNX Runtime.

The steps are those the model was trained with: 2 mm grid in RAS order, z-scores over non-zero
voxels, sides padded to multiples of 16, clicks absent, sigmoid at 0.5, lesions below a volume
dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from scipy import ndimage

from inference.errors import ModelError
from inference.measure import Labels
from inference.models import Model
from inference.register import bounds, low_pass, resample
from inference.select import Sequence
from inference.volume import FloatArray, Volume

WORKING_MM = 2.0
MARGIN = 4  # working voxels kept around the head
SIDE = 16  # the network halves its grid four times
NECROSIS, OEDEMA, ENHANCING = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Prepared:
    """The network's input and where it lies.

    Attributes:
        channels: float32 (6, x, y, z), padded.
        affine: (x, y, z) of the unpadded crop to LPS mm.
        crop: size of the crop without padding.
    """

    channels: NDArray[np.float32]
    affine: FloatArray
    crop: tuple[int, int, int]


class Segmenter:
    """A model loaded into ONNX Runtime. One instance serves all runs of a process."""

    def __init__(self, model: Model, threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        usable = onnxruntime.get_available_providers()
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        self.model = model
        self._session = onnxruntime.InferenceSession(
            str(model.graph), options, providers=[name for name in wanted if name in usable]
        )

    def segment(self, volumes: Mapping[Sequence, Volume], grid: Volume) -> Labels:
        """Label the voxels of a grid.

        Args:
            volumes: one or more sequences, all in the frame of reference of `grid`.
            grid: the volume on whose grid the labels are wanted.

        Returns:
            0 background, 1 necrotic or non-enhancing core, 2 oedema, 3 enhancing tumour.

        Raises:
            ModelError: the network gave something else than three finite maps.
        """
        prepared = prepare(volumes, grid)
        return labels_on(grid, prepared, self._probabilities(prepared), self.model.minimum_ml)

    def _probabilities(self, prepared: Prepared) -> NDArray[np.float32]:
        logits = self._session.run(None, {"input": prepared.channels[None]})[0][0]
        x, y, z = prepared.crop
        logits = logits[:, :x, :y, :z]
        if logits.shape[0] != 3 or not np.isfinite(logits).all():
            raise ModelError(f"{self.model.label} did not return three finite maps")
        return np.asarray(1 / (1 + np.exp(-np.clip(logits, -30, 30))), dtype=np.float32)


def prepare(volumes: Mapping[Sequence, Volume], grid: Volume) -> Prepared:
    """Resample and normalise the sequences; an absent one stays zero."""
    affine, shape = working_grid(grid)
    channels = np.zeros((6, *shape), np.float32)
    for channel, kind in enumerate(Sequence):
        if kind in volumes:
            volume = volumes[kind]
            channels[channel] = z_score(resample(volume.voxels, volume.affine, affine, shape))
    present = np.nonzero(channels.any(axis=0))
    if not present[0].size:
        raise ModelError("the chosen series hold no signal")
    low = np.array([max(0, int(axis.min()) - MARGIN) for axis in present])
    high = [
        min(size, int(axis.max()) + MARGIN + 1) for axis, size in zip(present, shape, strict=True)
    ]
    cropped = channels[:, low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    _, x, y, z = cropped.shape
    padding = [(0, 0), *((0, -size % SIDE) for size in (x, y, z))]
    affine = affine.copy()
    affine[:3, 3] += affine[:3, :3] @ low
    return Prepared(np.pad(cropped, padding), affine, (x, y, z))


def working_grid(grid: Volume) -> tuple[FloatArray, tuple[int, int, int]]:
    """A 2 mm grid that covers a volume: x to the right, y forwards, z upwards (RAS order)."""
    low, high = bounds(grid.affine, grid.shape)
    shape = np.maximum(1, np.ceil((high - low) / WORKING_MM - 1e-6)).astype(int)
    towards_ras = np.array([-1.0, -1.0, 1.0])
    affine = np.eye(4)
    affine[:3, :3] = np.diag(towards_ras * WORKING_MM)
    affine[:3, 3] = (low + high) / 2 - towards_ras * (shape - 1) * WORKING_MM / 2
    return affine, (int(shape[0]), int(shape[1]), int(shape[2]))


def z_score(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Zero mean and unit deviation over the non-zero voxels; zeros stay zero."""
    signal = values != 0
    if not signal.any():
        return values
    scored = values.copy()
    inside = values[signal]
    scored[signal] = (inside - inside.mean()) / max(float(inside.std(ddof=1)), 1e-6)
    return scored


def labels_on(
    grid: Volume, prepared: Prepared, probabilities: NDArray[np.float32], minimum_ml: float
) -> Labels:
    """Bring the three nested maps (TC, WT, ET) onto the grid and make labels of them.

    Only the box around voxels above 0.5 is resampled: interpolation cannot exceed its
    neighbours, and on a 1 mm grid the whole head costs seconds.
    """
    mapping = np.linalg.inv(prepared.affine) @ grid.affine
    maps = np.stack([low_pass(values, mapping) for values in probabilities])
    labels = np.zeros(grid.shape, np.uint8)
    box = _lesion_box(maps.max(axis=0) > 0.5, mapping, grid.shape)
    if box is None:
        return labels
    target = grid.affine.copy()
    target[:3, 3] = grid.place(np.array([[float(side.start) for side in box]]))[0]
    size = (box[0].stop - box[0].start, box[1].stop - box[1].start, box[2].stop - box[2].start)
    core, whole, enhancing = (
        resample(values, prepared.affine, target, size, smooth=False) > 0.5 for values in maps
    )
    whole = drop_small(whole, minimum_ml, grid.voxel_ml)
    inside = labels[box]
    inside[whole] = OEDEMA
    inside[whole & core] = NECROSIS
    inside[whole & enhancing] = ENHANCING
    return labels


def drop_small(mask: NDArray[np.bool_], minimum_ml: float, voxel_ml: float) -> NDArray[np.bool_]:
    """Without the face-connected parts below a volume: the filter the model was validated with."""
    parts, count = ndimage.label(mask)
    if not count:
        return mask
    sizes = np.bincount(parts.ravel(), minlength=count + 1) * voxel_ml
    keep = sizes >= minimum_ml
    keep[0] = False
    kept: NDArray[np.bool_] = keep[parts]
    return kept


def _lesion_box(
    lesion: NDArray[np.bool_], mapping: FloatArray, shape: tuple[int, int, int]
) -> tuple[slice, slice, slice] | None:
    """The box in the target grid that holds everything within one voxel of the lesion."""
    found = ndimage.find_objects(lesion.astype(np.uint8))
    if not found:
        return None
    ends = [(side.start - 1.0, float(side.stop)) for side in found[0]]
    corners = np.array([[i, j, k] for i in ends[0] for j in ends[1] for k in ends[2]])
    back = np.linalg.inv(mapping)
    places = corners @ back[:3, :3].T + back[:3, 3]
    low = np.clip(np.floor(places.min(axis=0)).astype(int), 0, None)
    high = np.minimum(np.ceil(places.max(axis=0)).astype(int) + 1, shape)
    if (high <= low).any():
        return None
    a, b, c = (slice(int(start), int(stop)) for start, stop in zip(low, high, strict=True))
    return a, b, c
