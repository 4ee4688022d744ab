"""Looks at what has changed in the FHIR store and numbers it as events of subscriptions.

HAPI's own subscriptions lose a delivery when HAPI dies (measured). Here nothing hangs on a call:
the history of each subscribed type is read from where it was read last, a little further back
each time, and a version that is known already is passed over.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import structlog

from fhir_gateway.audit.subjects import patient_of
from fhir_gateway.outcome import Refusal
from fhir_gateway.topics.catalogue import TOPICS
from fhir_gateway.topics.config import SubscriptionConfig
from fhir_gateway.topics.reading import NotUnderstood, Reading
from fhir_gateway.topics.store import Change, Subscription, Subscriptions
from fhir_gateway.topics.subscription import filters_of
from records import Records, RecordsError

PAGE = 100
OVERLAP = timedelta(seconds=5)
DEEP_OVERLAP = timedelta(seconds=90)  # longer than any write may take
LONGEST_DELAY_S = 15.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Seen:
    change: Change
    told: list[UUID]


class Watcher:
    """One runs per installation."""

    def __init__(
        self,
        config: SubscriptionConfig,
        subscriptions: Subscriptions,
        records: Records,
        reading: Reading,
    ) -> None:
        self._config = config
        self._subscriptions = subscriptions
        self._records = records
        self._reading = reading
        self._deep_at: dict[str, float] = {}

    async def run(self, stop: asyncio.Event, news: asyncio.Event) -> None:
        """Look until told to stop; `news` is set when there are new events."""
        delay = self._config.poll_s
        while not stop.is_set():
            try:
                if await self.look():
                    news.set()
                delay = self._config.poll_s
            except (RecordsError, Refusal) as error:
                log.warning("subscriptions.store_away", reason=f"{type(error).__name__} {error}")
                delay = min(delay * 2, LONGEST_DELAY_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), delay)

    async def look(self) -> int:
        """One look at every subscribed type; returns the number of new events."""
        by_type: dict[str, list[Subscription]] = {}
        for held in await self._subscriptions.watching():
            by_type.setdefault(held.resource_type, []).append(held)
        taken = 0
        for resource_type, some in by_type.items():
            taken += await self._look_at(resource_type, some)
        return taken

    async def _look_at(self, resource_type: str, some: list[Subscription]) -> int:
        cursor = await self._subscriptions.cursor(resource_type)
        # A type that nobody has asked for lately: from when the first did.
        first = min(held.starts_at for held in some)
        cursor = first if cursor is None else max(cursor, first)
        since = cursor - self._overlap(resource_type)
        topical = [held for held in some if held.topic is not None]
        classic = [held for held in some if held.topic is None]
        found: list[_Seen] = []
        newest = cursor
        async for resource, at in self._versions(resource_type, since):
            change = Change(
                resource_type,
                str(resource["id"]),
                str(resource["meta"]["versionId"]),
                patient_of(resource),
                at,
            )
            told = [held.id for held in topical if _is_told(held, resource, at)]
            found.append(_Seen(change, told))
            newest = max(newest, at)
        await self._add_classic(classic, found)
        await self._withhold(topical, found)
        found.reverse()  # the history has the newest first
        changes = [(one.change, one.told) for one in found if one.told]
        taken = await self._subscriptions.take(changes) if changes else 0
        await self._subscriptions.move(resource_type, newest)
        return taken

    async def _add_classic(self, classic: list[Subscription], found: list[_Seen]) -> None:
        """Those whose criteria the resource matches now, as the store says in their name."""
        latest: dict[str, _Seen] = {}
        for one in found:
            latest.setdefault(one.change.resource_id, one)
        for held in classic:
            ids = [i for i, one in latest.items() if one.change.at >= held.starts_at]
            if ids:
                for matched in await self._readable(held, ids, held.criteria):
                    latest[matched].told.append(held.id)

    async def _withhold(self, topical: list[Subscription], found: list[_Seen]) -> None:
        """Leave out what the client may not read."""
        for held in topical:
            ids = [one.change.resource_id for one in found if held.id in one.told]
            if not ids:
                continue
            readable = await self._readable(held, ids)
            for one in found:
                if held.id in one.told and one.change.resource_id not in readable:
                    one.told.remove(held.id)

    async def _readable(self, held: Subscription, ids: list[str], criteria: str = "") -> set[str]:
        caller = await self._reading.caller_of(held)
        try:
            return await self._reading.readable(caller, held.resource_type, ids, criteria)
        except NotUnderstood:  # such as a search parameter that is no more
            await self._subscriptions.end(held, "error", "the criteria are not understood")
            return set()

    async def _versions(
        self, resource_type: str, since: datetime
    ) -> AsyncIterator[tuple[Mapping[str, Any], datetime]]:
        """Every version since, the newest first; deletions are left out."""
        instant = since.astimezone(UTC).isoformat(timespec="milliseconds")
        params = {"_since": instant, "_count": str(PAGE)}
        async for resource in self._records.pages(f"{resource_type}/_history", params):
            at = datetime.fromisoformat(resource["meta"]["lastUpdated"])
            if at >= since:
                yield resource, at

    def _overlap(self, resource_type: str) -> timedelta:
        now = time.monotonic()
        if now - self._deep_at.get(resource_type, -self._config.deep_s) >= self._config.deep_s:
            self._deep_at[resource_type] = now
            return DEEP_OVERLAP
        return OVERLAP


def _is_told(held: Subscription, resource: Mapping[str, Any], at: datetime) -> bool:
    topic = TOPICS.get(held.topic or "")
    return (
        topic is not None
        and at >= held.starts_at
        and topic.is_event(resource)
        and topic.passes(resource, filters_of(topic, held.resource))
    )
