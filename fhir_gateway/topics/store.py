"""The tables of subscriptions: who has which, and the events of each, numbered in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from access import Caller
from fhir_gateway.schema import Pool
from fhir_gateway.topics.subscription import Wanted

LIMIT_LOCK = 0x48_49_4C_22
_SELECT: LiteralString = (
    "select id, client, subject, scopes, topic, resource_type, criteria, resource, headers,"
    " status, reason, version, changed_at, starts_at, ends_at, last_event, delivered, sent_at,"
    " failing_since, failures, next_attempt_at from gateway.subscription "
)


@dataclass(frozen=True, slots=True)
class Subscription:
    """One row. `wanted` is read from the resource anew, so that it has one place."""

    id: UUID
    client: str
    subject: str
    scopes: str
    topic: str | None
    resource_type: str
    criteria: str
    resource: Mapping[str, Any]
    headers: tuple[str, ...]
    status: str
    reason: str | None
    version: int
    changed_at: datetime
    starts_at: datetime
    ends_at: datetime | None
    last_event: int
    delivered: int
    sent_at: datetime | None
    failing_since: datetime | None
    failures: int
    next_attempt_at: datetime


@dataclass(frozen=True, slots=True)
class Event:
    """One change that a subscription is told of."""

    number: int
    resource_type: str
    resource_id: str
    version_id: str
    patient: str | None
    at: datetime

    @property
    def reference(self) -> str:
        """The resource, relative to the base."""
        return f"{self.resource_type}/{self.resource_id}"


@dataclass(frozen=True, slots=True)
class Change:
    """A version of a resource that some subscriptions are told of."""

    resource_type: str
    resource_id: str
    version_id: str
    patient: str | None
    at: datetime


class TooMany(Exception):
    """The client has as many subscriptions as it may."""


class Subscriptions:
    """The tables."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(
        self,
        caller: Caller,
        wanted: Wanted,
        resource: Mapping[str, Any],
        starts_at: datetime,
        *,
        most: int,
    ) -> Subscription:
        """A new one of this client. Raises TooMany."""
        values = _values(wanted, resource) | {
            "id": uuid4(),
            "client": caller.client,
            "subject": caller.subject,
            "scopes": str(caller.scopes),
            "starts_at": starts_at,
        }
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute("select pg_advisory_xact_lock(%s)", [LIMIT_LOCK])
            found = await connection.execute(
                "select count(*) as held from gateway.subscription where client = %s",
                [caller.client],
            )
            row = await found.fetchone()
            if row is not None and row["held"] >= most:
                raise TooMany
            await connection.execute(
                "insert into gateway.subscription (id, client, subject, scopes, topic,"
                " resource_type, criteria, resource, headers, heartbeat_s, status, starts_at,"
                " ends_at) values (%(id)s, %(client)s, %(subject)s, %(scopes)s, %(topic)s,"
                " %(resource_type)s, %(criteria)s, %(resource)s, %(headers)s, %(heartbeat_s)s,"
                " %(status)s, %(starts_at)s, %(ends_at)s)",
                values,
            )
        made = await self.find(values["id"], caller.client or "")
        if made is None:
            raise LookupError("the subscription is gone again")
        return made

    async def replace(
        self,
        held: Subscription,
        caller: Caller,
        wanted: Wanted,
        resource: Mapping[str, Any],
        starts_at: datetime | None = None,
    ) -> Subscription | None:
        """Begin anew with this content; what was not delivered yet of its type still is.

        None: it is gone.

        Args:
            starts_at: nothing from before is told; default: as it was.
        """
        values = _values(wanted, resource) | {
            "id": held.id,
            "version": held.version,
            "starts_at": starts_at or held.starts_at,
            "subject": caller.subject,
            "scopes": str(caller.scopes),
        }
        async with self._pool.connection() as connection:
            await connection.execute(
                "update gateway.subscription set subject = %(subject)s, scopes = %(scopes)s,"
                " topic = %(topic)s, resource_type = %(resource_type)s, criteria = %(criteria)s,"
                " resource = %(resource)s, headers = %(headers)s, status = %(status)s,"
                " heartbeat_s = %(heartbeat_s)s, ends_at = %(ends_at)s, reason = null,"
                " starts_at = %(starts_at)s,"
                # Events of another type are not what is asked for now.
                " delivered = case when resource_type = %(resource_type)s then delivered"
                " else last_event end,"
                " failures = 0, failing_since = null, next_attempt_at = now(),"
                " version = version + 1, changed_at = now()"
                " where id = %(id)s and version = %(version)s",
                values,
            )
        return await self.find(held.id, held.client)

    async def remove(self, held: Subscription) -> None:
        """Forget it and its events."""
        async with self._pool.connection() as connection:
            await connection.execute("delete from gateway.subscription where id = %s", [held.id])

    async def find(self, identity: UUID, client: str) -> Subscription | None:
        """One of this client's."""
        rows = await self._rows("where id = %s and client = %s", [identity, client])
        return rows[0] if rows else None

    async def of_client(self, client: str) -> list[Subscription]:
        """All of a client."""
        return await self._rows("where client = %s order by changed_at", [client])

    async def watching(self) -> list[Subscription]:
        """Those that events are taken for: in error as well, for when they are set right."""
        return await self._rows("where status <> 'off'", [])

    async def due(self) -> list[Subscription]:
        """Those with something to be sent: a handshake, events, a heartbeat; or past their end."""
        return await self._rows(
            "where ends_at <= now() and status <> 'off' or next_attempt_at <= now() and ("
            " status = 'requested' or status = 'active' and (last_event > delivered or"
            " heartbeat_s <="
            " extract(epoch from now() - coalesce(sent_at, changed_at))))",
            [],
        )

    async def events(
        self, held: Subscription, *, after: int, upto: int | None = None, limit: int = 100
    ) -> list[Event]:
        """Events of a subscription in order."""
        async with self._pool.connection() as connection:
            found = await connection.execute(
                "select number, resource_type, resource_id, version_id, patient, at"
                " from gateway.subscription_event where subscription = %s and number > %s"
                " and number <= %s order by number limit %s",
                [held.id, after, held.last_event if upto is None else upto, limit],
            )
            return [Event(**row) for row in await found.fetchall()]

    async def take(self, changes: list[tuple[Change, list[UUID]]]) -> int:
        """Number these changes as events of these subscriptions; a known one is passed over."""
        taken = 0
        async with self._pool.connection() as connection, connection.transaction():
            for change, subscriptions in changes:
                for one in subscriptions:
                    # The row is locked first, so that numbers have no gap and no order but one.
                    done = await connection.execute(
                        "with held as (select id, last_event from gateway.subscription"
                        "  where id = %(id)s for update),"
                        " told as (insert into gateway.subscription_event (subscription, number,"
                        "  resource_type, resource_id, version_id, patient, at)"
                        "  select id, last_event + 1, %(type)s, %(rid)s, %(version)s, %(patient)s,"
                        "  %(at)s from held on conflict do nothing returning number)"
                        " update gateway.subscription set last_event = told.number from told"
                        " where id = %(id)s",
                        {
                            "id": one,
                            "type": change.resource_type,
                            "rid": change.resource_id,
                            "version": change.version_id,
                            "patient": change.patient,
                            "at": change.at,
                        },
                    )
                    taken += done.rowcount
        return taken

    async def sent(self, held: Subscription, upto: int, status: str = "active") -> None:
        """It was delivered, up to this event."""
        await self._execute(
            "update gateway.subscription set delivered = greatest(delivered, %s), status = %s,"
            " sent_at = now(), failures = 0, failing_since = null, reason = null,"
            " next_attempt_at = now() where id = %s and version = %s",
            [upto, status, held.id, held.version],
        )

    async def failed(self, held: Subscription, reason: str, delay_s: float) -> None:
        """It was not delivered: try again after a while."""
        await self._execute(
            "update gateway.subscription set failures = failures + 1, reason = %s,"
            " failing_since = coalesce(failing_since, now()),"
            " next_attempt_at = now() + make_interval(secs => %s) where id = %s and version = %s",
            [reason, delay_s, held.id, held.version],
        )

    async def end(self, held: Subscription, status: str, reason: str) -> None:
        """It is in error or off; nothing is sent until its client sets it right."""
        await self._execute(
            "update gateway.subscription set status = %s, reason = %s where id = %s"
            " and version = %s",
            [status, reason, held.id, held.version],
        )

    async def prune(self, keep_days: float) -> None:
        """Forget events that were delivered long ago."""
        await self._execute(
            "delete from gateway.subscription_event e using gateway.subscription s"
            " where e.subscription = s.id and e.number <= s.delivered"
            " and e.taken_at < now() - make_interval(secs => %s)",
            [keep_days * 86_400],
        )

    async def cursor(self, resource_type: str) -> datetime | None:
        """Up to when the changes of a type were looked at."""
        async with self._pool.connection() as connection:
            found = await connection.execute(
                "select at from gateway.subscription_cursor where resource_type = %s",
                [resource_type],
            )
            row = await found.fetchone()
            return row["at"] if row else None

    async def move(self, resource_type: str, at: datetime) -> None:
        """Remember `cursor`."""
        await self._execute(
            "insert into gateway.subscription_cursor (resource_type, at) values (%s, %s)"
            " on conflict (resource_type) do update set at = excluded.at",
            [resource_type, at],
        )

    async def _rows(self, where: LiteralString, values: list[Any]) -> list[Subscription]:
        async with self._pool.connection() as connection:
            found = await connection.execute(_SELECT + where, values)
            rows = await found.fetchall()
        return [Subscription(**{**row, "headers": tuple(row["headers"])}) for row in rows]

    async def _execute(self, statement: LiteralString, values: list[Any]) -> None:
        async with self._pool.connection() as connection:
            await connection.execute(statement, values)


def _values(wanted: Wanted, resource: Mapping[str, Any]) -> dict[str, Any]:
    channel = {k: v for k, v in resource["channel"].items() if k != "header"}
    if wanted.headers:
        channel["header"] = [one.partition(":")[0] for one in wanted.headers]
    return {
        "topic": wanted.topic.url if wanted.topic else None,
        "resource_type": wanted.resource_type,
        "criteria": wanted.criteria,
        "resource": Jsonb({**resource, "channel": channel}),
        "heartbeat_s": wanted.heartbeat_s,
        "headers": list(wanted.headers),
        "status": wanted.status,
        "ends_at": wanted.ends_at,
    }
