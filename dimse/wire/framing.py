"""A message cut into P-DATA-TF PDUs of the size that the peer takes (PS3.8 9.3.5, annex E)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

MAXIMUM_PDU = 1024 * 1024
"""Largest P-DATA-TF that we ask for and, whatever the peer allows, that we send."""
SMALLEST_PDU = 64
COMMAND_PART, LAST = 1, 2

_WRITE = 512 * 1024


def fragment_size(maximum_pdu: int) -> int:
    """Bytes of a message that go into one PDU for a peer with this maximum; 0 is unlimited."""
    return (min(maximum_pdu or MAXIMUM_PDU, MAXIMUM_PDU) - 6) & ~1


def piece_size(fragment: int) -> int:
    """A good size for reading and writing in pieces: whole PDUs, few system calls."""
    return max(1, _WRITE // fragment) * fragment


def pdus(
    context_id: int, data: bytes, fragment: int, *, command: bool = False, last: bool = True
) -> Iterator[bytes | memoryview]:
    """Heads and bodies of PDUs of one PDV each; `last`: the message's part ends with `data`."""
    kind = COMMAND_PART if command else 0
    view = memoryview(data)
    for start in range(0, len(view), fragment):
        part = view[start : start + fragment]
        flags = kind | (LAST if last and start + fragment >= len(view) else 0)
        yield struct.pack(">BBLLBB", 4, 0, len(part) + 6, len(part) + 2, context_id, flags)
        yield part
