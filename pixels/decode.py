"""One frame decoded to an array of its values. Runs in a decoder process (worker.py)."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from pixels.codestream import check_codestream
from pixels.errors import NotDecodable, TooLarge
from pixels.inflate import open_plain
from pixels.syntaxes import EXPLICIT_LE, JPEG_XL, JPEG_XL_JPEG, JPEG_XL_LOSSLESS, NATIVE

# What pydicom and the C libraries behind its plugins raise on damaged data.
DAMAGE = (
    ValueError,
    TypeError,
    RuntimeError,
    KeyError,
    IndexError,
    AttributeError,
    OSError,
    EOFError,
    ArithmeticError,
    InvalidDicomError,
    BytesLengthException,
)
INFLATED_HEADER = 512 * 1024 * 1024
_JPEG_XL = frozenset({JPEG_XL_LOSSLESS, JPEG_XL_JPEG, JPEG_XL})
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"


@dataclass(frozen=True)
class Frame:
    """One decoded frame: (rows, columns) or (rows, columns, 3), and how to read its colours."""

    pixels: NDArray[Any]
    photometric: str


def read_header(path: Path) -> Dataset:
    """The data set of a stored file up to its pixel data.

    Raises:
        NotDecodable: pydicom cannot read it.
    """
    state = path.stat()
    # The caller may change what it gets, so the kept one is copied; its sequences are not.
    return Dataset(_header(path, state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=4)
def _header(path: Path, _mtime_ns: int, _size: int) -> Dataset:
    """Kept: a viewer asks for one frame of a large multi-frame instance after the other."""
    try:
        file, _ = open_plain(path, INFLATED_HEADER)
        with file:
            return dcmread(file, stop_before_pixels=True)
    except DAMAGE as error:
        raise NotDecodable("the data set cannot be read") from error


def description(header: Dataset) -> Dataset:
    """A copy of the attributes that describe the pixels; to set one in `Dataset(header)` would
    change the element that both share.
    """
    return deepcopy(header.group_dataset(0x0028))


def check_size(header: Dataset, limit: int) -> tuple[int, int]:
    """Rows and columns of a frame.

    Raises:
        NotDecodable: there is no image, or its description is not valid.
        TooLarge: a frame would take more than `limit` bytes.
    """
    try:
        rows, columns = int(header.Rows), int(header.Columns)
        samples, bits = int(header.get("SamplesPerPixel", 1)), int(header.BitsAllocated)
    except DAMAGE as error:
        raise NotDecodable("the instance holds no image") from error
    if not (1 <= rows <= 65535 and 1 <= columns <= 65535):
        raise NotDecodable("Rows or Columns is not a number from 1 to 65535")
    if samples not in (1, 3) or bits not in (1, 8, 16, 32, 64):
        raise NotDecodable("the image description is not valid")
    if rows * columns * samples * max(bits, 8) // 8 > limit:
        raise TooLarge("the image is larger than the limit")
    return rows, columns


def decode_frame(header: Dataset, data: bytes, transfer_syntax: str, limit: int) -> Frame:
    """One frame's values; `data` is native little endian or the frame's codestream.

    Raises:
        NotDecodable: damaged, or no decoder knows it.
        TooLarge: larger than `limit` bytes, or than the data set says.
    """
    rows, columns = check_size(header, limit)
    one = Dataset()
    for element in header.group_dataset(0x0028):
        one.add(element)
    one.NumberOfFrames = 1
    native = transfer_syntax in NATIVE
    if not native:
        check_codestream(data, transfer_syntax, rows, columns)
    if transfer_syntax in _JPEG_XL or (transfer_syntax == _JPEG_EXTENDED and _is_deep(one)):
        return _by_imagecodecs(one, data, transfer_syntax)
    if native:
        one.PixelData = data + b"\0" * (len(data) % 2)
    else:
        one.PixelData = encapsulate([data])
        one["PixelData"].is_undefined_length = True
    one["PixelData"].VR = "OW" if one.BitsAllocated > 8 else "OB"
    try:
        decoder = get_decoder(UID(EXPLICIT_LE if native else transfer_syntax))
        pixels, properties = decoder.as_array(one, index=0, raw=True)
    except DAMAGE as error:
        raise NotDecodable(f"the pixel data cannot be decoded ({type(error).__name__})") from error
    return Frame(pixels, str(properties["photometric_interpretation"]))


def _is_deep(header: Dataset) -> bool:
    return int(header.get("BitsStored") or 0) > 8 and int(header.get("SamplesPerPixel", 1)) == 1


def _by_imagecodecs(header: Dataset, data: bytes, transfer_syntax: str) -> Frame:
    """What no decoder behind pydicom takes: JPEG XL, and JPEG of twelve bits."""
    import imagecodecs  # only where it is needed: it loads slowly

    try:
        if transfer_syntax in _JPEG_XL:
            pixels = np.asarray(imagecodecs.jpegxl_decode(data, numthreads=1))
        else:
            pixels = np.asarray(imagecodecs.jpeg8_decode(data))
    except DAMAGE as error:
        raise NotDecodable(f"the pixel data cannot be decoded ({type(error).__name__})") from error
    samples = int(header.get("SamplesPerPixel", 1))
    size = (int(header.Rows), int(header.Columns))
    if pixels.shape != (size if samples == 1 else (*size, samples)):
        raise NotDecodable("the compressed image is not of the size that the data set says")
    if header.get("PixelRepresentation") == 1:
        pixels = pixels.view(pixels.dtype.str.replace("u", "i"))
    return Frame(pixels, "RGB" if samples == 3 else str(header.PhotometricInterpretation))


def native_bytes(header: Dataset, pixels: NDArray[Any]) -> bytes:
    """Values as Explicit VR Little Endian holds them."""
    if int(header.BitsAllocated) == 1:
        return np.packbits(pixels.astype(np.uint8).ravel(), bitorder="little").tobytes()
    kind = pixels.dtype.kind
    size = int(header.BitsAllocated) // 8 if kind in "ui" else pixels.dtype.itemsize
    return pixels.astype(f"<{kind}{size}", copy=False).tobytes()


def native_frame(path: Path, transfer_syntax: str, data: bytes, limit: int) -> bytes:
    """One compressed frame as Explicit VR Little Endian holds it.

    Raises:
        NotDecodable, TooLarge: as `decode_frame`.
    """
    header = read_header(path)
    return native_bytes(header, decode_frame(header, data, transfer_syntax, limit).pixels)
