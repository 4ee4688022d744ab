"""Files of the archive: temporary ones on their way in, and their final, durable place.

A final name is never used twice. Two peers that send the same SOP Instance UID at once can
therefore never overwrite each other, and the removal of a deleted file never meets one that was
stored again; the index decides which file is served.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import secrets
import shutil
import uuid
from pathlib import Path
from threading import Lock

from archive.config import ArchiveConfig
from archive.errors import OutOfSpace
from archive.incoming import Blocks, Incoming, disk_error
from archive.keys import InstanceKey


def sync(path: Path) -> None:
    """Force a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Files:
    """The folders of one archive. `incoming` has a folder per process, locked while it lives."""

    def __init__(self, config: ArchiveConfig) -> None:
        self._config = config
        self._objects = config.root / "objects"
        incoming = config.root / "incoming"
        for folder in (self._objects, incoming):
            folder.mkdir(parents=True, exist_ok=True)
        clean_leftovers(incoming)
        self._lock_path, self._lock_file = lock_new(incoming)
        self._folder = self._lock_path.with_suffix("")
        self._folder.mkdir()
        self._blocks = Blocks()
        self._known: set[Path] = set()
        self._known_lock = Lock()

    def close(self) -> None:
        """Remove this process's folder of temporary files."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._lock_path.unlink(missing_ok=True)
        self._lock_file.close()

    def receive(self) -> Incoming:
        """A new temporary file; raises OutOfSpace when the disk is nearly full."""
        self.check_space()
        try:
            path = self._folder / uuid.uuid4().hex
            return Incoming(path, self._blocks, self._config.preamble)
        except OSError as error:
            raise disk_error(error) from error

    def check_space(self) -> None:
        """Raise OutOfSpace below the configured limit of free disk."""
        status = os.statvfs(self._config.root)
        if status.f_bavail * status.f_frsize < self._config.min_free_bytes:
            raise OutOfSpace("free disk space is below the limit")

    def place(self, key: InstanceKey, sha256: str) -> str:
        """A new path below the archive's root at which this content can be kept.

        The UIDs must have been checked; the two hash levels keep folders small.
        """
        shard = hashlib.sha256(key.study.encode()).hexdigest()
        name = f"{key.instance}-{sha256[:8]}{secrets.token_hex(4)}.dcm"
        return f"objects/{shard[:2]}/{shard[2:4]}/{key.study}/{key.series}/{name}"

    def absolute(self, place: str) -> Path:
        """The file at a place of the index."""
        return self._config.root / place

    def keep(self, incoming: Incoming, place: str) -> None:
        """Move a finished file to its place, so that it survives a power cut if that is wanted."""
        target = self.absolute(place)
        try:
            self._make_folder(target.parent)
            incoming.settle(target, durable=self._config.durable)
            self._sync_folder(target.parent)
        except OSError as error:
            raise disk_error(error) from error

    def discard(self, place: str) -> None:
        """Remove a file that the index has refused, or no longer names."""
        self.absolute(place).unlink(missing_ok=True)

    def _make_folder(self, folder: Path) -> None:
        """Make a folder whose name, and the names above it, survive a power cut."""
        with self._known_lock:
            if folder in self._known and folder.is_dir():
                return
        folder.mkdir(parents=True, exist_ok=True)
        parent = folder.parent
        while parent != self._config.root.parent:
            self._sync_folder(parent)
            parent = parent.parent
        with self._known_lock:
            if len(self._known) > 10_000:
                self._known.clear()
            self._known.add(folder)

    def _sync_folder(self, folder: Path) -> None:
        if self._config.durable:
            sync(folder)


def lock_new(incoming: Path) -> tuple[Path, io.BufferedWriter]:
    """A new lock file that this process holds until it ends, however it ends."""
    while True:
        path = incoming / f"{uuid.uuid4().hex}.lock"
        file = path.open("xb")
        fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists():
            return path, file
        # Another process cleaned it up in the instant before it was locked.
        file.close()


def clean_leftovers(incoming: Path) -> None:
    """Remove temporary files of processes that are gone; a living one holds its lock."""
    for lock_path in incoming.glob("*.lock"):
        try:
            with lock_path.open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(incoming / lock_path.stem, ignore_errors=True)
                lock_path.unlink(missing_ok=True)
        except (BlockingIOError, FileNotFoundError):
            continue
