"""Whether the bytes on disk are still those that were stored.

The size is compared whenever a file is opened, which costs nothing. The digest is compared when a
whole file is read: its last piece is held back until the digest of all is right, so that nobody
ever gets a complete file that is not the stored one.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from archive.config import ArchiveConfig
from archive.errors import Corrupted, NotDicom, Truncated
from archive.keys import InstanceRecord
from archive.part10 import Part10, data_set_start, parse
from archive.proven import Proven, state_of

CHUNK = 1024 * 1024


class FileAway(Exception):
    """The file is not at its place: deleted since its record was read, or lost."""

    def __init__(self, found: InstanceRecord) -> None:
        super().__init__(found.key.instance)
        self.found = found


def open_sized(found: InstanceRecord) -> BinaryIO:
    """The file, open, if it has the size that was stored.

    Raises:
        Corrupted: it has another size, or cannot be read.
        FileAway: it is not there; the caller finds out why.
    """
    try:
        file = found.path.open("rb")
    except FileNotFoundError as error:
        raise FileAway(found) from error
    except OSError as error:
        raise Corrupted(found.key) from error
    if os.fstat(file.fileno()).st_size != found.size:
        file.close()
        raise Corrupted(found.key)
    return file


@contextmanager
def open_mapped(found: InstanceRecord) -> Iterator[mmap.mmap]:
    """The file mapped into memory; raises as `open_sized`."""
    with (
        open_sized(found) as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view,
    ):
        yield view


@contextmanager
def open_parsed(found: InstanceRecord, config: ArchiveConfig) -> Iterator[Part10]:
    """The structure of a stored file; one that no longer has any is Corrupted."""
    with open_mapped(found) as view:
        try:
            part10 = parse(view, config)
        except (NotDicom, Truncated) as error:
            raise Corrupted(found.key) from error
        yield part10


def checked_chunks(file: BinaryIO, found: InstanceRecord, size: int = CHUNK) -> Iterator[bytes]:
    """The whole open file in pieces; closes it at the end.

    Raises:
        Corrupted: before the last piece, if the bytes are not those that were stored.
    """
    with file:
        check = _Digest(found)
        last = b""
        while True:
            try:
                piece = file.read(size)
            except OSError as error:
                raise Corrupted(found.key) from error
            if not piece:
                break
            check.update(piece)
            if last:
                yield last
            last = piece
        if not check.right():
            raise Corrupted(found.key)
        yield last


def proven_chunks(
    file: BinaryIO, found: InstanceRecord, size: int, proven: Proven
) -> Iterator[bytes]:
    """As `checked_chunks`, but a file that was found right a short while ago is only read."""
    state = state_of(file.fileno())
    if not proven.knows(state):
        yield from checked_chunks(file, found, size)
        # Its state from before: a change meanwhile makes another one.
        proven.add(state)
        return
    with file:
        try:
            while piece := file.read(size):
                yield piece
        except OSError as error:
            raise Corrupted(found.key) from error


def is_intact(found: InstanceRecord) -> bool:
    """Whether size and digest of the file are those that were stored."""
    try:
        for _ in checked_chunks(open_sized(found), found):
            pass
    except (Corrupted, FileAway):
        return False
    return True


class _Digest:
    """The digests of head and data set of one file, taken while it is read."""

    def __init__(self, found: InstanceRecord) -> None:
        self._found = found
        self._start = found.head_length
        if self._start is None:
            self._start = _start_of(found.path)
        self._head, self._data = hashlib.sha256(), hashlib.sha256()
        self._left = self._start

    def update(self, piece: bytes) -> None:
        if self._left:
            self._head.update(piece[: self._left])
            piece, self._left = piece[self._left :], max(0, self._left - len(piece))
        self._data.update(piece)

    def right(self) -> bool:
        head = self._found.head_sha256
        return self._data.hexdigest() == self._found.sha256 and (
            head is None or self._head.hexdigest() == head
        )


def _start_of(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return data_set_start(file.read(CHUNK))
    except (NotDicom, Truncated, OSError):
        return 0  # the digest will not be right
