"""A DICOM file as something to send: what it is, and where its data set begins."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Protocol

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from pixels import PixelError, Transcoder

_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT"})
_META_LIMIT = 64 * 1024
_SOP_CLASS, _INSTANCE, _SYNTAX = 0x0002, 0x0003, 0x0010


class NotSendable(Exception):
    """The file is not one that can be sent; the text says why, without patient data."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One file to send, and what a C-STORE request says about it.

    `sha256` is the digest that its data set must have, where that is known.
    """

    path: Path
    sop_class: str
    instance: str
    transfer_syntax: str
    sha256: str | None = None


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


def pieces(
    item: Outgoing, transfer_syntax: str, size: int, transcoder: Transcoder | None
) -> Iterator[tuple[bytes, bool]]:
    """The data set in pieces of `size` bytes, each with whether it is the last.

    The last one is held back until the digest of all is right, so that a file that was damaged on
    the disk is never sent as a whole.

    Raises:
        NotSendable: it is no Part 10 file, ends early or is damaged, or cannot be transcoded.
    """
    as_stored = transfer_syntax == item.transfer_syntax
    with _open(item, None if as_stored else transfer_syntax, transcoder) as file:
        file.seek(0)
        _, start = _read_meta(file)
        left = file.seek(0, 2) - start
        if left <= 0:
            raise NotSendable("holds no data set")
        # PS3.5 A.5: a deflated data set of odd length gets a NUL behind it.
        padding = b"\0" * (left % 2)
        file.seek(start)
        digest = hashlib.sha256() if item.sha256 and as_stored else None
        while left:
            data = file.read(min(size, left))
            if not data:
                raise NotSendable("ends early")
            left -= len(data)
            if digest is not None:
                digest.update(data)
            if left:
                yield data, False
        if digest is not None and digest.hexdigest() != item.sha256:
            raise NotSendable("is damaged on our disk; it was not sent")
        yield data + padding, True


def _open(
    item: Outgoing, transfer_syntax: str | None, transcoder: Transcoder | None
) -> FileIO | BinaryIO:
    if transfer_syntax is None or transcoder is None:
        # Unbuffered: the pieces are large.
        return item.path.open("rb", buffering=0)
    try:
        return transcoder.transcode(item.path, transfer_syntax, item.sha256)
    except PixelError as error:
        raise NotSendable(f"cannot be sent in a syntax that the peer takes: {error}") from error


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes | None: ...


def _read_meta(file: _Readable) -> tuple[dict[int, str], int]:
    """UIDs of group 0002 and the offset behind it (PS3.10 7.1)."""
    head = file.read(_META_LIMIT) or b""
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
