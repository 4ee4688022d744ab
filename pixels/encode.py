"""One frame compressed without loss; each result is decoded again and compared before it is used.

Runs in a decoder process (worker.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from pixels.decode import DAMAGE, check_size, decode_frame, description, read_header
from pixels.errors import NotDecodable, NotPossible
from pixels.syntaxes import HTJ2K, JPEG_2000, JPEG_LS, NATIVE, RLE

Values = NDArray[Any]
_WAVELET_SIZE = 64


def native_values(header: Dataset, data: bytes, limit: int) -> Values:
    """Native little endian bytes of one frame as (rows, columns) or (rows, columns, 3).

    Not by pydicom's decoder: that clears the bits above BitsStored, which may hold something.

    Raises:
        NotPossible: bits are packed, or samples are left out (4:2:2).
        NotDecodable: the data are too short.
    """
    rows, columns = check_size(header, limit)
    bits, samples = int(header.BitsAllocated), int(header.get("SamplesPerPixel", 1))
    if bits < 8 or "422" in str(header.PhotometricInterpretation):
        raise NotPossible("pixel data of this kind are not compressed")
    kind = "i" if header.get("PixelRepresentation") == 1 else "u"
    values = np.frombuffer(data, f"<{kind}{bits // 8}")
    if values.size < rows * columns * samples:
        raise NotDecodable("the pixel data are shorter than the data set says")
    values = values[: rows * columns * samples]
    if samples == 1:
        return values.reshape(rows, columns)
    if header.get("PlanarConfiguration") == 1:
        return np.ascontiguousarray(values.reshape(samples, rows, columns).transpose(1, 2, 0))
    return values.reshape(rows, columns, samples)


def encode_frame(header: Dataset, values: Values, target: str, limit: int) -> bytes:
    """One frame in the `target` transfer syntax; `header` describes `values`.

    Raises:
        NotPossible: it would not come back as it is.
    """
    stored = int(header.BitsStored)
    if not _fits(values, stored):
        raise NotPossible("the bits above BitsStored hold something")
    try:
        data = _ENCODERS[target](header, _fitting(values, stored), stored)
        again = decode_frame(encoded_header(header, target), data, target, limit).pixels
    except (*DAMAGE, NotDecodable) as error:
        raise NotPossible(f"the encoder cannot take this image ({type(error).__name__})") from error
    if not np.array_equal(again, values):
        raise NotPossible("the pixel values would not all be kept")
    return data


def encoded_photometric(photometric: str, target: str) -> str:
    """PhotometricInterpretation after compression."""
    turned = photometric == "RGB" and target in (JPEG_2000, HTJ2K)
    return "YBR_RCT" if turned else photometric


def encoded_header(header: Dataset, target: str) -> Dataset:
    """The description of the compressed form."""
    new = description(header)
    new.PhotometricInterpretation = encoded_photometric(
        str(header.PhotometricInterpretation), target
    )
    if int(header.get("SamplesPerPixel", 1)) > 1:
        # RLE keeps the colours apart (PS3.5 8.2.2); the others have their own order.
        new.PlanarConfiguration = 1 if target == RLE else 0
    return new


def _fits(values: Values, stored: int) -> bool:
    low, high = (
        (-(1 << (stored - 1)), 1 << (stored - 1)) if values.dtype.kind == "i" else (0, 1 << stored)
    )
    return bool(values.min() >= low and values.max() < high)


def _fitting(values: Values, stored: int) -> Values:
    """In the smallest whole number of bytes that BitsStored needs, as the codecs want it."""
    size = next(n for n in (1, 2, 4, 8) if stored <= n * 8)
    return np.ascontiguousarray(values.astype(f"<{values.dtype.kind}{size}", copy=False))


def _rle(header: Dataset, values: Values, _stored: int) -> bytes:
    from rle.utils import encode_pixel_data

    size = int(header.BitsAllocated) // 8
    data = values.astype(f"<{values.dtype.kind}{size}", copy=False).tobytes()
    return bytes(encode_pixel_data(data, None, "<", **_shape(values), bits_allocated=size * 8))


def _jpeg_ls(_header: Dataset, values: Values, stored: int) -> bytes:
    from jpeg_ls import encode_pixel_data  # type: ignore[import-untyped]

    colours = {"planar_configuration": 0} if values.ndim == 3 else {}
    data = values.tobytes()
    return bytes(encode_pixel_data(data, 0, bits_stored=stored, **_shape(values), **colours))


def _jpeg_2000(header: Dataset, values: Values, stored: int) -> bytes:
    from imagecodecs import jpeg2k_encode  # pylibjpeg's encoder takes no small images

    return bytes(
        jpeg2k_encode(
            values,
            level=0,
            codecformat="J2K",
            bitspersample=stored,
            reversible=True,
            resolutions=6 if min(values.shape[:2]) >= _WAVELET_SIZE else 1,
            mct=str(header.PhotometricInterpretation) == "RGB",
            numthreads=1,
        )
    )


def _htj2k(header: Dataset, values: Values, _stored: int) -> bytes:
    from imagecodecs import htj2k_encode  # only where it is needed: it loads slowly

    rgb = str(header.PhotometricInterpretation) == "RGB"
    return bytes(htj2k_encode(values, reversible=True, rgb=rgb if values.ndim == 3 else None))


def _shape(values: Values) -> dict[str, int]:
    samples = values.shape[2] if values.ndim == 3 else 1
    return {"rows": values.shape[0], "columns": values.shape[1], "samples_per_pixel": samples}


_ENCODERS: dict[str, Callable[[Dataset, Values, int], bytes]] = {
    RLE: _rle,
    JPEG_LS: _jpeg_ls,
    JPEG_2000: _jpeg_2000,
    HTJ2K: _htj2k,
}


def compressed_frame(path: Path, source: str, target: str, data: bytes, limit: int) -> bytes:
    """One frame of the file at `path` in the `target` transfer syntax.

    Args:
        data: the frame as it is stored in `source`; native data in little endian.

    Raises:
        NotDecodable, NotPossible, TooLarge: as `decode_frame` and `encode_frame`.
    """
    header = description(read_header(path))
    if source in NATIVE:
        return encode_frame(header, native_values(header, data, limit), target, limit)
    frame = decode_frame(header, data, source, limit)
    if frame.pixels.ndim == 3:
        header.PhotometricInterpretation = frame.photometric.removesuffix("_422")
        header.PlanarConfiguration = 0
    return encode_frame(header, frame.pixels, target, limit)
