"""The archive itself: receive, write, match, read."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Self

from archive.config import ArchiveConfig
from archive.keys import (
    BulkData,
    Change,
    DicomJson,
    InstanceKey,
    InstanceRecord,
    Page,
    SeriesMetadata,
    Source,
    Stored,
)
from archive.query import Query
from archive.summary import StudySummary


class Incoming:
    """A Part 10 file on its way in: a temporary file that vanishes unless it is stored."""

    path: Path
    size: int

    def write(self, data: bytes | bytearray | memoryview) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class Archive:
    """DICOM files on disk with their index in PostgreSQL; safe to share between threads."""

    @classmethod
    def open(cls, config: ArchiveConfig) -> Archive: ...

    def close(self) -> None: ...

    def receive(self) -> Incoming: ...

    def store(self, incoming: Incoming, source: Source) -> Stored: ...

    def studies(self, query: Query) -> Page: ...

    def series(self, query: Query) -> Page: ...

    def instances(self, query: Query) -> Page: ...

    def instance(self, key: InstanceKey) -> InstanceRecord: ...

    def series_instances(self, study: str, series: str) -> list[InstanceRecord]: ...

    def study_instances(self, study: str) -> list[InstanceRecord]: ...

    def metadata(self, study: str, series: str) -> SeriesMetadata: ...

    def instance_metadata(self, key: InstanceKey) -> DicomJson: ...

    def read(self, key: InstanceKey) -> BinaryIO: ...

    def frame(self, key: InstanceKey, number: int) -> bytes: ...

    def bulkdata(self, key: InstanceKey, path: str) -> BulkData: ...

    def changes(self, after: int, limit: int) -> list[Change]: ...

    def study_summary(self, study: str) -> StudySummary | None: ...
