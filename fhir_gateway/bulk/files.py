"""The folder of a job: files written under another name, made durable, then renamed."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import orjson

from fhir_gateway.bulk.jobs import ExportFile, Role
from fhir_gateway.bulk.parquet import ParquetRows
from fhir_gateway.bulk.request import Format

Resource = dict[str, Any]
PARTIAL = ".partial"


class NoRoom(Exception):
    """The disk of the export folder has less free space than is to stay free."""


class Rows(Protocol):
    """A file being written: lines of JSON, or a table."""

    size: int

    def write(self, rows: Sequence[Resource]) -> None:
        """Append resources."""

    def close(self) -> None:
        """Finish and make durable."""


class NdjsonRows:
    """One resource a line."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self.size = 0

    def write(self, rows: Sequence[Resource]) -> None:
        """Append resources."""
        text = b"".join(orjson.dumps(row) + b"\n" for row in rows)
        self._file.write(text)
        self.size += len(text)

    def close(self) -> None:
        """Finish and make durable."""
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())


@dataclass(slots=True)
class OpenFile:
    """A file that is not whole yet."""

    number: int
    role: Role
    resource_type: str
    path: Path
    rows: Rows
    count: int = 0

    def write(self, rows: Sequence[Resource]) -> None:
        """Append resources."""
        self.rows.write(rows)
        self.count += len(rows)

    def finish(self) -> ExportFile:
        """Make it whole under its own name; durable when this returns."""
        self.rows.close()
        partial = self.path.with_name(self.path.name + PARTIAL)
        with partial.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        partial.rename(self.path)
        handle = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        size = self.path.stat().st_size
        return ExportFile(
            self.number, self.role, self.resource_type, self.path.name, self.count, size, digest
        )


class JobFolder:
    """Files of one job. `attempt` is in their names: two processes never write one file."""

    def __init__(self, root: Path, job: UUID, min_free_bytes: int) -> None:
        self.path = root / str(job)
        self._min_free_bytes = min_free_bytes

    def prepare(self, files: Iterable[ExportFile]) -> None:
        """Make the folder, and clear away what no row speaks of."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        wanted = {file.name for file in files}
        for one in self.path.iterdir():
            if one.name not in wanted:
                shutil.rmtree(one) if one.is_dir() else one.unlink()

    def open(
        self, number: int, attempt: int, role: Role, resource_type: str, form: Format
    ) -> OpenFile:
        """Begin a file. Raises NoRoom."""
        self.check_room()
        ending = "parquet" if form == "parquet" else "ndjson"
        path = self.path / f"{number:05}-{attempt}.{ending}"
        partial = path.with_name(path.name + PARTIAL)
        rows: Rows = ParquetRows(partial) if form == "parquet" else NdjsonRows(partial)
        return OpenFile(number, role, resource_type, path, rows)

    def check_room(self) -> None:
        """Raises NoRoom."""
        if free_bytes(self.path) < self._min_free_bytes:
            raise NoRoom

    def lines(self, file: ExportFile) -> Iterator[Resource]:
        """The resources of an NDJSON file, one at a time."""
        with (self.path / file.name).open("rb") as opened:
            for line in opened:
                yield orjson.loads(line)

    def ids(self, file: ExportFile) -> Iterator[str]:
        """Ids of the resources in a file of either form."""
        if file.name.endswith(".parquet"):
            yield from ParquetRows.ids(self.path / file.name)
        else:
            yield from (str(row["id"]) for row in self.lines(file) if "id" in row)

    def remove(self) -> None:
        """Remove the folder and all in it."""
        shutil.rmtree(self.path, ignore_errors=True)


def free_bytes(path: Path) -> int:
    """Free space for us on the disk of a folder, which may not be there yet."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def job_folders(root: Path) -> dict[UUID, Path]:
    """The folders below the export folder by job."""
    found = {}
    for one in root.iterdir() if root.is_dir() else ():
        try:
            found[UUID(one.name)] = one
        except ValueError:
            continue  # not ours
    return found
