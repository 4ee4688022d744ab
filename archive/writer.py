"""Makes received files durable, then visible: one thread commits a group of them at a time.

While one group is being committed the files of the next one are brought to the disk, each by the
thread of its sender, so that many senders share the cost of a commit; a single sender waits for
nobody.
"""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import psycopg
import structlog

from archive.connection import OwnConnection, database_error
from archive.errors import ArchiveError, ArchiveUnavailable
from archive.files import Files
from archive.header import Header
from archive.incoming import Incoming
from archive.index import Memory, enter
from archive.keys import Source, Stored
from archive.rows import Entry, Outcome

log = structlog.get_logger(__name__)

GROUP = 100
UNANSWERED = 1000
SYNCHRONISERS = 4
"""Threads that wait for the disk for callers that do not; it merges what they ask for."""


@dataclass(slots=True)
class Job:
    """A finished temporary file on its way to its place; `done` gets the answer.

    Attributes:
        place: Where it lies below the root, once it has been moved there.
    """

    incoming: Incoming
    header: Header
    source: Source
    place: str = ""
    done: Future[Stored] = field(default_factory=Future)

    def refuse(self, error: ArchiveError) -> None:
        """Answer with an error that names the instance; the temporary file goes."""
        error.key = error.key or self.header.key
        self.incoming.discard()
        self.done.set_exception(error)


class Writer:
    """Owns the order: move and synchronise, commit, then tell the callers."""

    def __init__(self, files: Files, dsn: str, *, durable: bool) -> None:
        self._files = files
        self._index = OwnConnection(dsn, durable=durable)
        self._memory = Memory()
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        # Bounded: too many unanswered jobs make the submitters wait, which TCP passes on to their
        # peers. Who stores has one at a time.
        self._room = threading.Semaphore(UNANSWERED)
        self._pool = ThreadPoolExecutor(SYNCHRONISERS, "archive-sync")
        self._thread = threading.Thread(target=self._run, name="archive-writer", daemon=True)
        self._thread.start()

    def store(self, job: Job) -> Stored:
        """Carry a job out; raises what the archive refuses.

        The file is brought to the disk by the thread that calls: those of several senders wait
        for it at the same time.
        """
        self._bring(job)
        return job.done.result()

    def submit(self, job: Job) -> Future[Stored]:
        """Take a job over; its future raises what the archive refuses."""
        self._room.acquire()
        job.done.add_done_callback(lambda _: self._room.release())
        self._pool.submit(self._bring, job)
        return job.done

    def close(self) -> None:
        """Finish what is under way and end the threads."""
        self._pool.shutdown()
        self._jobs.put(None)
        self._thread.join()
        self._index.close()

    def _bring(self, job: Job) -> None:
        """Move a file to its place, bytes and name on the disk; then it waits for its group."""
        # The boundary of a thread: whatever it is, no caller may be left waiting for ever.
        try:
            job.place = self._files.place(job.header.key, job.header.sha256)
            self._files.keep(job.incoming, job.place)
        except ArchiveError as error:
            job.refuse(error)
        except Exception as error:  # noqa: BLE001
            log.error("file not brought to its place", error=type(error).__name__)
            job.refuse(ArchiveUnavailable("the file could not be kept"))
        else:
            self._jobs.put(job)

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
        # The boundary of a thread, as above.
        try:
            self._commit(jobs)
        except Exception as error:  # noqa: BLE001
            log.warning("index refused a group", size=len(jobs), error=type(error).__name__)
            for job in jobs:
                if not job.done.done():
                    job.refuse(database_error(error))

    def _commit(self, jobs: list[Job]) -> None:
        """Enter the group; if the database refuses it, each instance alone, to find the one.

        A file whose entry failed is left where it is: whether the commit arrived cannot always
        be known, and a file without a row is never served and is swept away later.
        """
        entries = [Entry(job.header, job.source, job.place) for job in jobs]
        try:
            outcomes = self._index.run(lambda connection: enter(connection, entries, self._memory))
        except psycopg.Error as error:
            if len(jobs) > 1 and not isinstance(error, psycopg.OperationalError):
                for one in jobs:
                    self._commit([one])
                return
            log.warning("index refused a group", size=len(jobs), error=type(error).__name__)
            for job in jobs:
                job.refuse(database_error(error))
            return
        for job, outcome in zip(jobs, outcomes, strict=True):
            if not (isinstance(outcome, Stored) and outcome.outcome == "stored"):
                self._files.discard(job.place)
            self._answer(job, outcome)

    def _answer(self, job: Job, outcome: Outcome) -> None:
        if isinstance(outcome, Stored):
            job.done.set_result(outcome)
        else:
            job.refuse(outcome)
