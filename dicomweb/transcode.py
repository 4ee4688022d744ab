"""Pixel data decoded: one frame, or a whole instance as Explicit VR Little Endian.

All of it runs in a decoder process (decoder.py). Sizes are checked before a decoder sees the
bytes: the data set may lie about a codestream, and a codestream of 60,000 x 60,000 costs 7 GB
to open.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.encaps import encapsulate, generate_frames
from pydicom.errors import InvalidDicomError
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicomweb.errors import NotRenderable
from dicomweb.media import EXPLICIT_LE, NATIVE

_FLOAT_KEYWORDS = ("FloatPixelData", "DoubleFloatPixelData")
# What the decoders (C libraries behind pydicom's plugins) raise on damaged data.
_DECODER_ERRORS = (ValueError, RuntimeError, KeyError, IndexError, AttributeError, OSError)


@dataclass(frozen=True)
class Frame:
    """One decoded frame: (rows, columns) or (rows, columns, 3), and how to read its colours."""

    pixels: NDArray[Any]
    photometric: str


def can_decode(transfer_syntax: str) -> bool:
    """Whether pixel data in this transfer syntax can become native here."""
    if transfer_syntax in NATIVE:
        return True
    try:
        return bool(get_decoder(UID(transfer_syntax)).is_available)
    except RuntimeError:  # pydicom: no decoder for this syntax
        return False


def read_header(path: Path) -> Dataset:
    """The data set of a stored file up to its pixel data.

    Raises:
        NotRenderable: pydicom cannot read it.
    """
    try:
        return dcmread(path, stop_before_pixels=True)
    except (InvalidDicomError, *_DECODER_ERRORS) as error:
        raise NotRenderable("the data set cannot be read") from error


def check_size(header: Dataset, limit: int) -> tuple[int, int]:
    """Rows and columns of a frame.

    Raises:
        NotRenderable: there is no image, its description is not valid, or it is too large.
    """
    try:
        rows, columns = int(header.Rows), int(header.Columns)
        samples, bits = int(header.SamplesPerPixel), int(header.BitsAllocated)
    except (AttributeError, TypeError, ValueError) as error:
        raise NotRenderable("the instance holds no image") from error
    if rows < 1 or columns < 1 or samples not in (1, 3) or bits not in (1, 8, 16, 32, 64):
        raise NotRenderable("the image description is not valid")
    if rows * columns * samples * max(bits, 8) // 8 > limit:
        raise NotRenderable("the image is larger than the limit")
    return rows, columns


def decode_frame(header: Dataset, data: bytes, transfer_syntax: str, limit: int) -> Frame:
    """One frame's pixels; `data` is native little endian or the frame's codestream.

    Raises:
        NotRenderable: too large, damaged, or no decoder knows it.
    """
    rows, columns = check_size(header, limit)
    one = Dataset()
    for element in header.group_dataset(0x0028):
        one.add(element)
    one.NumberOfFrames = 1
    syntax = UID(EXPLICIT_LE if transfer_syntax in NATIVE else transfer_syntax)
    if syntax == EXPLICIT_LE:
        one.PixelData = data + b"\0" * (len(data) % 2)
    else:
        check_codestream(data, rows, columns)
        one.PixelData = encapsulate([data])
        one["PixelData"].is_undefined_length = True
    one["PixelData"].VR = "OW" if one.BitsAllocated > 8 else "OB"
    try:
        decoder = get_decoder(syntax)
        pixels, properties = decoder.as_array(one, index=0, raw=True)
    except _DECODER_ERRORS as error:
        raise NotRenderable(f"the pixel data cannot be decoded ({type(error).__name__})") from error
    return Frame(pixels, str(properties["photometric_interpretation"]))


def native_frame(path: Path, transfer_syntax: str, data: bytes, limit: int) -> bytes:
    """One compressed frame as Explicit VR Little Endian holds it.

    Raises:
        NotRenderable: as `decode_frame`.
    """
    pixels = decode_frame(read_header(path), data, transfer_syntax, limit).pixels
    return bytes(pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes())


def explicit_little_endian(path: Path, limit: int) -> bytes:
    """A stored instance as a Part 10 file in Explicit VR Little Endian.

    Raises:
        NotRenderable: it cannot be decoded, or would be larger than `limit` bytes.
    """
    try:
        dataset = dcmread(path)
        _make_native(dataset, limit)
        target = BytesIO()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dcmwrite(target, dataset, implicit_vr=False, little_endian=True, enforce_file_format=True)
    except (InvalidDicomError, *_DECODER_ERRORS) as error:
        raise NotRenderable(f"the instance cannot be decoded ({type(error).__name__})") from error
    return target.getvalue()


def _make_native(dataset: Dataset, limit: int) -> None:
    syntax = UID(str(dataset.file_meta.TransferSyntaxUID))
    if "PixelData" not in dataset:
        return
    if syntax in NATIVE:
        if not syntax.is_little_endian and int(dataset.BitsAllocated) > 8:
            words = np.frombuffer(dataset.PixelData, dtype=f">u{int(dataset.BitsAllocated) // 8}")
            dataset.PixelData = words.astype(words.dtype.newbyteorder("<")).tobytes()
        return
    rows, columns = check_size(dataset, limit)
    frames = int(dataset.get("NumberOfFrames") or 1)
    size = rows * columns * int(dataset.SamplesPerPixel) * int(dataset.BitsAllocated) // 8
    if size * frames > limit:
        raise NotRenderable("the decompressed instance is larger than the limit")
    for codestream in generate_frames(dataset.PixelData, number_of_frames=frames):
        check_codestream(codestream, rows, columns)
    dataset.decompress(generate_instance_uid=False)


def check_codestream(data: bytes, rows: int, columns: int) -> None:
    """Refuse a codestream whose own header claims more pixels than the data set does.

    Raises:
        NotRenderable: it does.
    """
    size = codestream_size(data)
    if size is not None and size[0] * size[1] > rows * columns:
        raise NotRenderable("the compressed image is larger than the data set says")


def codestream_size(data: bytes) -> tuple[int, int] | None:
    """Rows and columns that a JPEG, JPEG-LS or JPEG 2000 header claims; None if it has none."""
    position = data.find(b"\xff\x4f\xff\x51", 0, 4096)  # SOC SIZ, perhaps inside a JP2 file
    if position >= 0 and len(data) >= position + 24:
        width, height, left, top = (
            int.from_bytes(data[position + at : position + at + 4], "big") for at in (8, 12, 16, 20)
        )
        return max(height - top, 0), max(width - left, 0)
    if not data.startswith(b"\xff\xd8"):
        return None
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            rows = int.from_bytes(data[position + 5 : position + 7], "big")
            return rows, int.from_bytes(data[position + 7 : position + 9], "big")
        if marker == 0xFF:
            position += 1
            continue
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None
