"""Export jobs as rows: their states, whose they are, who works on them, their files.

accepted -> running -> complete | failed; accepted or running -> cancelled;
complete or failed -> expired. All times are the database's, so clocks cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from access import Caller
from fhir_gateway.bulk.request import ExportRequest
from fhir_gateway.bulk.rules import caller_as_json, caller_from_json
from fhir_gateway.schema import Pool

State = Literal["accepted", "running", "complete", "failed", "cancelled", "expired"]
# output: for the client; work: will be arranged anew and then goes away.
Role = Literal["output", "deleted", "error", "work"]

LEASE_S = 10.0
MOST_ATTEMPTS = 20
BUSY_S = 120.0
FORGET_AFTER_DAYS = 7


class JobLost(Exception):
    """The job is no longer ours: cancelled, or taken over after our lease ran out."""


@dataclass(frozen=True, slots=True)
class ExportFile:
    """One finished file in the job's folder."""

    number: int
    role: Role
    resource_type: str
    name: str
    count: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Job:
    """One export as its row says; `files` are in the order of their numbers."""

    id: UUID
    caller: Caller
    request: ExportRequest
    state: State
    transaction_time: datetime | None
    plan: Mapping[str, Any] | None
    position: Mapping[str, Any] | None
    issues: tuple[str, ...]
    written: int
    expected: int | None
    doing: str
    reason: str | None
    attempt: int
    expires_at: datetime | None
    files: tuple[ExportFile, ...] = ()

    @property
    def open(self) -> bool:
        """Whether it is still being worked on."""
        return self.state in ("accepted", "running")


