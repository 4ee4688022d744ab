"""Key images: slices of the reference series with the regions drawn in, as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from inference import terms
from inference.measure import LABELS, Labels, Mask
from inference.volume import Volume

IMAGES = 3
WIDTH = 512  # pixels; slices are enlarged to about this
OPACITY = 0.35
MARGIN, MARKER = 8, 28  # of the side markers: distance from the edge and height, in pixels
BRIGHT, DARK = 99.5, 0.5  # percentiles of the signal that become white and black


@dataclass(frozen=True, slots=True)
class KeyImage:
    """One picture. `slice_index` counts from 0; `overlay` says whether regions are drawn."""

    slice_index: int
    sop_instance_uid: str
    overlay: bool
    png: bytes
    width: int
    height: int


def key_images(labels: Labels, grid: Volume) -> list[KeyImage]:
    """Three slices through the largest lesion, or through the middle where there is none."""
    low, high = _window(grid.voxels)
    return [_key_image(index, labels[index], grid, low, high) for index in key_slices(labels)]


def key_slices(labels: Labels) -> list[int]:
    """Indices of at most three slices, in order.

    The one with the most lesion, and those half way to either end of the largest lesion.
    """
    parts, count = ndimage.label(labels > 0, structure=np.ones((3, 3, 3), dtype=np.int8))
    if not count:
        slices = labels.shape[0]
        return sorted({slices * part // 8 for part in (3, 4, 5)})
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    areas = (parts == int(sizes.argmax())).sum(axis=(1, 2))
    present = np.flatnonzero(areas)
    most = int(areas.argmax())
    return sorted({(int(present[0]) + most) // 2, most, (most + int(present[-1]) + 1) // 2})


def _key_image(
    index: int, labels: NDArray[np.uint8], grid: Volume, low: float, high: float
) -> KeyImage:
    grey = np.clip((grid.voxels[index] - low) / (high - low), 0, 1) * 255
    picture = np.repeat(grey[..., None], 3, axis=2)
    factor = max(1, round(WIDTH / max(grey.shape)))
    _, rows_mm, columns_mm = grid.spacing
    height = round(grey.shape[0] * factor * max(1.0, rows_mm / columns_mm))
    width = round(grey.shape[1] * factor * max(1.0, columns_mm / rows_mm))
    base = Image.fromarray(picture.round().astype(np.uint8), "RGB")
    large = np.asarray(base.resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    drawn = np.asarray(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST))
    for region in terms.SEGMENTED:
        _draw(large, np.isin(drawn, LABELS[region]), terms.REGIONS[region].colour)
    finished = Image.fromarray(large.round().astype(np.uint8), "RGB")
    _mark_sides(finished, side_markers(grid))
    buffer = BytesIO()
    finished.save(buffer, "PNG", optimize=False)
    source = grid.sources[min(index, len(grid.sources) - 1)]
    return KeyImage(
        index, str(source.SOPInstanceUID), bool(labels.any()), buffer.getvalue(), width, height
    )


def _draw(picture: NDArray[np.float64], mask: Mask, colour: Sequence[int]) -> None:
    """Tint a region and line its edge, in place."""
    if not mask.any():
        return
    tint = np.asarray(colour, dtype=float)
    edge = mask & ~ndimage.binary_erosion(mask, iterations=2)
    picture[mask] = (1 - OPACITY) * picture[mask] + OPACITY * tint
    picture[edge] = tint


def side_markers(grid: Volume) -> dict[str, str]:
    """The patient's side at each edge of a slice: `left`, `right`, `top`, `bottom` to R or L.

    From the orientation of the images alone. Empty where no edge faces a side (sagittal slices).
    """
    directions = grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0)
    leftward = directions[0]  # LPS: how far a step along (slices, rows, columns) goes to the left
    axis = int(np.abs(leftward).argmax())
    if axis == 0:
        return {}
    low, high = ("R", "L") if leftward[axis] > 0 else ("L", "R")
    edges = ("top", "bottom") if axis == 1 else ("left", "right")
    return dict(zip(edges, (low, high), strict=True))


def _mark_sides(picture: Image.Image, markers: Mapping[str, str]) -> None:
    """Burn the side markers into the edges of a picture, in place."""
    width, height = picture.size
    places = {
        "left": ((MARGIN, height // 2), "lm"),
        "right": ((width - MARGIN, height // 2), "rm"),
        "top": ((width // 2, MARGIN), "mt"),
        "bottom": ((width // 2, height - MARGIN), "mb"),
    }
    font = ImageFont.load_default(MARKER)
    for edge, letter in markers.items():
        place, anchor = places[edge]
        ImageDraw.Draw(picture).text(
            place, letter, "white", font, anchor, stroke_width=2, stroke_fill="black"
        )


def _window(voxels: NDArray[np.float32]) -> tuple[float, float]:
    signal = voxels[voxels != 0]
    if not signal.size:
        return 0.0, 1.0
    low, high = np.percentile(signal, [DARK, BRIGHT])
    low = min(float(low), 0.0) if float(voxels.min()) >= 0 else float(low)
    return low, max(float(high), low + 1e-6)
