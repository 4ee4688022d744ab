"""Export jobs as rows of the gateway: whose they are, what they may hold, where their rows lie."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from access import Caller
from fhir_gateway.schema import Pool


@dataclass(frozen=True, slots=True)
class ExportFile:
    """One NDJSON file: resource type, the store's Binary that holds it, number of lines.

    `patients_only`: lines of the Binary that refer to no patient are left out.
    """

    resource_type: str
    binary: str
    count: int
    patients_only: bool = False


@dataclass(frozen=True, slots=True)
class ExportJob:
    """One export: `types` is what its owner may have; `upstream` the store's own job id."""

    id: UUID
    request: str
    upstream: str
    types: frozenset[str]
    state: Literal["running", "complete", "failed"]
    transaction_time: str | None
    files: tuple[ExportFile, ...]
    reason: str | None
    expires_at: datetime | None


class ExportJobs:
    """The rows. Another caller's job is not found, as if it did not exist."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def start(
        self, caller: Caller, request: str, upstream: str, types: frozenset[str]
    ) -> UUID:
        """Remember a job that the store has accepted."""
        job_id = uuid4()
        async with self._pool.connection() as connection:
            await connection.execute(
                "insert into gateway.export_job"
                " (id, subject, client, request, upstream, types, state)"
                " values (%s, %s, %s, %s, %s, %s, 'running')",
                [job_id, caller.subject, caller.client, request, upstream, sorted(types)],
            )
        return job_id

    async def find(self, job_id: str, caller: Caller) -> ExportJob | None:
        """The caller's own job, unless it has expired."""
        try:
            key = UUID(job_id)
        except ValueError:
            return None
        async with self._pool.connection() as connection:
            found = await connection.execute(
                "select * from gateway.export_job where id = %s and subject = %s"
                " and client is not distinct from %s"
                " and (expires_at is null or expires_at > now())",
                [key, caller.subject, caller.client],
            )
            row = await found.fetchone()
        return None if row is None else _job(row)

    async def complete(
        self, job: ExportJob, transaction_time: str, files: list[ExportFile], keep_s: int
    ) -> None:
        """The store has finished: note the files and until when they can be fetched."""
        rows = [[f.resource_type, f.binary, f.count, f.patients_only] for f in files]
        async with self._pool.connection() as connection:
            await connection.execute(
                "update gateway.export_job set state = 'complete', transaction_time = %s,"
                " files = %s, expires_at = now() + make_interval(secs => %s)"
                " where id = %s and state = 'running'",
                [transaction_time, Jsonb(rows), keep_s, job.id],
            )

    async def fail(self, job: ExportJob, reason: str) -> None:
        """The store has given up."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "update gateway.export_job set state = 'failed', reason = %s where id = %s",
                [reason, job.id],
            )

    async def remove(self, job: ExportJob) -> None:
        """Forget a job; jobs that expired long ago go with it."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "delete from gateway.export_job where id = %s"
                " or expires_at < now() - interval '1 day'",
                [job.id],
            )


def _job(row: dict[str, Any]) -> ExportJob:
    return ExportJob(
        id=row["id"],
        request=row["request"],
        upstream=row["upstream"],
        types=frozenset(row["types"]),
        state=row["state"],
        transaction_time=row["transaction_time"],
        files=tuple(ExportFile(*entry) for entry in row["files"]),
        reason=row["reason"],
        expires_at=row["expires_at"],
    )