class Jobs:
    """The rows. Another caller's job is not found, as if it did not exist."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def accept(self, caller: Caller, request: ExportRequest, limit: int) -> UUID | None:
        """Remember a new job; None when its client has `limit` open ones already."""
        job_id = uuid4()
        async with self._pool.connection() as connection, connection.transaction():
            who = f"bulk:{caller.subject}:{caller.client}"
            await connection.execute("select pg_advisory_xact_lock(hashtext(%s))", [who])
            made = await connection.execute(
                "insert into gateway.bulk_job (id, subject, client, caller, request)"
                " select %(id)s, %(subject)s, %(client)s, %(caller)s, %(request)s"
                " where (select count(*) from gateway.bulk_job where subject = %(subject)s"
                " and client is not distinct from %(client)s"
                " and state in ('accepted', 'running')) < %(limit)s",
                {
                    "id": job_id,
                    "subject": caller.subject,
                    "client": caller.client,
                    "caller": Jsonb(caller_as_json(caller)),
                    "request": Jsonb(request.as_json()),
                    "limit": limit,
                },
            )
            return job_id if made.rowcount else None

    async def find(self, job_id: str, caller: Caller) -> Job | None:
        """The caller's own job, unless it is cancelled or has expired."""
        try:
            key = UUID(job_id)
        except ValueError:
            return None
        async with self._pool.connection() as connection:
            found = await connection.execute(
                "select * from gateway.bulk_job where id = %s and subject = %s"
                " and client is not distinct from %s and state not in ('cancelled', 'expired')"
                " and (expires_at is null or expires_at > now())",
                [key, caller.subject, caller.client],
            )
            row = await found.fetchone()
            return None if row is None else _job(row, await _files(connection, key))

    async def claim(self) -> Job | None:
        """The oldest job that nobody works on, now ours for a while; None when there is none."""
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute(
                "update gateway.bulk_job set state = 'failed', finished_at = now(),"
                " expires_at = now() + interval '1 hour', reason = 'interrupted too often'"
                " where state = 'running' and lease_until < now() and attempt >= %s",
                [MOST_ATTEMPTS],
            )
            found = await connection.execute(
                "update gateway.bulk_job set state = 'running', attempt = attempt + 1,"
                " lease_until = now() + make_interval(secs => %s) where id ="
                " (select id from gateway.bulk_job where state = 'accepted'"
                " or (state = 'running' and lease_until < now())"
                " order by created_at limit 1 for update skip locked) returning *",
                [LEASE_S],
            )
            row = await found.fetchone()
            return None if row is None else _job(row, await _files(connection, row["id"]))

    async def keep(self, job: Job, written: int, doing: str) -> None:
        """Say that we are still at it, and how far. Raises JobLost."""
        await self._ours(
            job,
            "lease_until = now() + make_interval(secs => %s), written = %s, doing = %s",
            [LEASE_S, written, doing[:60]],
        )

    async def begin(
        self, job: Job, at: datetime, plan: Mapping[str, Any], expected: int | None
    ) -> None:
        """Fix what the job writes. Raises JobLost."""
        await self._ours(
            job,
            "transaction_time = %s, plan = %s, expected = %s",
            [at, Jsonb(plan), expected],
        )

    async def reach(
        self,
        job: Job,
        position: Mapping[str, Any],
        written: int,
        add: Sequence[ExportFile] = (),
        drop: Sequence[int] = (),
    ) -> None:
        """Take over finished files together with the place to go on from. Raises JobLost."""
        async with self._pool.connection() as connection, connection.transaction():
            updated = await connection.execute(
                "update gateway.bulk_job set position = %s, written = %s"
                " where id = %s and state = 'running' and attempt = %s",
                [Jsonb(position), written, job.id, job.attempt],
            )
            if not updated.rowcount:
                raise JobLost
            await connection.execute(
                "delete from gateway.bulk_file where job = %s and number = any(%s)",
                [job.id, list(drop)],
            )
            async with connection.cursor() as cursor:
                await cursor.executemany(
                    "insert into gateway.bulk_file (job, number, role, resource_type, name, count,"
                    " bytes, sha256) values (%s, %s, %s, %s, %s, %s, %s, %s)",
                    [[job.id, *_columns(file)] for file in add],
                )

    async def note(self, job: Job, issue: str) -> None:
        """Add a line to what the error file will say. Raises JobLost."""
        await self._ours(job, "issues = issues || %s", [Jsonb([issue])])

    async def complete(self, job: Job, keep_s: int) -> None:
        """All is written. Raises JobLost."""
        await self._ours(
            job,
            "state = 'complete', finished_at = now(), doing = '',"
            " expires_at = now() + make_interval(secs => %s)",
            [keep_s],
        )

    async def fail(self, job: Job, reason: str, keep_s: int) -> None:
        """Give up; the reason goes to the client. Raises JobLost."""
        await self._ours(
            job,
            "state = 'failed', finished_at = now(), reason = %s,"
            " expires_at = now() + make_interval(secs => %s)",
            [reason, keep_s],
        )

    async def release(self, job: Job) -> None:
        """Let another process go on at once: this one stops. Raises JobLost."""
        await self._ours(job, "lease_until = now() - interval '1 second'", [])

    async def remove(self, job: Job) -> None:
        """Cancel an open job, or give up a finished one."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "update gateway.bulk_job set finished_at = coalesce(finished_at, now()), state ="
                " case when state in ('accepted', 'running') then 'cancelled' else 'expired' end"
                " where id = %s",
                [job.id],
            )

    async def busy(self, job_id: UUID) -> None:
        """A file is being fetched: keep the files for a while, whatever their expiry."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "update gateway.bulk_job set busy_until = greatest(busy_until,"
                " now() + make_interval(secs => %s)) where id = %s",
                [BUSY_S, job_id],
            )

    async def expire(self) -> None:
        """Mark what has expired, and forget what did so long ago."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "update gateway.bulk_job set state = 'expired'"
                " where state in ('complete', 'failed') and expires_at < now()"
                " and (busy_until is null or busy_until < now())"
            )
            await connection.execute(
                "delete from gateway.bulk_job where state in ('cancelled', 'expired')"
                " and finished_at < now() - make_interval(days => %s)",
                [FORGET_AFTER_DAYS],
            )

    async def known(self) -> set[UUID]:
        """Ids of all jobs that may have files."""
        async with self._pool.connection() as connection:
            found = await connection.execute(
                "select id from gateway.bulk_job where state not in ('cancelled', 'expired')"
            )
            return {row["id"] async for row in found}

    async def _ours(self, job: Job, change: str, values: list[Any]) -> None:
        statement = (
            f"update gateway.bulk_job set {change}"  # noqa: S608 - the change is ours, its values are not in it
            " where id = %s and state = 'running' and attempt = %s"
        )
        async with self._pool.connection() as connection:
            updated = await connection.execute(statement.encode(), [*values, job.id, job.attempt])
            if not updated.rowcount:
                raise JobLost


def _columns(file: ExportFile) -> list[Any]:
    return [
        file.number,
        file.role,
        file.resource_type,
        file.name,
        file.count,
        file.bytes,
        file.sha256,
    ]


async def _files(connection: Any, job_id: UUID) -> tuple[ExportFile, ...]:
    found = await connection.execute(
        "select number, role, resource_type, name, count, bytes, sha256"
        " from gateway.bulk_file where job = %s order by number",
        [job_id],
    )
    return tuple([ExportFile(**row) async for row in found])


def _job(row: Mapping[str, Any], files: tuple[ExportFile, ...]) -> Job:
    return Job(
        id=row["id"],
        caller=caller_from_json(row["caller"]),
        request=ExportRequest.from_json(row["request"]),
        state=row["state"],
        transaction_time=row["transaction_time"],
        plan=row["plan"],
        position=row["position"],
        issues=tuple(row["issues"]),
        written=row["written"],
        expected=row["expected"],
        doing=row["doing"],
        reason=row["reason"],
        attempt=row["attempt"],
        expires_at=row["expires_at"],
        files=files,
    )
