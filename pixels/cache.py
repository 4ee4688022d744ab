"""What was made once, kept on disk up to a size: what was not used for longest goes first.

Several processes may share a folder. An entry appears by a rename, so there is no half of one; a
reader gets an open file, which stays whole though the entry be removed meanwhile. Losing entries,
or the folder, loses nothing but time.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import BinaryIO

# What is left of a process that died while writing is swept once it is this old.
STALE_S = 3600.0
# Trimming goes below the limit, so that it is not done again at the next entry.
_TRIM_TO = 0.9


def key_of(*parts: object) -> str:
    """The name of an entry made from these parts."""
    return hashlib.sha256("\n".join(str(part) for part in parts).encode()).hexdigest()


class DiskCache:
    """Entries by key, in folders by the first two digits."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._new_bytes = max_bytes  # the first entry looks at what is there
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def open(self, key: str) -> BinaryIO | None:
        """The entry, open for reading; None if there is none."""
        path = self._path(key)
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        with contextlib.suppress(OSError):  # another process may just have removed it
            os.utime(path)
        return file

    def scratch(self) -> Path:
        """A new empty file in the cache's folder: written, then given to `keep`."""
        handle, name = tempfile.mkstemp(prefix="new-", dir=self._folder)
        os.close(handle)
        return Path(name)

    def keep(self, key: str, scratch: Path) -> BinaryIO:
        """Make the written file the entry; gives it back open for reading."""
        file = scratch.open("rb")
        path = self._path(key)
        path.parent.mkdir(exist_ok=True)
        scratch.replace(path)
        with self._lock:
            self._new_bytes += os.fstat(file.fileno()).st_size
            due = self._new_bytes > self._max_bytes * (1 - _TRIM_TO)
            if due:
                self._new_bytes = 0
        if due:
            self._trim()
        return file

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / key

    def _trim(self) -> None:
        """Remove the oldest until the rest is well below the limit; one process at a time."""
        with (self._folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            self._sweep()
            entries = []
            for path in self._folder.glob("??/*"):
                with contextlib.suppress(FileNotFoundError):
                    state = path.stat()
                    entries.append((state.st_mtime_ns, state.st_size, path))
            total = sum(size for _, size, _ in entries)
            if total <= self._max_bytes:
                return
            for _, size, path in sorted(entries):
                path.unlink(missing_ok=True)
                total -= size
                if total <= self._max_bytes * _TRIM_TO:
                    return

    def _sweep(self) -> None:
        for path in self._folder.glob("new-*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > STALE_S:
                    path.unlink()
