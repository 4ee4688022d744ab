"""What a compressed frame says about itself, read before any decoder sees it.

The data set may lie about a codestream, and one of 60,000 x 60,000 costs 7 GB to open.
"""

from __future__ import annotations

import struct
from itertools import pairwise

from pixels.errors import NotDecodable, TooLarge
from pixels.syntaxes import RLE

_RLE_HEADER = 64
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}


def check_codestream(data: bytes, transfer_syntax: str, rows: int, columns: int) -> None:
    """Refuse a codestream whose own header does not agree with the data set.

    Raises:
        TooLarge: it claims more pixels than the data set does.
        NotDecodable: its segments lie outside of it.
    """
    if transfer_syntax == RLE:
        _check_rle(data)
        return
    size = codestream_size(data)
    if size is not None and size[0] * size[1] > rows * columns:
        raise TooLarge("the compressed image is larger than the data set says")


def _check_rle(data: bytes) -> None:
    """The offsets of an RLE frame rise and stay inside of it (PS3.5 G.5)."""
    if len(data) < _RLE_HEADER:
        raise NotDecodable("an RLE frame is shorter than its header")
    count, *offsets = struct.unpack("<16L", data[:_RLE_HEADER])
    used = offsets[:count]
    in_order = all(a < b for a, b in pairwise(used))
    if not 1 <= count <= 15 or used[0] < _RLE_HEADER or used[-1] >= len(data) or not in_order:
        raise NotDecodable("the segments of an RLE frame lie outside of it")


def codestream_size(data: bytes) -> tuple[int, int] | None:
    """Rows and columns that a JPEG, JPEG-LS or JPEG 2000 header claims; None if it has none."""
    position = data.find(b"\xff\x4f\xff\x51", 0, 4096)  # SOC SIZ, perhaps inside a JP2 file
    if position >= 0 and len(data) >= position + 24:
        width, height, left, top = struct.unpack_from(">4L", data, position + 8)
        return max(height - top, 0), max(width - left, 0)
    if not data.startswith(b"\xff\xd8"):
        return None
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in _START_OF_FRAME:
            rows, columns = struct.unpack_from(">HH", data, position + 5)
            return rows, columns
        if marker == 0xFF:
            position += 1
            continue
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None
