"""A DICOM file as something to send: what it is, and where its data set begins."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT"})
_META_LIMIT = 64 * 1024
_SOP_CLASS, _INSTANCE, _SYNTAX = 0x0002, 0x0003, 0x0010


class NotSendable(Exception):
    """The file is not one that can be sent; the text says why, without patient data."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One file to send, and what a C-STORE request says about it."""

    path: Path
    sop_class: str
    instance: str
    transfer_syntax: str


def outgoing(path: Path) -> Outgoing:
    """What a Part 10 file is, from its file meta information. Raises NotSendable."""
    try:
        with path.open("rb") as file:
            meta, _ = _read_meta(file)
        if _SOP_CLASS not in meta or _INSTANCE not in meta:
            meta = {**_from_data_set(path), **meta}
    except OSError as error:
        raise NotSendable(f"cannot be read ({type(error).__name__})") from error
    missing = [
        name
        for number, name in ((_SOP_CLASS, "class"), (_INSTANCE, "instance"), (_SYNTAX, "syntax"))
        if not meta.get(number)
    ]
    if missing:
        raise NotSendable(f"does not say its {missing[0]}")
    return Outgoing(path, meta[_SOP_CLASS], meta[_INSTANCE], meta[_SYNTAX])


def seek_data_set(file: BinaryIO) -> int:
    """Move to the data set of an open Part 10 file; returns its length. Raises NotSendable."""
    _, start = _read_meta(file)
    end = file.seek(0, 2)
    if end <= start:
        raise NotSendable("holds no data set")
    file.seek(start)
    return end - start


def _read_meta(file: BinaryIO) -> tuple[dict[int, str], int]:
    """UIDs of group 0002 and the offset behind it (PS3.10 7.1)."""
    head = file.read(_META_LIMIT)
    if head[128:132] != b"DICM":
        raise NotSendable("not a DICOM Part 10 file")
    found: dict[int, str] = {}
    position = 132
    while position + 8 <= len(head):
        group, number = struct.unpack_from("<HH", head, position)
        if group != 2:
            return found, position
        vr = head[position + 4 : position + 6]
        if vr in _LONG:
            if position + 12 > len(head):
                break
            (length,) = struct.unpack_from("<L", head, position + 8)
            value = position + 12
        else:
            (length,) = struct.unpack_from("<H", head, position + 6)
            value = position + 8
        position = value + length
        if vr == b"UI":
            found[number] = head[value:position].decode("ascii", "replace").strip(" \0")
    if position == len(head) < _META_LIMIT:
        return found, position
    raise NotSendable("its file meta information is damaged")


def _from_data_set(path: Path) -> dict[int, str]:
    """SOP class and instance of a file whose meta information lacks them."""
    try:
        found = dcmread(path, specific_tags=["SOPClassUID", "SOPInstanceUID"])
    except (InvalidDicomError, AttributeError, ValueError, EOFError, RecursionError) as error:
        raise NotSendable(f"cannot be read ({type(error).__name__})") from error
    return {
        _SOP_CLASS: str(found.get("SOPClassUID", "")),
        _INSTANCE: str(found.get("SOPInstanceUID", "")),
    }
