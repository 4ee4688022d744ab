"""The archive itself: receive, write, match, read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, Self

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from archive import deletion, feed, integrity, reading, walking
from archive.commitments import Commitments
from archive.config import ArchiveConfig
from archive.connection import configure, database_error
from archive.errors import ArchiveError, Corrupted
from archive.files import Files
from archive.frame_reader import FrameReader, frame_reader
from archive.header import check_claims, read_header
from archive.incoming import Incoming
from archive.keys import (
    BulkData,
    Change,
    DicomJson,
    InstanceKey,
    InstanceRecord,
    JsonPage,
    Page,
    SeriesMetadata,
    Source,
    Stored,
)
from archive.match import LevelName
from archive.proven import Proven
from archive.query import Query
from archive.query_tags import QueryTags, concerns, prepared
from archive.search import search, search_json
from archive.standing import Standing, standings
from archive.summary import StudySummary
from archive.sweep import MIN_AGE_S, Sweeper, sweep
from archive.workitems import Workitems
from archive.writer import Job, Writer
from database import migrate

SCHEMA = "archive"
MIGRATIONS = Path(__file__).parent / "migrations"


class Archive:
    """DICOM files on disk with their index in PostgreSQL; safe to share between threads.

    Several processes may open the same archive at once.
    """

    def __init__(self, config: ArchiveConfig, files: Files, pool: ConnectionPool) -> None:
        self._config = config
        self._files = files
        self._pool = pool
        self._writer = Writer(files, config.dsn, durable=config.durable)
        self._proven = Proven()
        self.workitems = Workitems(self._connection)
        self.commitments = Commitments(self._connection)
        self.query_tags = QueryTags(self._connection, config)

    @classmethod
    def open(cls, config: ArchiveConfig) -> Archive:
        """Bring the index up to date, clean up after dead processes and open the archive."""
        migrate(config.dsn, SCHEMA, MIGRATIONS)
        pool = ConnectionPool(
            config.dsn,
            min_size=2,
            max_size=config.connections,
            timeout=10,
            kwargs={"autocommit": True},
            configure=partial(configure, durable=config.durable),
            check=ConnectionPool.check_connection,
            name="archive",
            open=True,
        )
        return cls(config, Files(config), pool)

    def close(self) -> None:
        """Finish the writes that are under way and let go of files and database."""
        self._writer.close()
        self._pool.close()
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def receive(self) -> Incoming:
        """A temporary file for one Part 10 file, to be used as a context.

        Raises:
            OutOfSpace: free disk is below the limit.
        """
        return self._files.receive()

    def store(
        self,
        incoming: Incoming,
        source: Source,
        *,
        studies: frozenset[str] | None = None,
        announced: tuple[str, str] | None = None,
    ) -> Stored:
        """Keep a completely received file; when this returns it survives a power cut.

        Storing the same content again changes nothing and succeeds. The first copy of a SOP
        Instance UID always stays.

        Args:
            incoming: The file, still inside its context.
            source: Where it came from.
            studies: The only studies this sender may write to; None means any.
            announced: SOP Class and SOP Instance UID that the sender said it would send.

        Raises:
            ArchiveError: one of the refusals in `archive.errors`; nothing was changed.
        """
        return self._writer.store(self._job(incoming, source, studies, announced))

    def submit(
        self,
        incoming: Incoming,
        source: Source,
        *,
        studies: frozenset[str] | None = None,
        announced: tuple[str, str] | None = None,
        judge: Callable[[InstanceKey, DicomJson], None] | None = None,
    ) -> Future[Stored]:
        """As `store`, but does not wait: the answer comes in the future.

        The file is the archive's from now on, also when its context ends. What can be refused at
        once is raised here; what the disk or the index refuses is raised by the future.
        Waits only while the queue of the archive is full, and for `judge`, which is called with
        the instance's key and what it says of its study, and may raise what it will.
        """
        return self._writer.submit(self._job(incoming, source, studies, announced, judge))

    def _job(
        self,
        incoming: Incoming,
        source: Source,
        studies: frozenset[str] | None,
        announced: tuple[str, str] | None,
        judge: Callable[[InstanceKey, DicomJson], None] | None = None,
    ) -> Job:
        """A received file that is in order, for the writer."""
        with incoming.parsed(self._config) as (part10, sums):
            header = read_header(part10, incoming.size, sums)
        try:
            check_claims(header, studies, announced)
            if judge is not None:
                judge(header.key, header.study)
            incoming.finish()
        except ArchiveError as error:
            error.key = error.key or header.key
            raise
        incoming.give_away()
        return Job(incoming, header, source)

    def delete(
        self,
        study: str,
        series: str | None = None,
        instance: str | None = None,
        *,
        source: Source,
        reason: str,
    ) -> int:
        """Delete a study, a series of it or an instance of that; returns how many instances.

        Each instance leaves a tombstone in the feed. Who has a file open reads it to its end;
        the same instance may be stored again afterwards.
        Raises InstanceNotFound.
        """
        target = deletion.Target(study, series, instance)
        with self._connection() as connection:
            places = deletion.delete(connection, self._config, target, source, reason)
        for place in places:
            self._files.discard(place)
        return len(places)

    def studies(self, query: Query) -> Page:
        """Studies that match, newest first. Raises QueryError."""
        return self._search("study", query)

    def series(self, query: Query) -> Page:
        """Series that match, in any study or in the one the query names. Raises QueryError."""
        return self._search("series", query)

    def instances(self, query: Query) -> Page:
        """Instances that match. Raises QueryError."""
        return self._search("instance", query)

    def page(self, level: LevelName, query: Query, base_url: str) -> JsonPage:
        """A page as ready JSON texts with RetrieveURLs below `base_url`. Raises QueryError."""
        with self._connection() as connection:
            return search_json(connection, level, prepared(connection, query), base_url)

    def standings(self, studies: Collection[str]) -> dict[str, Standing]:
        """Where those of the studies stand that are stored, by their UIDs."""
        with self._connection() as connection:
            return standings(connection, studies)

    def instance(self, key: InstanceKey) -> InstanceRecord:
        """One instance. Raises InstanceNotFound."""
        with self._connection() as connection:
            return reading.record(connection, self._config, key)

    def series_instances(self, study: str, series: str) -> list[InstanceRecord]:
        """Instances of a series by InstanceNumber. Raises InstanceNotFound if there are none."""
        with self._connection() as connection:
            return reading.records(connection, self._config, study, series)

    def study_instances(self, study: str) -> list[InstanceRecord]:
        """Instances of a study, series by series. Raises InstanceNotFound if there are none."""
        with self._connection() as connection:
            return reading.records(connection, self._config, study, None)

    def metadata(self, study: str, series: str) -> SeriesMetadata:
        """DICOM JSON array of the series, made on the first ask after a change.

        BulkDataURI is relative to the series (`instances/<uid>/bulkdata/<path>`).
        Raises InstanceNotFound.
        """
        with self._connection() as connection:
            kept = reading.kept_metadata(connection, study, series)
            if kept is not None:
                return kept
            version = reading.series_version(connection, study, series)
            found = reading.records(connection, self._config, study, series)
        # Built without a connection: a large series takes a while.
        with self._explained():
            made = reading.build_metadata(self._config, found)
        with self._connection() as connection:
            reading.keep_metadata(connection, study, series, version, made)
        return made

    def instance_metadata(self, key: InstanceKey) -> DicomJson:
        """DICOM JSON of one instance, BulkDataURI as in `metadata`. Raises InstanceNotFound."""
        with self._explained():
            return reading.instance_metadata(self._config, self.instance(key))

    def iterate(
        self, level: walking.RowLevel, query: Query, batch: int = 500
    ) -> Iterator[DicomJson]:
        """Every match, in bounded memory, in the order of `studies`, `series`, `instances`.

        At the level "patient" one row for each PatientID and its issuer, with
        NumberOfPatientRelatedStudies, -Series and -Instances.

        Holds no connection between two batches, so that a slow reader stops nobody.
        Raises QueryError at once, not at the first item.
        """
        if level != "patient" and concerns(query):
            with self._connection() as connection:
                query = prepared(connection, query)
        return walking.iterate(self._connection, level, query, batch)

    def records_of(
        self,
        *,
        studies: Sequence[str] = (),
        series: Sequence[str] = (),
        instances: Sequence[str] = (),
        patient_ids: Sequence[str] = (),
        batch: int = 500,
    ) -> Iterator[InstanceRecord]:
        """Instances that meet each restriction given, in bounded memory, series by series.

        Raises QueryError if there is no restriction at all.
        """
        asked = (
            ("instance.study_uid", studies),
            ("instance.series_uid", series),
            ("instance.sop_uid", instances),
            ("study.patient_id", patient_ids),
        )
        return walking.records_of(self._connection, self._config, asked, batch)

    def verify(self, key: InstanceKey) -> bool:
        """Whether size and digest of the bytes on disk are those that were stored.

        Raises InstanceNotFound.
        """
        return integrity.is_intact(self.instance(key))

    def read(self, key: InstanceKey) -> BinaryIO:
        """The whole Part 10 file as it was stored; only its size is checked.

        Raises InstanceNotFound or Corrupted.
        """
        return self.open_file(self.instance(key))

    def open_file(self, found: InstanceRecord) -> BinaryIO:
        """The file of a record, of the right size; see `read`."""
        with self._explained():
            return integrity.open_sized(found)

    def content(self, found: InstanceRecord, chunk: int = integrity.CHUNK) -> Iterator[bytes]:
        """The whole file of a record in pieces, its digest checked on the way.

        The last piece is given only if the digest is right, so that a damaged file is never
        complete; one that fits in a single piece is checked before its first byte. A file that
        was right a short while ago, and has not changed, is not checked again.
        Raises InstanceNotFound, or Corrupted (at once, or in place of the last piece).
        """
        return integrity.proven_chunks(self.open_file(found), found, chunk, self._proven)

    def frame(self, key: InstanceKey, number: int) -> bytes:
        """Frame `number`, counted from 1.

        Compressed frames come as they are, their fragments joined. Uncompressed frames come
        little endian, and 1-bit frames beginning at a byte of their own.
        Raises InstanceNotFound or FrameNotFound.
        """
        return self.read_frame(self.frame_reader(key), number)

    def frame_reader(self, key: InstanceKey) -> FrameReader:
        """The record of an instance and where its frames lie. Raises InstanceNotFound."""
        with self._connection() as connection:
            return frame_reader(connection, self._config, key)

    def read_frame(self, reader: FrameReader, number: int) -> bytes:
        """One frame of an instance whose reader is at hand; see `frame`."""
        with self._explained():
            return reader.read(number)

    def bulkdata(self, key: InstanceKey, path: str) -> BulkData:
        """A bulk value by the path in its BulkDataURI. Raises InstanceNotFound."""
        with self._explained():
            return reading.bulkdata(self._config, self.instance(key), path)

    def changes(self, after: int, limit: int) -> list[Change]:
        """Changes behind sequence number `after`; a later commit never has a smaller number.

        Each commit also notifies the PostgreSQL channel `archive.index.CHANNEL`.
        """
        with self._connection() as connection:
            return feed.changes(connection, after, limit)

    def last_change(self) -> int:
        """Sequence number of the newest change; 0 before the first."""
        with self._connection() as connection:
            return feed.last_sequence(connection)

    def study_summary(self, study: str) -> StudySummary | None:
        """What other standards say about a study; None if it is not stored."""
        with self._connection() as connection:
            return feed.study_summary(connection, study)

    def _search(self, level: LevelName, query: Query) -> Page:
        with self._connection() as connection:
            return search(connection, level, prepared(connection, query))

    def sweep(self, min_age_s: float = MIN_AGE_S) -> int:
        """Remove files that no row names and that are older than this; returns how many."""
        return sweep(self._connection, self._config, min_age_s)

    def sweeper(self) -> Sweeper:
        """Sweeps in the background while its context lasts: at once, and once an hour."""
        return Sweeper(self._connection, self._config)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Tell a file that was deleted while it was asked for from one that is lost."""
        try:
            yield
        except integrity.FileAway as away:
            self.instance(away.found.key)  # raises InstanceNotFound if it was deleted
            raise Corrupted(away.found.key) from away

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection]:
        try:
            with self._pool.connection() as connection:
                yield connection
        except (psycopg.Error, PoolTimeout) as error:
            raise database_error(error) from error
