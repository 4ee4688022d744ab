"""The reading end of the spool: each reader has a durable place of its own in every file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import orjson
import structlog

from access.audit.chain import SUFFIX, write_durably
from access.audit.record import SpooledRecord, decode

ACKNOWLEDGED = "acknowledged"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Batch:
    """Records in the order of each file, and how far they reach in it."""

    records: tuple[SpooledRecord, ...]
    positions: dict[str, int]


class SpoolReader:
    """Reads every file of the spool from where it was last acknowledged under this name."""

    def __init__(self, folder: Path, name: str = ACKNOWLEDGED) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._path = folder / f"{name}.json"
        self._acknowledged = positions(folder, name)

    def next_batch(self, limit: int = 100) -> Batch:
        """Up to `limit` records that were not acknowledged; empty when all are.

        What is given is on disk: a store that has it must not know more than the spool does
        after a power failure.
        """
        records: list[SpooledRecord] = []
        reached: dict[str, int] = {}
        for path in self._unread():
            if len(records) >= limit:
                break
            offset = self._acknowledged.get(path.name, 0)
            found, end = _read_lines(path, offset, limit - len(records))
            records.extend(found)
            if end > offset:
                reached[path.name] = end
        return Batch(tuple(records), reached)

    def backlog(self) -> int:
        """Bytes that are not acknowledged."""
        return sum(
            path.stat().st_size - self._acknowledged.get(path.name, 0) for path in self._unread()
        )

    def acknowledge(self, batch: Batch) -> None:
        """Remember that these records are safe elsewhere."""
        self._acknowledged.update(batch.positions)
        names = {path.name for path in self._folder.glob(f"*{SUFFIX}")}
        self._acknowledged = {n: at for n, at in self._acknowledged.items() if n in names}
        write_durably(self._path, orjson.dumps(self._acknowledged))

    def _unread(self) -> list[Path]:
        """Files with more than was acknowledged, the longest unchanged one first."""
        waiting = []
        for path in self._folder.glob(f"*{SUFFIX}"):
            status = path.stat()
            if status.st_size > self._acknowledged.get(path.name, 0):
                waiting.append((status.st_mtime_ns, path))
        return [path for _, path in sorted(waiting)]


def positions(folder: Path, name: str) -> dict[str, int]:
    """How far a reader has come in each file."""
    path = folder / f"{name}.json"
    loaded: dict[str, int] = orjson.loads(path.read_bytes()) if path.exists() else {}
    return {name: at for name, at in loaded.items() if (folder / name).exists()}


def _read_lines(path: Path, offset: int, limit: int) -> tuple[list[SpooledRecord], int]:
    records: list[SpooledRecord] = []
    with path.open("rb") as file:
        os.fsync(file.fileno())
        file.seek(offset)
        while len(records) < limit:
            line = file.readline()
            if not line.endswith(b"\n"):
                break  # the end, or a line that is being written
            offset += len(line)
            try:
                records.append(decode(line))
            except ValueError:
                log.error("audit.damaged_line", file=path.name, end=offset)
    return records, offset
