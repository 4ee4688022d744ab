"""Where each frame lies in a file, so that reading a frame is one read (PS3.5 A.4, PS3.3 C.7.6.6).

The index is made once, when the instance is stored, and kept as a short byte string.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from archive.errors import FrameNotFound
from archive.metadata import swapped
from archive.part10 import EXPLICIT_BIG, Buffer, Element, Level, Part10

PIXEL_DATA = 0x7FE00010
FLOAT_PIXEL_DATA, DOUBLE_PIXEL_DATA = 0x7FE00008, 0x7FE00009
EXTENDED_OFFSETS, EXTENDED_LENGTHS = 0x7FE00001, 0x7FE00002
ROWS, COLUMNS, SAMPLES = 0x00280010, 0x00280011, 0x00280002
BITS_ALLOCATED, NUMBER_OF_FRAMES, PHOTOMETRIC = 0x00280100, 0x00280008, 0x00280004

# MPEG-2, MPEG-4, HEVC: the frames are inside one stream and cannot be told apart here.
VIDEO = ("1.2.840.10008.1.2.4.10",)

_NATIVE = struct.Struct("<cQQQB")
_COUNT = struct.Struct("<L")
_PIECE = struct.Struct("<QQ")

Pieces = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class NativeFrames:
    """Uncompressed frames, one after the other; 1-bit frames may begin inside a byte.

    Attributes:
        offset: Where the pixel data begin in the (inflated) file.
        frame_bits: Bits of one frame.
        length: Bytes of all pixel data.
        word: Bytes to swap to make the frame little endian; 1 if it is so already.
    """

    offset: int
    frame_bits: int
    length: int
    word: int

    def pack(self) -> bytes:
        """As kept in the index."""
        return _NATIVE.pack(b"N", self.offset, self.frame_bits, self.length, self.word)

    def read(self, buffer: Buffer, number: int) -> bytes:
        """Frame `number`, counted from 1."""
        first, last = (number - 1) * self.frame_bits, number * self.frame_bits
        if number < 1 or not self.frame_bits or last > self.length * 8:
            raise FrameNotFound(f"there is no frame {number}")
        begin, end = self.offset + first // 8, self.offset + (last + 7) // 8
        raw = bytes(buffer[begin:end])
        if first % 8 or last % 8:
            bits = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")
            bits = bits[first % 8 : first % 8 + self.frame_bits]
            return np.packbits(bits, bitorder="little").tobytes()
        return swapped(raw, self.word)


@dataclass(frozen=True, slots=True)
class EncapsulatedFrames:
    """Compressed frames, each as the fragments that hold it."""

    frames: tuple[Pieces, ...]

    def pack(self) -> bytes:
        """As kept in the index."""
        parts = [b"E"]
        for pieces in self.frames:
            parts.append(_COUNT.pack(len(pieces)))
            parts.extend(_PIECE.pack(*piece) for piece in pieces)
        return b"".join(parts)

    def read(self, buffer: Buffer, number: int) -> bytes:
        """Frame `number`, counted from 1: its fragments joined."""
        if not 1 <= number <= len(self.frames):
            raise FrameNotFound(f"there is no frame {number}")
        pieces = self.frames[number - 1]
        return b"".join(bytes(buffer[offset : offset + length]) for offset, length in pieces)


FrameIndex = NativeFrames | EncapsulatedFrames


def unpack(packed: bytes) -> FrameIndex:
    """The frame index from the bytes that `pack` made."""
    if packed[:1] == b"N":
        _, offset, bits, length, word = _NATIVE.unpack(packed)
        return NativeFrames(offset, bits, length, word)
    frames, position = [], 1
    while position < len(packed):
        (count,) = _COUNT.unpack_from(packed, position)
        position += _COUNT.size
        end = position + count * _PIECE.size
        frames.append(tuple(_PIECE.iter_unpack(packed[position:end])))
        position = end
    return EncapsulatedFrames(tuple(frames))


def frame_index(part10: Part10) -> tuple[int, FrameIndex | None]:
    """Number of frames and where they lie; None if they cannot be told apart or there are none."""
    for tag in (PIXEL_DATA, FLOAT_PIXEL_DATA, DOUBLE_PIXEL_DATA):
        element = part10.elements.get(tag)
        if element is not None:
            break
    else:
        return 0, None
    count = max(1, _integer(part10, NUMBER_OF_FRAMES) or 1)
    if element.fragments is None:
        return count, _native(part10, tag, element)
    return count, _encapsulated(part10, element.fragments, count)


def _native(part10: Part10, tag: int, element: Element) -> NativeFrames | None:
    bits = {FLOAT_PIXEL_DATA: 32, DOUBLE_PIXEL_DATA: 64}.get(
        tag, _integer(part10, BITS_ALLOCATED) or 0
    )
    size = (_integer(part10, ROWS) or 0) * (_integer(part10, COLUMNS) or 0)
    samples = _integer(part10, SAMPLES) or 1
    if samples == 3 and "422" in _text(part10, PHOTOMETRIC):
        samples = 2
    frame_bits = size * samples * bits
    if not 0 < frame_bits < 2**63 or frame_bits > element.length * 8:
        return None
    word = 1
    if part10.transfer_syntax == EXPLICIT_BIG:
        word = 2 if bits <= 16 and element.vr == "OW" else max(1, bits // 8)
    return NativeFrames(element.offset, frame_bits, element.length, word)


def _encapsulated(
    part10: Part10, items: list[tuple[int, int]], count: int
) -> EncapsulatedFrames | None:
    if not items:
        return None
    table, fragments = items[0], items[1:]
    if part10.transfer_syntax.startswith(VIDEO) or count == 1:
        return EncapsulatedFrames((tuple(fragments),)) if fragments else None
    frames = _by_extended_table(part10, fragments, count)
    if frames is None:
        frames = _by_basic_table(part10, table, fragments, count)
    if frames is None and len(fragments) == count:
        frames = [(fragment,) for fragment in fragments]
    if frames is None:
        frames = _by_end_marker(part10.buffer, fragments)
    return EncapsulatedFrames(tuple(frames)) if len(frames) == count else None


def _by_extended_table(
    part10: Part10, fragments: list[tuple[int, int]], count: int
) -> list[Pieces] | None:
    """Extended Offset Table: 64-bit offsets and lengths, one fragment a frame."""
    offsets = _longs(part10.buffer, part10.elements, EXTENDED_OFFSETS, "Q")
    lengths = _longs(part10.buffer, part10.elements, EXTENDED_LENGTHS, "Q")
    if len(offsets) != count or not fragments:
        return None
    start = fragments[0][0] - 8
    by_offset = {position - 8 - start: (position, length) for position, length in fragments}
    frames: list[Pieces] = []
    for number, offset in enumerate(offsets):
        if offset not in by_offset:
            return None
        position, length = by_offset[offset]
        true_length = lengths[number] if len(lengths) == count else length
        frames.append(((position, min(length, true_length)),))
    return frames


def _by_basic_table(
    part10: Part10, table: tuple[int, int], fragments: list[tuple[int, int]], count: int
) -> list[Pieces] | None:
    """Basic Offset Table, where it is filled and each offset is the start of a fragment."""
    position, length = table
    if length != count * 4 or not fragments:
        return None
    offsets = struct.unpack_from(f"<{count}L", part10.buffer, position)
    start = fragments[0][0] - 8
    index = {place - 8 - start: number for number, (place, _) in enumerate(fragments)}
    if offsets[0] != 0 or any(offset not in index for offset in offsets):
        return None
    firsts = [index[offset] for offset in offsets]
    if firsts != sorted(set(firsts)):
        return None
    ends = [*firsts[1:], len(fragments)]
    return [tuple(fragments[a:b]) for a, b in zip(firsts, ends, strict=True)]


def _by_end_marker(buffer: Buffer, fragments: list[tuple[int, int]]) -> list[Pieces]:
    """A frame ends with the fragment that ends in a JPEG end-of-image marker (FF D9)."""
    frames: list[Pieces] = []
    pieces: list[tuple[int, int]] = []
    for position, length in fragments:
        pieces.append((position, length))
        if b"\xff\xd9" in buffer[position + max(0, length - 10) : position + length]:
            frames.append(tuple(pieces))
            pieces = []
    if pieces:
        frames.append(tuple(pieces))
    return frames


def _longs(buffer: Buffer, elements: Level, tag: int, code: str) -> tuple[int, ...]:
    element = elements.get(tag)
    if element is None:
        return ()
    size = struct.calcsize(code)
    return struct.unpack_from(f"<{element.length // size}{code}", buffer, element.offset)


def _raw(part10: Part10, tag: int) -> bytes:
    element = part10.elements.get(tag)
    if element is None:
        return b""
    return bytes(part10.buffer[element.offset : element.offset + min(element.length, 64)])


def _text(part10: Part10, tag: int) -> str:
    return _raw(part10, tag).decode("ascii", "replace").strip(" \0")


def _integer(part10: Part10, tag: int) -> int | None:
    """Value of a US or IS element; None if it is absent or no number."""
    element, raw = part10.elements.get(tag), _raw(part10, tag)
    if element is None:
        return None
    if element.vr == "US" and len(raw) >= 2:
        return int.from_bytes(raw[:2], "little" if element.little else "big")
    try:
        return int(raw.decode("ascii", "replace").strip(" \0"))
    except ValueError:
        return None
