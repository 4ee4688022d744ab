"""One thread that makes stored files durable and visible, a group of callers at a time.

While one group is being committed the next one gathers, so that many senders share the cost of
synchronising a folder and of a commit; a single sender waits for nobody.
"""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import structlog
from psycopg_pool import ConnectionPool, PoolTimeout

from archive.errors import ArchiveError, ArchiveUnavailable, NotDicom, OutOfSpace
from archive.files import Files, Incoming
from archive.header import Header
from archive.index import Entry, Outcome, enter
from archive.keys import Source, Stored

log = structlog.get_logger(__name__)

GROUP = 100
QUEUE = 1000


@dataclass(slots=True)
class Job:
    """A finished temporary file waiting for its place; `done` gets the answer."""

    incoming: Incoming
    header: Header
    source: Source
    done: Future[Stored] = field(default_factory=Future)


class Writer:
    """Owns the order: rename, synchronise the folders, commit, then tell the callers."""

    def __init__(self, files: Files, pool: ConnectionPool) -> None:
        self._files = files
        self._pool = pool
        # Bounded: a full queue makes the senders wait, which TCP passes on to their peers.
        self._jobs: queue.Queue[Job | None] = queue.Queue(QUEUE)
        self._thread = threading.Thread(target=self._run, name="archive-writer", daemon=True)
        self._thread.start()

    def write(self, job: Job) -> Stored:
        """Wait until the instance is durable; raises what the archive refuses."""
        self._jobs.put(job)
        return job.done.result()

    def close(self) -> None:
        """Finish what is queued and end the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        ending = False
        while not ending:
            jobs: list[Job] = []
            job = self._jobs.get()
            while True:
                if job is None:
                    ending = True
                else:
                    jobs.append(job)
                try:
                    if ending or len(jobs) >= GROUP:
                        break
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
            if jobs:
                self._write_group(jobs)

    def _write_group(self, jobs: list[Job]) -> None:
        placed: list[tuple[Job, Entry]] = []
        folders: set[Path] = set()
        for job in jobs:
            place = self._files.place(job.header.key, job.header.sha256)
            try:
                folders.add(self._files.keep(job.incoming, place))
            except ArchiveError as error:
                job.done.set_exception(error)
                continue
            placed.append((job, Entry(job.header, job.source, place)))
        try:
            for folder in folders:
                self._files.sync_folder(folder)
        except ArchiveError as error:
            for job, _ in placed:
                job.done.set_exception(error)
            return
        self._commit(placed)

    def _commit(self, placed: list[tuple[Job, Entry]]) -> None:
        """Enter the group; if the database refuses it, each instance alone, to find the one.

        A file whose entry failed is left where it is: whether the commit arrived cannot always
        be known, and a file without a row is never served and is taken up by the next try.
        """
        if not placed:
            return
        try:
            with self._pool.connection(timeout=10) as connection:
                outcomes = enter(connection, [entry for _, entry in placed])
        # The boundary of the thread: whatever it is, no caller may be left waiting for ever.
        except Exception as error:  # noqa: BLE001
            if len(placed) > 1 and not isinstance(error, psycopg.OperationalError | PoolTimeout):
                for one in placed:
                    self._commit([one])
                return
            log.warning("index refused a group", size=len(placed), error=type(error).__name__)
            for job, _ in placed:
                job.done.set_exception(database_error(error))
            return
        for (job, entry), outcome in zip(placed, outcomes, strict=True):
            self._answer(job, entry, outcome)

    def _answer(self, job: Job, entry: Entry, outcome: Outcome) -> None:
        if isinstance(outcome, Stored):
            job.done.set_result(outcome)
            return
        # Its content differs from what is served, so its name does too.
        self._files.discard(entry.place)
        job.done.set_exception(outcome)


def database_error(error: Exception) -> ArchiveError:
    """What a failed statement means to the caller."""
    if isinstance(error, psycopg.errors.DiskFull):
        return OutOfSpace("the database has no room")
    if isinstance(error, psycopg.DataError | psycopg.errors.ProgramLimitExceeded):
        return NotDicom("an attribute cannot be indexed")
    return ArchiveUnavailable(f"the index does not answer ({type(error).__name__})")
