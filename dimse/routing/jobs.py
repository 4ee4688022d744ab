"""The durable table of what the rules have ordered, and how far they have read the feed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal

import psycopg
from psycopg.rows import class_row

from database import migrate
from dimse.peers import MIGRATIONS, SCHEMA

Kind = Literal["forward", "priors", "fetch"]
State = Literal["waiting", "running", "done", "failed", "cancelled"]
_CURSOR = "rules"


class JobError(Exception):
    """There is no such job, or its state does not allow what was asked."""


@dataclass(frozen=True, slots=True)
class Order:
    """A job to be added. `key`: one that was ordered before is not ordered again."""

    kind: Kind
    rule: str
    peer: str
    study: str
    instances: tuple[str, ...] = ()
    key: str | None = None

    @property
    def lane(self) -> str:
        """The queue that it joins: one peer, one direction."""
        return ("to:" if self.kind == "forward" else "from:") + self.peer


@dataclass(frozen=True, slots=True)
class Job:
    """A job of the table.

    Attributes:
        instances: SOP instances that are left to send.
        attempts: Tries that the peer refused.
        tries: Tries in all.
        due: Not before.
        message: What came of the last try, without patient data.
    """

    id: int
    kind: Kind
    lane: str
    rule: str
    peer: str
    study: str
    instances: list[str]
    total: int
    state: State
    attempts: int
    tries: int
    due: datetime
    added: datetime
    message: str


_COLUMNS = ", ".join(field.name for field in fields(Job))
_OPEN = "state in ('waiting', 'running')"


class Jobs:
    """The table of jobs; safe to share between threads and processes."""

    def __init__(self, dsn: str) -> None:
        migrate(dsn, SCHEMA, MIGRATIONS)
        self._dsn = dsn

    def cursor(self, start: int) -> int:
        """How far the feed has been read; `start` if it never was."""
        with self._connection() as connection:
            row = connection.execute(
                "insert into dimse.rule_cursor values (%s, %s)"
                " on conflict (name) do update set name = excluded.name returning sequence",
                [_CURSOR, start],
            ).fetchone()
            return int(row[0]) if row else start

    def add(self, orders: Sequence[Order], sequence: int | None = None) -> None:
        """Add orders, and note in the same transaction how far the feed was read for them."""
        with self._connection() as connection, connection.transaction():
            for one in orders:
                connection.execute(
                    "insert into dimse.job (kind, lane, rule, peer, study, instances, total, key)"
                    " values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict (key) do nothing",
                    [
                        *(one.kind, one.lane, one.rule, one.peer, one.study),
                        *(list(one.instances), len(one.instances), one.key),
                    ],
                )
            if sequence is not None:
                connection.execute(
                    "update dimse.rule_cursor set sequence = %s where name = %s",
                    [sequence, _CURSOR],
                )

    def due_lanes(self) -> list[str]:
        """Lanes whose first job may be done now."""
        with self._connection() as connection:
            rows = connection.execute(
                f"select lane from (select distinct on (lane) lane, due from dimse.job"  # noqa: S608
                f" where {_OPEN} order by lane, id) head where due <= now()".encode()
            )
            return [row[0] for row in rows]

    def take(self, lane: str) -> Job | None:
        """The first job of a lane, if it is due; whoever holds the lane asks."""
        with self._connection() as connection:
            found = connection.cursor(row_factory=class_row(Job)).execute(
                f"update dimse.job set state = 'running', changed = now() where due <= now()"  # noqa: S608
                f" and id = (select id from dimse.job where lane = %s and {_OPEN}"
                f" order by id limit 1) returning {_COLUMNS}".encode(),
                [lane],
            )
            return found.fetchone()

    def close_job(self, job: Job, state: State, message: str, left: Sequence[str] = ()) -> None:
        """A job has ended."""
        self._change(
            "state = %s, message = %s, instances = %s, tries = tries + 1",
            [state, message, list(left)],
            job,
        )

    def put_back(
        self, job: Job, message: str, left: Sequence[str], wait_s: float, *, refused: bool
    ) -> None:
        """A job is to be tried again, after a while."""
        self._change(
            "state = 'waiting', message = %s, instances = %s, tries = tries + 1,"
            " attempts = attempts + %s, due = now() + make_interval(secs => %s)",
            [message, list(left), int(refused), wait_s],
            job,
        )

    def is_cancelled(self, job: Job) -> bool:
        """Whether somebody has cancelled a job that is being done."""
        with self._connection() as connection:
            row = connection.execute(
                "select state from dimse.job where id = %s", [job.id]
            ).fetchone()
            return row is None or row[0] == "cancelled"

    def list(self, *, everything: bool = False, limit: int = 200) -> list[Job]:
        """Jobs that wait or have failed, or all; the newest first."""
        with self._connection() as connection:
            found = connection.cursor(row_factory=class_row(Job)).execute(
                f"select {_COLUMNS} from dimse.job where %s or state not in ('done', 'cancelled')"  # noqa: S608
                " order by id desc limit %s".encode(),
                [everything, limit],
            )
            return found.fetchall()

    def retry(self, number: int) -> None:
        """Try a job again now, with all its attempts. Raises JobError."""
        self._by_hand(
            number,
            "state = 'waiting', due = now(), attempts = 0, tries = 0, added = now()",
            ("waiting", "failed", "cancelled"),
        )

    def cancel(self, number: int) -> None:
        """Do not try a job again. Raises JobError."""
        self._by_hand(
            number, "state = 'cancelled', message = 'cancelled'", ("waiting", "running", "failed")
        )

    def forget(self, days: int) -> None:
        """Remove jobs that ended well, or were cancelled, so many days ago."""
        with self._connection() as connection:
            connection.execute(
                "delete from dimse.job where state in ('done', 'cancelled')"
                " and changed < now() - make_interval(days => %s)",
                [days],
            )

    @contextmanager
    def alone(self, name: str) -> Iterator[bool]:
        """Whether we are the only process that does this; for as long as the context is open."""
        with self._connection() as connection:
            row = connection.execute(
                "select pg_try_advisory_lock(hashtext('hilum:dimse'), hashtext(%s))", [name]
            ).fetchone()
            yield bool(row and row[0])

    def _change(self, assignments: str, values: Sequence[Any], job: Job) -> None:
        with self._connection() as connection:
            connection.execute(
                f"update dimse.job set {assignments}, changed = now()"  # noqa: S608
                " where id = %s and state = 'running'".encode(),
                [*values, job.id],
            )

    def _by_hand(self, number: int, assignments: str, states: tuple[State, ...]) -> None:
        with self._connection() as connection:
            changed = connection.execute(
                f"update dimse.job set {assignments}, changed = now()"  # noqa: S608
                " where id = %s and state = any(%s)".encode(),
                [number, list(states)],
            )
            if changed.rowcount:
                return
            row = connection.execute(
                "select state from dimse.job where id = %s", [number]
            ).fetchone()
        raise JobError(f"job {number} is {row[0]}" if row else f"there is no job {number}")

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(self._dsn, autocommit=True, connect_timeout=10) as connection:
            yield connection
