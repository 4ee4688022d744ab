"""The structure of a DICOM Part 10 file: where each element lies, without reading its value.

The walk is bounded: nesting, number of elements and inflated size have limits, so that a hostile
file costs a refusal and nothing more. It looks at the file through a memory map and steps over
pixel data.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from archive.config import ArchiveConfig
from archive.dictionary import dictionary_vr, implicit_vr
from archive.errors import NotDicom, TooComplex, Truncated

Buffer = mmap.mmap | bytes

PREAMBLE = 128
UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXEL_REPRESENTATION = 0x00280103
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
# The GE private syntax has big-endian pixels in an otherwise implicit little-endian data set.
PRIVATE_IMPLICIT = "1.2.840.113619.5.2"
DEFLATED = frozenset(
    {"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"}
)
LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())


class Element(NamedTuple):
    """One element: `items` of a sequence or `fragments` (offset, length) of encapsulated data."""

    vr: str
    offset: int
    length: int
    little: bool
    items: list[Level] | None = None
    fragments: list[tuple[int, int]] | None = None


Level = dict[int, Element]


class Part10(NamedTuple):
    """A parsed file: `buffer` holds the data set as walked (inflated if it was deflated)."""

    buffer: Buffer
    transfer_syntax: str
    data_set_start: int
    elements: Level


@contextmanager
def open_part10(path: Path, config: ArchiveConfig) -> Iterator[Part10]:
    """The structure of the file at `path`, valid while the context is open.

    Raises:
        NotDicom: no Part 10 header, or the bytes make no sense as elements.
        Truncated: an element reaches past the end of the file.
        TooComplex: a limit of `config` is passed.
    """
    with path.open("rb") as file:
        try:
            view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise NotDicom("the file is empty") from error
        with view:
            yield parse(view, config)


def parse(view: Buffer, config: ArchiveConfig) -> Part10:
    """The structure of a whole file that is in memory or mapped; raises as `open_part10`."""
    syntax, start = _file_meta(view)
    if syntax in DEFLATED:
        buffer: Buffer = inflate(view, start, config.inflate_limit_bytes)
        elements = Walk(buffer, config).data_set(0, syntax)
    else:
        buffer = view
        elements = Walk(view, config).data_set(start, syntax)
    return Part10(buffer, syntax, start, elements)


def data_set_start(beginning: bytes) -> int:
    """Offset of the data set, from the beginning of a file; raises as `open_part10` does."""
    return _file_meta(beginning)[1]


def _file_meta(view: Buffer) -> tuple[str, int]:
    """Transfer syntax and the offset at which the data set begins (PS3.10 section 7.1)."""
    if view[PREAMBLE : PREAMBLE + 4] != b"DICM":
        raise NotDicom("the file has no DICM prefix")
    position, syntax, end = PREAMBLE + 4, "", len(view)
    while position + 8 <= end:
        group, element = struct.unpack_from("<HH", view, position)
        if group != 2:
            break
        vr = view[position + 4 : position + 6]
        if vr in LONG_VRS:
            if position + 12 > end:
                raise Truncated("the file ends inside its meta information")
            (length,) = struct.unpack_from("<L", view, position + 8)
            value = position + 12
        else:
            (length,) = struct.unpack_from("<H", view, position + 6)
            value = position + 8
        if value + length > end:
            raise Truncated("the file ends inside its meta information")
        if element == 0x0010:
            syntax = view[value : value + length].rstrip(b"\0 ").decode("ascii", "replace")
        position = value + length
    if not syntax:
        raise NotDicom("the file meta information names no transfer syntax")
    return syntax, position


def inflate(view: Buffer, start: int, limit: int) -> bytes:
    """The data set of a deflated file, at most `limit` bytes of it (PS3.5 A.5)."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(view[start:], limit + 1)
    except zlib.error as error:
        raise NotDicom("the deflated data set cannot be inflated") from error
    if len(data) > limit:
        raise TooComplex(f"the deflated data set is larger than {limit} bytes")
    if not inflater.eof:
        raise Truncated("the deflated data set ends early")
    return data


