"""Delivers notifications: to each subscription in order, at least once, again after a failure."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import aiohttp
import orjson
import psycopg
import structlog

from access import AuditEventKind, AuditRecord, AuditSpool, Caller
from fhir_gateway.outcome import FHIR_JSON, Refusal
from fhir_gateway.topics.config import SubscriptionConfig
from fhir_gateway.topics.endpoints import EndpointRefused, Outbound
from fhir_gateway.topics.notification import notification
from fhir_gateway.topics.reading import NotUnderstood, Reading
from fhir_gateway.topics.store import Event, Subscription, Subscriptions
from fhir_gateway.topics.subscription import TIMEOUT_S, content_of, limits_of
from records import RecordsError

IDLE_S = 0.5
AT_ONCE = 32
OF_ONE_CLIENT = 4  # at once: a receiver that hangs holds up no other client
HANDSHAKES = 3
PRUNE_EVERY_S = 3600.0
NOTHING_LEFT = "the client may no longer read what it subscribed to"

log = structlog.get_logger(__name__)


class _Refused(Exception):
    """The receiver did not take it; the text says how and goes to the client."""


class Deliverer:
    """One runs per installation."""

    def __init__(
        self,
        config: SubscriptionConfig,
        base: str,
        subscriptions: Subscriptions,
        reading: Reading,
        audit: AuditSpool,
    ) -> None:
        self._config = config
        self._base = base
        self._subscriptions = subscriptions
        self._reading = reading
        self._audit = audit
        self._outbound = Outbound(config)
        self._session: aiohttp.ClientSession | None = None
        self._busy: dict[UUID, asyncio.Task[None]] = {}
        self._at_work: Counter[str] = Counter()  # by client
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def run(self, stop: asyncio.Event, news: asyncio.Event) -> None:
        """Deliver until told to stop."""
        pruned = -PRUNE_EVERY_S
        self._session = self._outbound.session()
        try:
            while not stop.is_set():
                news.clear()
                for held in await self._subscriptions.due():
                    if held.id not in self._busy and self._at_work[held.client] < OF_ONE_CLIENT:
                        self._at_work[held.client] += 1
                        self._busy[held.id] = asyncio.create_task(self._serve(held))
                if time.monotonic() - pruned > PRUNE_EVERY_S:
                    await self._subscriptions.prune(self._config.keep_days)
                    pruned = time.monotonic()
                await _first_of(stop, news, IDLE_S)
        finally:
            for task in self._busy.values():
                task.cancel()
            await asyncio.gather(*self._busy.values(), return_exceptions=True)
            await self._session.close()

    async def _serve(self, held: Subscription) -> None:
        """Do what is due for one subscription; a failure of it concerns no other."""
        try:
            async with self._slots:
                await self._do(held)
        except (_Refused, aiohttp.ClientError, TimeoutError, OSError, EndpointRefused) as error:
            await self._failed(held, error)
        except (RecordsError, Refusal, psycopg.Error) as error:
            log.warning("subscriptions.store_away", reason=f"{type(error).__name__} {error}")
            await asyncio.sleep(self._config.poll_s)
        except NotUnderstood:
            await self._subscriptions.end(held, "error", "the criteria are not understood")
        except Exception as error:  # boundary between subscriptions: one must not stop the others
            log.exception("subscriptions.failed", subscription=str(held.id))
            await self._failed(held, error)
        finally:
            del self._busy[held.id]
            self._at_work[held.client] -= 1
            self._at_work += Counter()  # forgets those with none

    async def _do(self, held: Subscription) -> None:
        if held.ends_at is not None and held.ends_at <= datetime.now(UTC):
            await self._subscriptions.end(held, "off", "its end has come")
            return
        caller = await self._reading.caller_of(held)
        if not caller.may(held.resource_type, "r"):
            await self._subscriptions.end(held, "error", NOTHING_LEFT)
            return
        if held.status == "requested":
            await self._shake_hands(held)
        elif held.last_event > held.delivered:
            await (self._notify(held, caller) if held.topic else self._call(held, caller))
        else:
            await self._send_bundle(held, "heartbeat", [], {})
            await self._subscriptions.sent(held, held.delivered)

    async def _shake_hands(self, held: Subscription) -> None:
        if held.topic:
            await self._send_bundle(held, "handshake", [], {})
        else:
            await self._post(held, None)
        await self._subscriptions.sent(held, held.delivered)
        log.info("subscriptions.active", subscription=str(held.id))

    async def _notify(self, held: Subscription, caller: Caller) -> None:
        """Events as one Bundle: those that the client may still read."""
        _, count = limits_of(held.resource)
        events = await self._subscriptions.events(held, after=held.delivered, limit=count)
        if not events:
            return
        ids = [one.resource_id for one in events]
        readable = await self._reading.readable(caller, held.resource_type, ids)
        left = [one for one in events if one.resource_id in readable]
        resources: dict[int, Mapping[str, Any]] = {}
        if content_of(held.resource) == "full-resource":
            resources = await self._contents(caller, left)
            left = [one for one in left if one.number in resources]
        if left:
            async with self._recorded(held, caller, left):
                await self._send_bundle(held, "event-notification", left, resources)
        await self._subscriptions.sent(held, events[-1].number)

    async def _call(self, held: Subscription, caller: Caller) -> None:
        """The rest-hook of R4: an empty call, or each resource as an update."""
        if not held.resource["channel"].get("payload"):
            await self._post(held, None)
            await self._subscriptions.sent(held, held.last_event)
            return
        for event in await self._subscriptions.events(held, after=held.delivered, limit=20):
            ids = await self._reading.readable(
                caller, held.resource_type, [event.resource_id], held.criteria
            )
            resource = None
            if ids:
                resource = await self._reading.read(caller, event.resource_type, event.resource_id)
            if resource is not None:
                async with self._recorded(held, caller, [event]):
                    await self._post(held, resource, event.reference)
            await self._subscriptions.sent(held, event.number)

    async def _contents(
        self, caller: Caller, events: Sequence[Event]
    ) -> dict[int, Mapping[str, Any]]:
        found = {}
        for one in events:
            resource = await self._reading.read(caller, one.resource_type, one.resource_id)
            if resource is not None:
                found[one.number] = resource
        return found

    async def _send_bundle(
        self,
        held: Subscription,
        kind: str,
        events: Sequence[Event],
        resources: Mapping[int, Mapping[str, Any]],
    ) -> None:
        content = content_of(held.resource)
        count = None if events else held.delivered
        body = notification(self._base, held, kind, content, events, resources, since_start=count)
        await self._post(held, body)

    async def _post(
        self, held: Subscription, body: Mapping[str, Any] | None, path: str | None = None
    ) -> None:
        """One call. Raises what `_serve` takes for a failure of the receiver."""
        if self._session is None:
            raise RuntimeError("not running")
        endpoint = str(held.resource["channel"]["endpoint"])
        self._outbound.check(endpoint)
        url = endpoint if path is None else f"{endpoint.rstrip('/')}/{path}"
        pairs = (one.partition(":") for one in held.headers)
        headers = {name: value.strip() for name, _, value in pairs}
        data = b""
        if body is not None:
            data, headers["Content-Type"] = orjson.dumps(body), FHIR_JSON
        timeout_s = limits_of(held.resource)[0] if held.topic else TIMEOUT_S
        async with self._session.request(
            "POST" if path is None else "PUT",
            url,
            data=data,
            headers=headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
        ) as answer:
            if not 200 <= answer.status < 300:
                raise _Refused(f"the receiver answered {answer.status}")

    async def _failed(self, held: Subscription, error: Exception) -> None:
        reason = str(error) if isinstance(error, _Refused | EndpointRefused) else "no answer"
        log.info(
            "subscriptions.not_delivered",
            subscription=str(held.id),
            reason=reason,
            kind=type(error).__name__,
        )
        config, since = self._config, held.failing_since or datetime.now(UTC)
        failing_s = (datetime.now(UTC) - since).total_seconds()
        shaking = held.status == "requested" and held.failures + 1 >= HANDSHAKES
        if shaking or failing_s > config.give_up_s or isinstance(error, EndpointRefused):
            await self._subscriptions.end(held, "error", reason)
            return
        delay_s = min(config.first_delay_s * 2 ** min(held.failures, 20), config.longest_delay_s)
        await self._subscriptions.failed(held, reason, delay_s)

    @contextlib.asynccontextmanager
    async def _recorded(
        self, held: Subscription, caller: Caller, events: Sequence[Event]
    ) -> AsyncIterator[None]:
        """Record before anything leaves; what was not taken may have been read all the same."""
        record = AuditRecord(
            action="R",
            event=AuditEventKind.NOTIFY,
            outcome="success",
            caller=caller,
            at=datetime.now(UTC),
            resource=f"Subscription/{held.id}",
            patients=tuple(dict.fromkeys(one.patient for one in events if one.patient)),
            detail=", ".join(one.reference for one in events),
        )
        await asyncio.to_thread(self._audit.record, record)
        try:
            yield
        except Exception:
            failed = replace(record, outcome="minor", detail=f"not taken: {record.detail}")
            await asyncio.to_thread(self._audit.record, failed)
            raise


async def _first_of(stop: asyncio.Event, news: asyncio.Event, seconds: float) -> None:
    waits = [asyncio.create_task(stop.wait()), asyncio.create_task(news.wait())]
    await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for one in waits:
        one.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*waits, return_exceptions=True)
