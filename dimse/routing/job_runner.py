"""Does the jobs: a thread for each lane that has something due, and one that looks for those."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import psycopg
import structlog

from dimse.routing.jobs import Job, Jobs, Kind

log = structlog.get_logger(__name__)

_LOOK_AGAIN_S = 2.0
_KEEP_DAYS = 30


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a try.

    Attributes:
        verdict: "done"; "away": the peer cannot be reached or has no room, which is not the job's
            fault; "refused": the peer does not want it; "hopeless": trying again is of no use.
        left: SOP instances that are still to be sent.
    """

    verdict: Literal["done", "away", "refused", "hopeless"]
    message: str
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long is tried.

    Attributes:
        attempts: Tries that a peer may refuse before the job has failed.
        first_s: Wait after the first failure; each further one doubles it.
        longest_s: Longest wait.
        days: A peer may be away for so long before its jobs fail.
    """

    attempts: int = 5
    first_s: float = 5.0
    longest_s: float = 600.0
    days: float = 7.0


Handler = Callable[[Job, Callable[[], bool]], Result]


class JobRunner:
    """Does jobs until it is closed; several processes share the lanes between them.

    Args:
        jobs: The table.
        handlers: Who does which kind; the second argument tells whether to stop.
        patience: Of a rule, by its name.
        look_s: How often is looked for something due.
    """

    def __init__(
        self,
        jobs: Jobs,
        handlers: Mapping[Kind, Handler],
        patience: Callable[[str], Patience] = lambda _: Patience(),
        look_s: float = 1.0,
    ) -> None:
        self._jobs = jobs
        self._handlers = handlers
        self._patience = patience
        self._look_s = look_s
        self._stopping = threading.Event()
        self._lanes: dict[str, threading.Thread] = {}
        self._thread = threading.Thread(target=self._run, name="dimse-jobs", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Stop behind the instances that are under way; the rest is done by who comes next."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        for thread in list(self._lanes.values()):
            thread.join()

    def _run(self) -> None:
        swept = 0.0
        while not self._stopping.is_set():
            try:
                if time.monotonic() - swept > 3600:
                    self._jobs.forget(_KEEP_DAYS)
                    swept = time.monotonic()
                for lane in self._jobs.due_lanes():
                    self._serve(lane)
            except psycopg.Error as error:
                log.warning("jobs not read", error=type(error).__name__)
            self._stopping.wait(self._look_s)

    def _serve(self, lane: str) -> None:
        running = self._lanes.get(lane)
        if running is not None and running.is_alive():
            return
        thread = threading.Thread(target=self._drain, args=[lane], name=f"dimse-{lane}")
        thread.daemon = True
        self._lanes[lane] = thread
        thread.start()

    def _drain(self, lane: str) -> None:
        """Do what is due in a lane, in its order, unless another process does."""
        try:
            with self._jobs.alone(lane) as mine:
                while mine and not self._stopping.is_set():
                    job = self._jobs.take(lane)
                    if job is None:
                        return
                    self._do(job)
        except psycopg.Error as error:
            log.warning("lane left", lane=lane, error=type(error).__name__)

    def _do(self, job: Job) -> None:
        stop = _Stop(self._jobs, job, self._stopping)
        try:
            result = self._handlers[job.kind](job, stop)
        # The boundary of a lane: one job that makes our own code fail must not stop the others.
        except Exception as error:
            log.exception("job failed", job=job.id)
            result = Result("refused", f"internal error ({type(error).__name__})", stop.left(job))
        patience = self._patience(job.rule)
        if self._stopping.is_set() and result.verdict != "done":
            self._jobs.put_back(job, "interrupted", result.left, 0, refused=False)
            return
        state = verdict_of(job, result, patience)
        log.info("job tried", job=job.id, lane=job.lane, state=state, why=result.message)
        if state == "again":
            wait_s = min(patience.longest_s, patience.first_s * 2 ** min(job.tries, 20))
            refused = result.verdict == "refused"
            self._jobs.put_back(job, result.message, result.left, wait_s, refused=refused)
        else:
            self._jobs.close_job(job, state, result.message, result.left)


def verdict_of(job: Job, result: Result, patience: Patience) -> Literal["done", "failed", "again"]:
    """What a result means for the job."""
    if result.verdict == "done":
        return "done"
    if result.verdict == "hopeless":
        return "failed"
    if result.verdict == "refused":
        return "failed" if job.attempts + 1 >= patience.attempts else "again"
    age = datetime.now(UTC) - job.added
    return "failed" if age > timedelta(days=patience.days) else "again"


class _Stop:
    """Whether a job is to be left: we are closing, or somebody has cancelled it."""

    def __init__(self, jobs: Jobs, job: Job, stopping: threading.Event) -> None:
        self._jobs = jobs
        self._job = job
        self._stopping = stopping
        self._looked = time.monotonic()
        self._cancelled = False

    def __call__(self) -> bool:
        if not self._cancelled and time.monotonic() - self._looked > _LOOK_AGAIN_S:
            self._looked = time.monotonic()
            self._cancelled = self._jobs.is_cancelled(self._job)
        return self._cancelled or self._stopping.is_set()

    @staticmethod
    def left(job: Job) -> tuple[str, ...]:
        """What is left of a job that nothing is known of."""
        return tuple(job.instances)
