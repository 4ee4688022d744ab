"""A file on its way in: hashed while it is written, parsed from memory where it is small."""

from __future__ import annotations

import errno
import hashlib
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from archive.config import ArchiveConfig
from archive.errors import ArchiveUnavailable, NotDicom, OutOfSpace, Truncated
from archive.part10 import PREAMBLE, Part10, data_set_start, open_part10, parse

BLOCK = 128 * 1024
"""Bytes of a file that are gathered before they are hashed and written."""
_SPARE = 64
_CHUNK = 4 * 1024 * 1024
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def disk_error(error: OSError) -> OutOfSpace | ArchiveUnavailable:
    """What a failed write means to the sender."""
    if error.errno in _NO_ROOM:
        return OutOfSpace("the disk has no room")
    return ArchiveUnavailable(f"the disk refused a write ({errno.errorcode.get(error.errno or 0)})")


@dataclass(frozen=True, slots=True)
class Sums:
    """SHA-256, as hex, of the bytes before the data set and of the data set."""

    head_length: int
    head: str
    data: str


class Blocks:
    """Buffers that are used again: new memory for each file would cost more than filling it."""

    def __init__(self) -> None:
        self._free: deque[bytearray] = deque(maxlen=_SPARE)

    def take(self) -> bytearray:
        """A buffer of `BLOCK` bytes, whatever is in it."""
        try:
            return self._free.pop()
        except IndexError:
            return bytearray(BLOCK)

    def give(self, block: bytearray) -> None:
        """Let another file use it."""
        self._free.append(block)


class Incoming:
    """A Part 10 file on its way in: a temporary file that vanishes unless it is stored.

    Args:
        path: The temporary file, which is made now.
        blocks: Where its buffer comes from.
        preamble: See `ArchiveConfig.preamble`.
    """

    def __init__(
        self, path: Path, blocks: Blocks, preamble: Literal["zero", "keep"] = "zero"
    ) -> None:
        self.path = path
        self.size = 0
        self._keep_preamble = preamble == "keep"
        self._file = path.open("xb", buffering=0)
        self._blocks = blocks
        self._block = blocks.take()
        # Of the bytes in the block, how many are valid, hashed, and in the file.
        self._held = self._hashed = self._flushed = 0
        self._sums: _Running | None = None
        self._given_away = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes; raises OutOfSpace or ArchiveUnavailable if the disk refuses them."""
        if self.size < PREAMBLE and not self._keep_preamble:
            start = min(len(data), PREAMBLE - self.size)
            data = bytes(start) + bytes(data[start:])
        view = memoryview(data)
        while view:
            if self._held == BLOCK:
                self._spill()
            piece = view[: BLOCK - self._held]
            self._block[self._held : self._held + len(piece)] = piece
            self._held += len(piece)
            self.size += len(piece)
            view = view[len(piece) :]

    def _spill(self) -> None:
        """Make room: the block is full and more is to come."""
        if self._in_block:
            try:
                self._sums = _Running(data_set_start(bytes(self._block)))
            except (NotDicom, Truncated):
                self._sums = None  # hashed at the end, if it is a file after all
        self._hash()
        self.flush()
        self._held = self._hashed = self._flushed = 0

    @property
    def _in_block(self) -> bool:
        """Whether all that has come is in the block."""
        return self.size == self._held

    def _hash(self) -> None:
        if self._sums is not None:
            self._sums.update(memoryview(self._block)[self._hashed : self._held])
            self._hashed = self._held

    @contextmanager
    def parsed(self, config: ArchiveConfig) -> Iterator[tuple[Part10, Sums]]:
        """The structure of the complete file and its digests; raises as `open_part10`."""
        if self._in_block:
            content = bytes(memoryview(self._block)[: self._held])
            part10 = parse(content, config)
            yield part10, _sums_of(content, part10.data_set_start)
            return
        self._hash()
        self.flush()
        with open_part10(self.path, config) as part10:
            sums = self._sums or _read(self.path, part10.data_set_start)
            yield part10, sums.result()

    def finish(self) -> None:
        """Hand everything to the operating system; nothing can be written afterwards."""
        self.flush()
        self._let_go()

    def flush(self) -> None:
        """Hand what is buffered to the operating system, so that the file can be read."""
        view = memoryview(self._block)[self._flushed : self._held]
        try:
            while view:
                # A raw file may take a part only.
                view = view[self._file.write(view) :]
        except OSError as error:
            raise disk_error(error) from error
        self._flushed = self._held

    def _let_go(self) -> None:
        if self._block:
            self._blocks.give(self._block)
        self._block = bytearray()
        self._held = self._hashed = self._flushed = 0

    def settle(self, target: Path, *, durable: bool) -> None:
        """Move the finished file to its place, its bytes on disk if `durable`; closes it."""
        try:
            try:
                self.path.replace(target)
            except FileNotFoundError:
                # The sweep took the empty folder away in the instant before.
                target.parent.mkdir(parents=True, exist_ok=True)
                self.path.replace(target)
            if durable:
                os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise disk_error(error) from error

    def give_away(self) -> None:
        """Let somebody else finish: leaving the context no longer discards the file."""
        self._given_away = True

    def discard(self) -> None:
        """Close and remove the temporary file; harmless if it has been moved."""
        self._let_go()
        self._file.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if not self._given_away:
            self.discard()


class _Running:
    """The digests of a file whose beginning is known to be `start` bytes long."""

    def __init__(self, start: int) -> None:
        self._start = self._left = start
        self._head, self._data = hashlib.sha256(), hashlib.sha256()

    def update(self, piece: bytes | bytearray | memoryview) -> None:
        view = memoryview(piece)
        if self._left:
            self._head.update(view[: self._left])
            view, self._left = view[self._left :], max(0, self._left - len(view))
        self._data.update(view)

    def result(self) -> Sums:
        return Sums(self._start, self._head.hexdigest(), self._data.hexdigest())


def _sums_of(content: bytes, start: int) -> Sums:
    running = _Running(start)
    running.update(content)
    return running.result()


def _read(path: Path, start: int) -> _Running:
    running = _Running(start)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            running.update(chunk)
    return running
