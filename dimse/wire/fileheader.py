"""The Part 10 header that a data set received over DIMSE gets in front of it (PS3.10 7.1)."""

from __future__ import annotations

import struct
from functools import lru_cache

# Ours by UUID (PS3.5 B.2); the number never changes, the version name does.
IMPLEMENTATION_CLASS_UID = "2.25.239161750715226191205191749563125879539"
IMPLEMENTATION_VERSION = "HILUM_0_1"

_PREAMBLE = b"\0" * 128 + b"DICM"


def _padded(text: str, filling: bytes) -> bytes:
    raw = text.encode("ascii", "replace")
    return raw + filling if len(raw) % 2 else raw


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", 2, number, vr, len(value)) + value


@lru_cache(maxsize=256)
def _ending(transfer_syntax: str, calling_ae: str) -> bytes:
    return b"".join(
        (
            _element(0x0010, b"UI", _padded(transfer_syntax, b"\0")),
            _element(0x0012, b"UI", _padded(IMPLEMENTATION_CLASS_UID, b"\0")),
            _element(0x0013, b"SH", _padded(IMPLEMENTATION_VERSION, b" ")),
            _element(0x0016, b"AE", _padded(calling_ae, b" ")),
        )
    )


def file_header(sop_class: str, instance: str, transfer_syntax: str, calling_ae: str) -> bytes:
    """Preamble, prefix and file meta information."""
    body = (
        struct.pack("<HH2sHL", 2, 1, b"OB", 0, 2)
        + b"\0\1"
        + _element(0x0002, b"UI", _padded(sop_class, b"\0"))
        + _element(0x0003, b"UI", _padded(instance, b"\0"))
        + _ending(transfer_syntax, calling_ae)
    )
    return _PREAMBLE + struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(body)) + body
