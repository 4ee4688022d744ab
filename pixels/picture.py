"""A frame as it should look on a display, as JPEG or PNG (PS3.4 N.2, PS3.3 C.11.2).

Runs in a decoder process: see worker.py.
"""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.pixels.processing import (
    apply_color_lut,
    apply_modality_lut,
    apply_voi_lut,
    convert_color_space,
)

from pixels.decode import Frame, decode_frame, read_header
from pixels.errors import BadParameter, NotDecodable
from pixels.rendering import Rendering

_VOI_ERRORS = (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError)

Floats = NDArray[np.float64]


def picture_of(
    path: Path,
    transfer_syntax: str,
    data: bytes,
    number: int,
    wanted: Rendering,
    form: Literal["jpeg", "png"],
    limit: int,
) -> bytes:
    """One frame, the bytes of which are `data`, as an encoded picture.

    Raises:
        NotDecodable: it cannot be decoded.
        BadParameter: the region asked for lies outside of the image.
    """
    header = frame_header(read_header(path), number)
    frame = decode_frame(header, data, transfer_syntax, limit)
    image = Image.fromarray(displayed(header, frame, wanted.window))
    if wanted.region is not None:
        left, top, width, height = wanted.region
        box = (left, top, left + (width or image.width), top + (height or image.height))
        box = (max(box[0], 0), max(box[1], 0), min(box[2], image.width), min(box[3], image.height))
        if box[0] >= box[2] or box[1] >= box[3]:
            raise BadParameter("the viewport's region lies outside of the image")
        image = image.crop(cast(tuple[int, int, int, int], tuple(round(edge) for edge in box)))
    if wanted.size is not None:
        scale = min(wanted.size[0] / image.width, wanted.size[1] / image.height)
        size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
        image = image.resize(size, Image.Resampling.BILINEAR)
    target = BytesIO()
    if form == "jpeg":
        image.save(target, "JPEG", quality=wanted.quality)
    else:
        image.save(target, "PNG", compress_level=3)
    return target.getvalue()


def frame_header(header: Dataset, number: int) -> Dataset:
    """The header with the frame's own rescale and window (enhanced multi-frame) on top."""
    groups = [header.get("SharedFunctionalGroupsSequence") or []]
    frames = header.get("PerFrameFunctionalGroupsSequence") or []
    groups.append(frames[number - 1 : number])
    for items in groups:
        for item in items:
            for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
                for inner in item.get(name) or []:
                    header.update(inner)
    return header


def displayed(
    header: Dataset, frame: Frame, window: tuple[float, float, str] | None
) -> NDArray[np.uint8]:
    """8-bit grey or RGB as it should look on a display."""
    photometric = frame.photometric
    if frame.pixels.ndim == 3:
        return _colour(frame.pixels, photometric, int(header.BitsStored))
    if photometric == "PALETTE COLOR":
        try:
            return _colour(apply_color_lut(frame.pixels, header), "RGB", 0)
        except _VOI_ERRORS as error:
            raise NotDecodable("the palette does not fit the image") from error
    grey = _grey(header, frame.pixels, window)
    shape = str(header.get("PresentationLUTShape", ""))
    inverse = shape == "INVERSE" if shape else photometric == "MONOCHROME1"
    return cast("NDArray[np.uint8]", np.invert(grey)) if inverse else grey


def _colour(pixels: NDArray[Any], photometric: str, bits: int) -> NDArray[np.uint8]:
    if photometric.startswith("YBR_FULL"):
        pixels = convert_color_space(pixels, photometric, "RGB")
    if pixels.dtype == np.uint8:
        return cast("NDArray[np.uint8]", pixels)
    # Palettes of 16 bits and deep colour keep their upper eight bits.
    shift = max((bits or pixels.dtype.itemsize * 8) - 8, 0)
    clipped: NDArray[np.int64] = np.clip(pixels.astype(np.int64) >> shift, 0, 255)
    return clipped.astype(np.uint8)


def _grey(
    header: Dataset, pixels: NDArray[Any], window: tuple[float, float, str] | None
) -> NDArray[np.uint8]:
    try:
        values = np.asarray(apply_modality_lut(pixels, header), dtype=np.float64)
    except _VOI_ERRORS:
        values = pixels.astype(np.float64)
    if window is not None:
        return _to_bytes(windowed(values, *window), 0.0, 1.0)
    if "WindowCenter" in header or "VOILUTSequence" in header:
        try:
            shown = _own_window(header, values)
        except _VOI_ERRORS:
            shown = None
        if shown is not None:
            return shown
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    return _to_bytes(values, low, high)


def _own_window(header: Dataset, values: Floats) -> NDArray[np.uint8] | None:
    if header.get("VOILUTSequence"):
        shown = np.asarray(apply_voi_lut(values.astype(np.int64), header), dtype=np.float64)
        return _to_bytes(shown, float(shown.min()), float(shown.max()))
    centre, width = _first(header.WindowCenter), _first(header.WindowWidth)
    if not (math.isfinite(centre) and math.isfinite(width)) or width <= 0:
        return None
    function = str(header.get("VOILUTFunction") or "LINEAR").lower().replace("_", "-")
    return _to_bytes(windowed(values, centre, width, function), 0.0, 1.0)


def _first(value: Any) -> float:
    return float(value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value)


def windowed(values: Floats, centre: float, width: float, function: str) -> Floats:
    """Values through a window, to 0..1 (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    if function == "sigmoid":
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -700, 700)))
    if function == "linear-exact":
        return np.clip((values - centre) / width + 0.5, 0.0, 1.0)
    if width <= 1:
        return np.where(values <= centre - 0.5, 0.0, 1.0)
    return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0.0, 1.0)


def _to_bytes(values: Floats, low: float, high: float) -> NDArray[np.uint8]:
    span = high - low
    if not span > 0:
        return np.zeros(values.shape, np.uint8)
    scaled = np.clip((np.nan_to_num(values, nan=low) - low) / span, 0.0, 1.0)
    return np.round(scaled * 255).astype(np.uint8)
