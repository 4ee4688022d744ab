"""One thread that makes stored files durable and visible, a group of callers at a time.

While one group is being committed the next one gathers, so that many senders share the cost of
synchronising files and of a commit; a single sender waits for nobody.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psycopg
import structlog

from archive.connection import OwnConnection
from archive.errors import ArchiveError, ArchiveUnavailable, NotDicom, OutOfSpace
from archive.files import Files
from archive.header import Header
from archive.incoming import Incoming
from archive.index import enter
from archive.keys import Source, Stored
from archive.rows import Entry, Outcome

log = structlog.get_logger(__name__)

GROUP = 100
QUEUE = 1000
SYNCHRONISERS = 4
"""Threads that wait for the disk; it merges what they ask for."""


@dataclass(slots=True)
class Job:
    """A finished temporary file waiting for its place; `done` gets the answer."""

    incoming: Incoming
    header: Header
    source: Source
    done: Future[Stored] = field(default_factory=Future)

    def refuse(self, error: ArchiveError) -> None:
        """Answer with an error that names the instance; the temporary file goes."""
        error.key = error.key or self.header.key
        self.incoming.discard()
        self.done.set_exception(error)


Placed = tuple[Job, Entry]
Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Writer:
    """Owns the order: move, synchronise files and folders, commit, then tell the callers."""

    def __init__(self, files: Files, dsn: str, *, durable: bool) -> None:
        self._files = files
        self._index = OwnConnection(dsn, durable=durable)
        # Bounded: a full queue makes the senders wait, which TCP passes on to their peers.
        self._jobs: queue.Queue[Job | None] = queue.Queue(QUEUE)
        self._pool = ThreadPoolExecutor(SYNCHRONISERS, "archive-sync")
        self._thread = threading.Thread(target=self._run, name="archive-writer", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> Future[Stored]:
        """Take a job over; its future raises what the archive refuses."""
        self._jobs.put(job)
        return job.done

    def close(self) -> None:
        """Finish what is queued and end the thread."""
        self._jobs.put(None)
        self._thread.join()
        self._pool.shutdown()
        self._index.close()

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
        # The boundary of the thread: whatever it is, no caller may be left waiting for ever.
        try:
            self._commit(self._place(jobs))
        except Exception as error:  # noqa: BLE001
            log.warning("index refused a group", size=len(jobs), error=type(error).__name__)
            for job in jobs:
                if not job.done.done():
                    job.refuse(database_error(error))

    def _place(self, jobs: list[Job]) -> list[Placed]:
        """Bring the files to their places and on the disk, several at a time."""
        placed: list[Placed] = []
        folders: dict[Path, ArchiveError | None] = {}
        moved: list[tuple[Job, str, Path | ArchiveError]] = []
        for job, place, result in self._all(self._keep, jobs):
            moved.append((job, place, result))
            if isinstance(result, Path):
                folders[result] = None
        for folder, failure in self._all(self._sync, list(folders)):
            folders[folder] = failure
        for job, place, result in moved:
            failed = result if isinstance(result, ArchiveError) else folders[result]
            if failed is not None:
                job.refuse(failed)
            else:
                placed.append((job, Entry(job.header, job.source, place)))
        return placed

    def _all(self, task: Callable[[Item], Answer], items: Sequence[Item]) -> Iterable[Answer]:
        return map(task, items) if len(items) < 2 else self._pool.map(task, items)

    def _keep(self, job: Job) -> tuple[Job, str, Path | ArchiveError]:
        place = self._files.place(job.header.key, job.header.sha256)
        try:
            return job, place, self._files.keep(job.incoming, place)
        except ArchiveError as error:
            return job, place, error

    def _sync(self, folder: Path) -> tuple[Path, ArchiveError | None]:
        try:
            self._files.sync_folder(folder)
        except ArchiveError as error:
            return folder, error
        return folder, None

    def _commit(self, placed: list[Placed]) -> None:
        """Enter the group; if the database refuses it, each instance alone, to find the one.

        A file whose entry failed is left where it is: whether the commit arrived cannot always
        be known, and a file without a row is never served and is swept away later.
        """
        if not placed:
            return
        try:
            outcomes = self._index.run(
                lambda connection: enter(connection, [entry for _, entry in placed])
            )
        except psycopg.Error as error:
            if len(placed) > 1 and not isinstance(error, psycopg.OperationalError):
                for one in placed:
                    self._commit([one])
                return
            log.warning("index refused a group", size=len(placed), error=type(error).__name__)
            for job, _ in placed:
                job.refuse(database_error(error))
            return
        for (job, entry), outcome in zip(placed, outcomes, strict=True):
            if not (isinstance(outcome, Stored) and outcome.outcome == "stored"):
                self._files.discard(entry.place)
            self._answer(job, outcome)

    def _answer(self, job: Job, outcome: Outcome) -> None:
        if isinstance(outcome, Stored):
            job.incoming.discard()
            job.done.set_result(outcome)
        else:
            job.refuse(outcome)


def database_error(error: Exception) -> ArchiveError:
    """What a failed statement means to the caller."""
    if isinstance(error, psycopg.errors.DiskFull):
        return OutOfSpace("the database has no room")
    if isinstance(error, psycopg.DataError | psycopg.errors.ProgramLimitExceeded):
        return NotDicom("an attribute cannot be indexed")
    return ArchiveUnavailable(f"the index does not answer ({type(error).__name__})")
