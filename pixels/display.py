"""Stored values to 8-bit grey or RGB as a display shows them (PS3.4 N.2, PS3.3 C.11)."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import (
    apply_color_lut,
    convert_color_space,
)

from pixels.decode import DAMAGE, Frame
from pixels.errors import NotDecodable

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]
Window = tuple[float, float, str]
# Bright vessels and coils would else make the rest of an MR image black.
_DARKEST, _BRIGHTEST = 0.5, 99.5
_SPECIFIC = ("PixelValueTransformationSequence", "FrameVOILUTSequence")


def frame_header(header: Dataset, number: int) -> Dataset:
    """The header with the frame's own rescale and window (enhanced multi-frame) on top."""
    groups = [header.get("SharedFunctionalGroupsSequence") or []]
    frames = header.get("PerFrameFunctionalGroupsSequence") or []
    groups.append(frames[number - 1 : number])
    merged = Dataset(header)
    for items in groups:
        for item in items:
            for name in _SPECIFIC:
                for inner in item.get(name) or []:
                    merged.update(inner)
    return merged


def displayed(header: Dataset, frame: Frame, window: Window | None) -> Bytes:
    """8-bit grey (rows, columns) or RGB (rows, columns, 3).

    Raises:
        NotDecodable: a palette does not fit the image.
    """
    photometric = frame.photometric
    if frame.pixels.ndim == 3:
        return _colour(frame.pixels, photometric, int(header.BitsStored))
    if photometric == "PALETTE COLOR":
        try:
            return _colour(apply_color_lut(frame.pixels, header), "RGB", 0)
        except DAMAGE as error:
            raise NotDecodable("the palette does not fit the image") from error
    grey = _grey(header, frame.pixels, window)
    shape = str(header.get("PresentationLUTShape", ""))
    inverse = shape == "INVERSE" if shape else photometric == "MONOCHROME1"
    return cast(Bytes, np.invert(grey)) if inverse else grey


def _colour(pixels: NDArray[Any], photometric: str, bits: int) -> Bytes:
    if photometric.startswith("YBR_FULL"):
        pixels = convert_color_space(pixels, photometric, "RGB")
    if pixels.dtype == np.uint8:
        return cast(Bytes, pixels)
    # Palettes of 16 bits and deep colour keep their upper eight bits.
    shift = max((bits or pixels.dtype.itemsize * 8) - 8, 0)
    clipped: NDArray[np.int64] = np.clip(pixels.astype(np.int64) >> shift, 0, 255)
    return clipped.astype(np.uint8)


def modality_values(header: Dataset, pixels: NDArray[Any]) -> Floats:
    """Values after the Modality LUT, or after rescale slope and intercept."""
    try:
        if header.get("ModalityLUTSequence"):
            return _through(header.ModalityLUTSequence[0], pixels.astype(np.float64))
        slope, intercept = header.get("RescaleSlope", 1), header.get("RescaleIntercept", 0)
        return pixels.astype(np.float64) * float(slope) + float(intercept)
    except DAMAGE:
        return pixels.astype(np.float64)


def _through(table: Dataset, values: Floats) -> Floats:
    """Values through a lookup table (PS3.3 C.11.1.1); outside of it its ends go on.

    Not pydicom's: that counts the entries of an 8-bit table in 8 bits.
    """
    count, first, bits = (int(one) for one in table.LUTDescriptor)
    count = count or 65536
    data = table.LUTData
    if isinstance(data, bytes):
        packed = bits <= 8 and len(data) < count * 2
        entries = np.frombuffer(data, "u1" if packed else "<u2")[:count]
    else:
        entries = np.asarray(data)[:count]
    if entries.size < count:
        raise ValueError("the lookup table is shorter than its descriptor says")
    index = np.clip(np.nan_to_num(values) - first, 0, count - 1).astype(np.int64)
    return entries[index].astype(np.float64)


def _grey(header: Dataset, pixels: NDArray[Any], window: Window | None) -> Bytes:
    values = modality_values(header, pixels)
    if window is not None:
        return _to_bytes(windowed(values, *window), 0.0, 1.0)
    if "WindowCenter" in header or "VOILUTSequence" in header:
        try:
            shown = _own_window(header, values)
        except DAMAGE:
            shown = None
        if shown is not None:
            return shown
    return _to_bytes(values, *_range_of(header, pixels, values))


def default_window(header: Dataset, pixels: NDArray[Any]) -> Window | None:
    """The window that an image without one of its own is shown with; None if it has one.

    Frames that follow each other are shown with the same.
    """
    if pixels.ndim == 3 or "WindowCenter" in header or "VOILUTSequence" in header:
        return None
    low, high = _range_of(header, pixels, modality_values(header, pixels))
    return ((low + high) / 2, high - low, "linear-exact") if high > low else None


def _range_of(header: Dataset, pixels: NDArray[Any], values: Floats) -> tuple[float, float]:
    """Darkest and brightest value to show: padding and the outermost values are left out."""
    good = np.isfinite(values)
    padding = header.get("PixelPaddingValue")
    if isinstance(padding, int):
        limit = header.get("PixelPaddingRangeLimit", padding)
        first, last = sorted((padding, limit if isinstance(limit, int) else padding))
        good &= (pixels < first) | (pixels > last)
    seen = values[good]
    if not seen.size:
        return 0.0, 0.0
    low, high = (float(v) for v in np.percentile(seen, (_DARKEST, _BRIGHTEST)))
    if not high > low:
        low, high = float(seen.min()), float(seen.max())
    return low, high


def _own_window(header: Dataset, values: Floats) -> Bytes | None:
    if header.get("VOILUTSequence"):
        table = header.VOILUTSequence[0]
        return _to_bytes(_through(table, values), 0.0, float(2 ** int(table.LUTDescriptor[2]) - 1))
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


def _to_bytes(values: Floats, low: float, high: float) -> Bytes:
    span = high - low
    if not span > 0:
        return np.zeros(values.shape, np.uint8)
    scaled = np.clip((np.nan_to_num(values, nan=low) - low) / span, 0.0, 1.0)
    return np.round(scaled * 255).astype(np.uint8)