class Walk:
    """One pass over a data set; counts what it meets against the limits."""

    def __init__(self, buffer: Buffer, config: ArchiveConfig) -> None:
        self._buffer = buffer
        self._end = len(buffer)
        self._depth_limit = config.depth_limit
        self._budget = config.element_limit
        self._signed = False

    def data_set(self, start: int, syntax: str) -> Level:
        """Elements of the whole data set in the encoding of its transfer syntax."""
        implicit = syntax in (IMPLICIT_LITTLE, PRIVATE_IMPLICIT)
        return self._level(start, self._end, implicit, syntax != EXPLICIT_BIG, 0)[0]

    def _level(
        self,
        position: int,
        end: int,
        implicit: bool,
        little: bool,
        depth: int,
        delimited: bool = False,
    ) -> tuple[Level, int]:
        """Elements up to `end`, or up to the delimiter that must come before it."""
        if depth > self._depth_limit:
            raise TooComplex(f"sequences are nested more than {self._depth_limit} deep")
        elements: Level = {}
        creators: dict[int, str] = {}
        order = "<" if little else ">"
        implicit = self._is_implicit(position, end, implicit, order)
        read_tag = struct.Struct(order + "HH")
        while position < end:
            if end - position < 8:
                return self._padding(elements, position, end, depth)
            group, number = read_tag.unpack_from(self._buffer, position)
            tag = group << 16 | number
            if tag == ITEM_END:
                return elements, position + 8
            if group == 0xFFFE or (depth == 0 and tag == 0):
                return self._padding(elements, position, end, depth)
            vr, length, value = self._head(tag, position, end, implicit, little, creators)
            element, position = self._element(
                (tag, vr, length, value), end, implicit, little, depth
            )
            elements.setdefault(tag, element)
            if tag == PIXEL_REPRESENTATION and length == 2:
                self._signed = self._buffer[value : value + 2] != b"\0\0"
            if group & 1 and 0x10 <= number <= 0xFF:
                creator = self._buffer[value : min(value + length, value + 64)]
                creators[group << 8 | number] = creator.decode("latin-1").strip(" \0")
            self._spend()
        if delimited:
            raise Truncated("the file ends inside an item")
        return elements, position

    def _head(
        self,
        tag: int,
        position: int,
        end: int,
        implicit: bool,
        little: bool,
        creators: dict[int, str],
    ) -> tuple[str, int, int]:
        """VR, length and value offset of the element at `position`."""
        order = "<" if little else ">"
        raw = self._buffer[position + 4 : position + 6]
        if implicit or not (raw in SHORT_VRS or raw in LONG_VRS or raw.isalpha()):
            (length,) = struct.unpack_from(order + "L", self._buffer, position + 4)
            return implicit_vr(tag, creators, self._signed), length, position + 8
        if raw in LONG_VRS:
            if end - position < 12:
                raise Truncated("the file ends inside an element")
            (length,) = struct.unpack_from(order + "L", self._buffer, position + 8)
            return raw.decode(), length, position + 12
        (length,) = struct.unpack_from(order + "H", self._buffer, position + 6)
        return (raw.decode() if raw in SHORT_VRS else "UN"), length, position + 8

    def _element(
        self,
        head: tuple[int, str, int, int],
        end: int,
        implicit: bool,
        little: bool,
        depth: int,
    ) -> tuple[Element, int]:
        """The element and the offset behind it."""
        tag, vr, length, value = head
        if length == UNDEFINED:
            if vr not in ("SQ", "UN"):
                fragments, after = self._fragments(value, end, little)
                return Element(vr, value, after - value, little, None, fragments), after
            # PS3.5 6.2.2: UN of undefined length is a sequence in implicit little endian.
            unknown = vr == "UN" and not implicit
            items, after = self._items(
                value, end, implicit or unknown, little or unknown, depth, True
            )
            return Element("SQ", value, after - value, little, items), after
        after = value + length
        if after > end:
            raise Truncated(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) reaches past the end")
        if vr == "UN" and not implicit and not (tag >> 16) & 1:
            # A peer that did not know the attribute passes it on as UN, implicit little endian.
            vr = dictionary_vr(tag, self._signed)
            if vr == "SQ":
                items, _ = self._items(value, after, True, True, depth)
                return Element("SQ", value, length, True, items), after
            return Element(vr, value, length, True), after
        if vr == "SQ":
            items, _ = self._items(value, after, implicit, little, depth)
            return Element("SQ", value, length, little, items), after
        return Element(vr, value, length, little), after

    def _items(
        self,
        position: int,
        end: int,
        implicit: bool,
        little: bool,
        depth: int,
        delimited: bool = False,
    ) -> tuple[list[Level], int]:
        """Items up to `end`, or up to the delimiter that must come before it."""
        order = "<" if little else ">"
        items: list[Level] = []
        while position < end:
            if end - position < 8:
                raise Truncated("the file ends inside a sequence")
            group, number, length = struct.unpack_from(order + "HHL", self._buffer, position)
            tag, position = group << 16 | number, position + 8
            if tag == SEQUENCE_END:
                return items, position
            if tag != ITEM:
                raise NotDicom("a sequence holds something that is not an item")
            self._spend()
            if length == UNDEFINED:
                item, position = self._level(position, end, implicit, little, depth + 1, True)
            elif position + length > end:
                raise Truncated("an item reaches past the end")
            else:
                item, _ = self._level(position, position + length, implicit, little, depth + 1)
                position += length
            items.append(item)
        if delimited:
            raise Truncated("the file ends inside a sequence")
        return items, position

    def _fragments(
        self, position: int, end: int, little: bool
    ) -> tuple[list[tuple[int, int]], int]:
        """(offset, length) of each item, the Basic Offset Table first (PS3.5 A.4)."""
        order = "<" if little else ">"
        fragments: list[tuple[int, int]] = []
        while position < end:
            if end - position < 8:
                raise Truncated("the file ends inside encapsulated pixel data")
            group, number, length = struct.unpack_from(order + "HHL", self._buffer, position)
            tag, position = group << 16 | number, position + 8
            if tag == SEQUENCE_END:
                return fragments, position
            if tag != ITEM or length == UNDEFINED:
                raise NotDicom("encapsulated data holds something that is not a fragment")
            if position + length > end:
                raise Truncated("a fragment reaches past the end")
            self._spend()
            fragments.append((position, length))
            position += length
        raise Truncated("the file ends inside encapsulated pixel data")

    def _padding(self, elements: Level, position: int, end: int, depth: int) -> tuple[Level, int]:
        """Zero bytes behind the last element are kept in the file and mean nothing."""
        if depth == 0 and elements and not self._buffer[position:end].strip(b"\0"):
            return elements, end
        if end - position < 8:
            raise Truncated("the file ends inside an element")
        raise NotDicom("a delimiter stands where an element should")

    def _is_implicit(self, position: int, end: int, implicit: bool, order: str) -> bool:
        """Whether the first element really is implicit: some files do not keep their promise."""
        if end - position < 8 or struct.unpack_from(order + "H", self._buffer, position)[0] in (
            0xFFFE,
        ):
            return implicit
        raw = self._buffer[position + 4 : position + 6]
        if not implicit:
            return not (raw.isalpha() and raw.isupper())
        (length,) = struct.unpack_from(order + "L", self._buffer, position + 4)
        known = raw in SHORT_VRS or raw in LONG_VRS
        return not (known and position + 8 + length > end)

    def _spend(self) -> None:
        self._budget -= 1
        if self._budget < 0:
            raise TooComplex("the instance holds more elements than the limit")
