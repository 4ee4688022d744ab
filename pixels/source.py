"""A Part 10 file opened for transcoding: header, where its pixel data lie, what follows them.

The pixel data are never in memory as a whole: a file may be larger than that.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset, FileDataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.filereader import read_dataset

from pixels.decode import DAMAGE
from pixels.errors import NotDecodable
from pixels.inflate import open_plain

_PIXEL_GROUP = 0x7FE0
_KEYWORDS = {0x0008: "FloatPixelData", 0x0009: "DoubleFloatPixelData", 0x0010: "PixelData"}
_UNDEFINED = 0xFFFFFFFF
_ITEM, _DELIMITER = 0xE000, 0xE0DD


@dataclass(frozen=True)
class PixelElement:
    """Where the value of the pixel data element lies; `end` is the first byte after it."""

    keyword: str
    vr: str
    offset: int
    end: int
    encapsulated: bool


@dataclass(frozen=True)
class Source:
    """An open file: the data set before its pixel data, those data, and the elements behind."""

    file: BinaryIO
    header: FileDataset
    syntax: str
    little: bool
    pixels: PixelElement | None
    after: Dataset

    def frames(self, count: int) -> Iterator[bytes]:
        """The codestreams of encapsulated pixel data.

        Raises:
            NotDecodable: they cannot be told apart, or are not `count`.
        """
        assert self.pixels is not None  # noqa: S101 - asked for only where there are some
        self.file.seek(self.pixels.offset)
        offsets = self.header.get("ExtendedOffsetTable")
        lengths = self.header.get("ExtendedOffsetTableLengths")
        extended = (offsets, lengths) if offsets and lengths else None
        number = 0
        try:
            for frame in generate_frames(
                self.file, number_of_frames=count, extended_offsets=extended
            ):
                number += 1
                if number > count:
                    break
                yield frame
        except DAMAGE as error:
            raise NotDecodable("the frames cannot be told apart") from error
        if number != count:
            raise NotDecodable("there are not as many frames as NumberOfFrames says")


def open_source(path: Path, limit: int) -> Source:
    """Open and read what surrounds the pixel data.

    Raises:
        NotDecodable: it is no DICOM file, or is damaged.
        TooLarge: it inflates to more than `limit` bytes.
    """
    try:
        file, syntax = open_plain(path, limit)
        header = dcmread(file, stop_before_pixels=True)
        implicit, little = header.original_encoding
        if implicit is None or little is None:
            raise NotDecodable("the encoding of the data set is not known")
        pixels = _pixel_element(file, implicit, little)
        after = Dataset()
        if pixels is not None:
            file.seek(pixels.end)
            after = read_dataset(file, implicit, little)
    except DAMAGE as error:
        raise NotDecodable("the data set cannot be read") from error
    return Source(file, header, syntax, little, pixels, after)


def _pixel_element(file: BinaryIO, implicit: bool, little: bool) -> PixelElement | None:
    """The element at which pydicom has stopped; None at the end of the file."""
    order = "<" if little else ">"
    head = file.read(4)
    if not head:
        return None
    group, element = struct.unpack(f"{order}HH", head)
    if group != _PIXEL_GROUP or element not in _KEYWORDS:
        return None
    vr = "OW" if implicit else file.read(4)[:2].decode("ascii", "replace")
    (length,) = struct.unpack(f"{order}L", file.read(4))
    offset = file.tell()
    size = file.seek(0, 2)
    if length == _UNDEFINED:
        end = _end_of_items(file, offset, size)
        return PixelElement(_KEYWORDS[element], vr, offset, end, True)
    if offset + length > size:
        raise NotDecodable("the file ends inside of its pixel data")
    return PixelElement(_KEYWORDS[element], vr, offset, offset + length, False)


def _end_of_items(file: BinaryIO, position: int, size: int) -> int:
    """Position behind the delimiter of encapsulated pixel data; they are little endian always."""
    while position + 8 <= size:
        file.seek(position)
        group, element, length = struct.unpack("<HHL", file.read(8))
        position += 8
        if group != 0xFFFE or element not in (_ITEM, _DELIMITER):
            break
        if element == _DELIMITER:
            return position
        position += length
    raise NotDecodable("the file ends inside of its pixel data")
