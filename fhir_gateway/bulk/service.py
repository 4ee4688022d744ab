"""The export work of one process: claims jobs, keeps its claims alive, clears away what expired.

Any number of processes may do this. A job belongs to the one that claimed it for as long as it
renews its lease; of one that was killed, another goes on seconds later.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator

import structlog

from access import Caller
from fhir_gateway.bulk.config import BulkConfig
from fhir_gateway.bulk.files import JobFolder, NoRoom, job_folders
from fhir_gateway.bulk.heart import Heart
from fhir_gateway.bulk.jobs import Job, JobLost, Jobs
from fhir_gateway.bulk.run import planned, run
from fhir_gateway.bulk.shaping import Shape
from fhir_gateway.bulk.sink import Limits, Sink
from fhir_gateway.bulk.store import Store, StoreAway, StoreRefused
from fhir_gateway.bulk.types import Incomplete
from fhir_gateway.bulk.work import Work
from fhir_gateway.outcome import Refusal
from fhir_gateway.upstream import Upstream

IDLE_S = 1.0
SWEEP_S = 30.0
RETRY_S = 5.0

log = structlog.get_logger(__name__)


class BulkService:
    """Works on exports until told to stop."""

    def __init__(self, config: BulkConfig, upstream: Upstream, jobs: Jobs) -> None:
        self._config = config
        self._upstream = upstream
        self._jobs = jobs
        self._stop = asyncio.Event()
        self._wake = asyncio.Event()
        self._leftover = asyncio.Event()

    def clear_soon(self) -> None:
        """Files are no longer wanted: clear away at once."""
        self._leftover.set()

    def wake(self) -> None:
        """A job was accepted: look at once."""
        self._wake.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work in the background of the block."""
        self._config.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        tasks = [asyncio.create_task(self._for_ever()) for _ in range(self._config.at_once)]
        tasks.append(asyncio.create_task(self._sweep()))
        try:
            yield
        finally:
            self._stop.set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _for_ever(self) -> None:
        while not self._stop.is_set():
            try:
                job = await self._jobs.claim()
                if job is not None:
                    await self._work(job)
                    continue
            except Exception as error:  # process boundary: a background task must not die silently
                log.error("bulk.failed", kind=type(error).__name__, exc_info=True)
                await asyncio.sleep(RETRY_S)
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), IDLE_S)

    async def _work(self, job: Job) -> None:
        """Do the work of a job that is ours now, to its end."""
        log.info("bulk.started", job=str(job.id), attempt=job.attempt)
        folder = JobFolder(self._config.folder, job.id, self._config.min_free_bytes)
        try:
            await self._guarded(job, folder)
        except JobLost:
            log.info("bulk.lost", job=str(job.id), attempt=job.attempt)
        except asyncio.CancelledError:
            with contextlib.suppress(JobLost):
                await asyncio.shield(self._jobs.release(job))
            raise

    async def _guarded(self, job: Job, folder: JobFolder) -> None:
        try:
            await self._do(job, folder)
            await self._jobs.complete(job, self._config.keep_s)
            log.info("bulk.complete", job=str(job.id))
            return
        except StoreAway:
            reason = "the FHIR store did not answer for too long"
        except NoRoom:
            reason = "there is not enough room for the files of this export"
        except Incomplete:
            reason = "the FHIR store refused every type of this export"
        except (StoreRefused, Refusal) as error:
            reason = str(error)
        except OSError as error:
            log.error("bulk.files_failed", job=str(job.id), exc_info=True)
            reason = f"the files could not be written ({type(error).__name__})"
        await self._jobs.fail(job, reason, self._config.keep_s)
        await asyncio.to_thread(folder.remove)
        log.warning("bulk.gave_up", job=str(job.id), reason=reason)

    async def _do(self, job: Job, folder: JobFolder) -> None:
        await asyncio.to_thread(folder.prepare, job.files)
        await asyncio.to_thread(folder.check_room)
        heart = Heart(job, self._jobs)
        store = self._store(job.caller, heart)
        registry = self._store(None, heart)
        limits = Limits(self._config.file_rows, self._config.file_bytes)
        sink = Sink(job, self._jobs, folder, limits)
        shape = Shape(self._config.fhir_base, job.request.elements)
        beating = asyncio.create_task(heart.beat())
        try:
            plan = await planned(job, self._jobs, store, registry)
            issues = list(job.issues)
            work = Work(job, self._jobs, folder, sink, store, shape, plan, issues=issues)
            heart.work = work
            await run(work)
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    async def _sweep(self) -> None:
        """Clear away files of jobs that are over, and folders of which no row speaks."""
        while not self._stop.is_set():
            try:
                await self._clear()
            except Exception as error:  # process boundary: a background task must not die silently
                log.error("bulk.sweep_failed", kind=type(error).__name__, exc_info=True)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._leftover.wait(), SWEEP_S)
            self._leftover.clear()

    async def _clear(self) -> None:
        await self._jobs.expire()
        # Folders first: one that is made from here on is of a job that is asked about below.
        folders = await asyncio.to_thread(job_folders, self._config.folder)
        known = await self._jobs.known()
        for job, path in folders.items():
            if job not in known:
                await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)

    def _store(self, caller: Caller | None, heart: Heart) -> Store:
        patience = self._config.patience_s
        return Store(self._upstream, caller, patience_s=patience, meanwhile=heart.check)
