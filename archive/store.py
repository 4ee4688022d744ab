"""The archive itself: receive, write, match, read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Self

import orjson
import psycopg
import structlog
from psycopg.types.json import set_json_loads
from psycopg_pool import ConnectionPool, PoolTimeout

from archive import feed, reading
from archive.config import ArchiveConfig
from archive.errors import ArchiveError, IdentityMismatch, WrongStudy
from archive.files import Files, Incoming
from archive.header import Header, read_header
from archive.index import known_outcome
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
from archive.migrate import migrate
from archive.query import Query
from archive.search import search, search_json
from archive.summary import StudySummary
from archive.writer import Job, Writer, database_error

log = structlog.get_logger(__name__)

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
        self._writer = Writer(files, pool)

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
            configure=_configure,
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
        started = time.perf_counter()
        incoming.flush()
        header = read_header(incoming.path, self._config)
        try:
            _check_claims(header, studies, announced)
            with self._connection() as connection:
                known = known_outcome(connection, header)
            if isinstance(known, ArchiveError):
                raise known
            if known is not None:
                return known
            incoming.finish(synchronise=self._config.synchronise_files)
            stored = self._writer.write(Job(incoming, header, source))
        except ArchiveError as error:
            error.key = error.key or header.key
            raise
        duration_ms = round((time.perf_counter() - started) * 1000, 1)
        log.debug("instance stored", instance=header.key.instance, ms=duration_ms)
        return stored

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
            return search_json(connection, level, query, base_url)

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
            found = reading.records(connection, self._config, study, series)
        # Built without a connection: a large series takes a while.
        made = reading.build_metadata(self._config, found)
        with self._connection() as connection:
            reading.keep_metadata(connection, study, series, len(found), made)
        return made

    def instance_metadata(self, key: InstanceKey) -> DicomJson:
        """DICOM JSON of one instance, BulkDataURI as in `metadata`. Raises InstanceNotFound."""
        return reading.instance_metadata(self._config, self.instance(key))

    def read(self, key: InstanceKey) -> BinaryIO:
        """The whole Part 10 file exactly as it was received. Raises InstanceNotFound."""
        return self.instance(key).path.open("rb")

    def frame(self, key: InstanceKey, number: int) -> bytes:
        """Frame `number`, counted from 1.

        Compressed frames come as they are, their fragments joined. Uncompressed frames come
        little endian, and 1-bit frames beginning at a byte of their own.
        Raises InstanceNotFound or FrameNotFound.
        """
        with self._connection() as connection:
            return reading.frame(connection, self._config, key, number)

    def bulkdata(self, key: InstanceKey, path: str) -> BulkData:
        """A bulk value by the path in its BulkDataURI. Raises InstanceNotFound."""
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
            return search(connection, level, query)

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection]:
        try:
            with self._pool.connection() as connection:
                yield connection
        except (psycopg.Error, PoolTimeout) as error:
            raise database_error(error) from error


def _check_claims(
    header: Header, studies: frozenset[str] | None, announced: tuple[str, str] | None
) -> None:
    if studies is not None and header.key.study not in studies:
        raise WrongStudy("the instance belongs to a study outside the permitted ones")
    if announced is not None and announced != (header.sop_class, header.key.instance):
        raise IdentityMismatch("the data set names another SOP class or instance")


def _configure(connection: psycopg.Connection) -> None:
    set_json_loads(orjson.loads, connection)
