"""Keeps a claim alive while its work goes on, and tells the work when the claim is lost."""

from __future__ import annotations

import asyncio

import psycopg
import psycopg_pool
import structlog

from fhir_gateway.bulk.jobs import LEASE_S, Job, JobLost, Jobs
from fhir_gateway.bulk.work import Work

RENEW_S = LEASE_S / 4

log = structlog.get_logger(__name__)


class Heart:
    """Renews the lease of one job; `work` is set once there is a plan."""

    def __init__(self, job: Job, jobs: Jobs) -> None:
        self._job = job
        self._jobs = jobs
        self._lost = False
        self.work: Work | None = None

    async def check(self) -> None:
        """Raises JobLost when another process has the job, or it was cancelled."""
        if self._lost:
            raise JobLost

    async def beat(self) -> None:
        """Renew the lease until the claim is lost."""
        while not self._lost:
            work = self.work
            written = work.sink.written if work else self._job.written
            try:
                await self._jobs.keep(self._job, written, work.doing if work else "")
            except JobLost:
                self._lost = True
                return
            except (psycopg.Error, psycopg_pool.PoolTimeout) as error:
                # An outage of the database: whether the claim outlives it shows afterwards.
                log.warning("bulk.lease_not_renewed", kind=type(error).__name__)
            await asyncio.sleep(RENEW_S)
