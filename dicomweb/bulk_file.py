"""Bulk data of a store request in one file, however many parts they came in."""

from __future__ import annotations

import io
import os
import struct
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any

from archive.incoming import disk_error

_ITEM = b"\xfe\xff\x00\xe0"
Span = tuple[int, int]
"""First byte and length of a part in the file."""


class BulkFile:
    """A file without a name: it is gone once it is closed."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - closed by `close`
        self.size = 0

    def write(self, data: bytes) -> None:
        """Append to the part that is coming; raises OutOfSpace or ArchiveUnavailable."""
        try:
            self._file.write(data)
        except OSError as error:
            raise disk_error(error) from error
        self.size += len(data)

    def joined(self, spans: Sequence[Span]) -> io.BufferedReader:
        """These parts, one after the other, as a file of even length."""
        return self._open([*spans, bytes(sum(length for _, length in spans) % 2)])

    def encapsulated(self, spans: Sequence[Span]) -> io.BufferedReader:
        """These parts as the frames of a compressed value, without the delimiter at its end."""
        return self._open(_encapsulated(spans))

    def _open(self, pieces: Iterable[Span | bytes]) -> io.BufferedReader:
        try:
            self._file.flush()
        except OSError as error:
            raise disk_error(error) from error
        return io.BufferedReader(_Pieces(self._file.fileno(), pieces))

    def close(self) -> None:
        """Let go of it."""
        self._file.close()


class _Pieces(io.RawIOBase):
    def __init__(self, handle: int, pieces: Iterable[Span | bytes]) -> None:
        super().__init__()
        self._handle = handle
        sized = [(p, len(p) if isinstance(p, bytes) else p[1]) for p in pieces]
        self._pieces = [(piece, length) for piece, length in sized if length]
        self._starts = [0, *accumulate(length for _, length in self._pieces)]
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        bases = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._starts[-1]}
        self._position = bases[whence] + offset
        return self._position

    def readinto(self, target: Any) -> int:
        number = bisect_right(self._starts, self._position) - 1
        if number >= len(self._pieces):
            return 0
        piece, length = self._pieces[number]
        inside = self._position - self._starts[number]
        size = min(len(target), length - inside)
        if isinstance(piece, bytes):
            data = piece[inside : inside + size]
        else:
            data = os.pread(self._handle, size, piece[0] + inside)
        target[: len(data)] = data
        self._position += len(data)
        return len(data)


def _encapsulated(spans: Sequence[Span]) -> Iterator[Span | bytes]:
    """Items of one fragment each behind an empty offset table (PS3.5 A.4)."""
    yield _ITEM + bytes(4)
    for span in spans:
        length = span[1]
        yield _ITEM + struct.pack("<L", length + length % 2)
        yield span
        yield bytes(length % 2)
