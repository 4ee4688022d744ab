"""What has changed in the FHIR store since the last look: the cursors of those who follow it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import structlog

from fhir_gateway.schema import Pool
from records import Records

Resource = dict[str, Any]

CHANNEL = "hilum_fhir_change"
OVERLAP = timedelta(seconds=15)  # a version may become visible a little after its time
FIRST_LOOK = timedelta(days=30)
PAGE = 100
AT_ONCE = 500  # of one type, so that a flood of one does not hold up the others
REMEMBERED = 50_000
GATHER_S = 0.2

log = structlog.get_logger(__name__)


class Follower:
    """The changes of one resource type, oldest first; the cursor lives in PostgreSQL.

    A change is given again after a restart or within the overlap: whoever follows must be able to
    do everything twice.
    """

    def __init__(
        self, records: Records, pool: Pool, name: str, kind: str, params: dict[str, str]
    ) -> None:
        self._records = records
        self._pool = pool
        self._name = name
        self._kind = kind
        self._params = params
        self._seen: dict[str, str] = {}
        self._given_at = time.monotonic()
        self.more = False

    async def changes(self) -> AsyncIterator[Resource]:
        """Changes since the last time, `AT_ONCE` at most; `more` then says that there are others.

        Whoever breaks off is given the rest again.
        """
        # What became visible late is there by now: a store at rest is not read again and again.
        resting = time.monotonic() - self._given_at > OVERLAP.total_seconds()
        cursor = await self._cursor()
        since = cursor - (timedelta(0) if resting else OVERLAP)
        newest: datetime | None = None
        given = 0
        self.more = False
        params = {**self._params, "_lastUpdated": f"ge{instant(since)}"}
        params |= {"_sort": "_lastUpdated", "_count": str(PAGE)}
        async for resource in self._records.pages(self._kind, params):
            version = str(resource["meta"]["versionId"])
            newest = datetime.fromisoformat(resource["meta"]["lastUpdated"])
            if self._seen.get(resource["id"]) != version:
                yield resource
                self._seen[resource["id"]] = version
                given += 1
            if given == AT_ONCE:
                self.more = True
                break
        if given:
            self._given_at = time.monotonic()
        if newest is not None and newest > cursor:
            await self._move(newest)
        if len(self._seen) > REMEMBERED:
            self._seen.clear()  # only saves work

    async def _cursor(self) -> datetime:
        async with self._pool.connection() as connection:
            found = await connection.execute(
                "select at from gateway.fhir_cursor where name = %s", [self._name]
            )
            row = await found.fetchone()
            at: datetime = row["at"] if row else datetime.now(UTC) - FIRST_LOOK
            return at

    async def _move(self, at: datetime) -> None:
        async with self._pool.connection() as connection:
            await connection.execute(
                "insert into gateway.fhir_cursor (name, at) values (%s, %s)"
                " on conflict (name) do update set at = excluded.at",
                [self._name, at],
            )


def instant(at: datetime) -> str:
    """A full timestamp for a search: a bare date would be read as the whole day."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def rest(seconds: float, stop: asyncio.Event, woken: asyncio.Event) -> None:
    """Sleep, but wake at once for a stop or a change."""
    waits = [asyncio.create_task(stop.wait()), asyncio.create_task(woken.wait())]
    await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


class Waker:
    """Tells every follower, in whatever process, that the FHIR store has changed."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._pending: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Soon send one notification, however often this is called meanwhile."""
        if self._pending is None or self._pending.done():
            self._pending = asyncio.get_running_loop().create_task(self._notify())

    async def _notify(self) -> None:
        await asyncio.sleep(GATHER_S)
        try:
            async with await psycopg.AsyncConnection.connect(
                self._dsn, autocommit=True
            ) as connection:
                await connection.execute(f"notify {CHANNEL}".encode())
        except psycopg.Error as error:  # the followers also look without being told
            log.warning("following.not_told", kind=type(error).__name__)


async def listen(dsn: str, channels: tuple[str, ...], heard: Callable[[str, str], None]) -> None:
    """Call `heard(channel, payload)` for each notification; reconnects for ever.

    After each connection it is called with an empty payload for every channel: something may have
    happened while nobody listened.
    """
    while True:
        try:
            connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
            async with connection:
                for channel in channels:
                    await connection.execute(f"listen {channel}".encode())
                for channel in channels:
                    heard(channel, "")
                async for notice in connection.notifies():
                    heard(notice.channel, notice.payload)
        except psycopg.Error as error:
            log.warning("following.listener_lost", kind=type(error).__name__)
            await asyncio.sleep(1.0)
