"""What the web process does beside answering: publish, bridge work items, ship audit, seed.

Any number of web processes may run; an advisory lock lets one of them do each of these. The
audit spool is on the disk of one machine, so its lock is a file there.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import psycopg
import structlog

from access.grants import Rights
from access.internal_rights import (
    AUDITOR,
    BRIDGE,
    MERGER,
    NOTHING,
    NOTIFIER,
    ORDERS,
    PUBLISHER,
    SEEDER,
)
from archive import Archive, procedure
from archive.procedure import PerformedSteps
from archive.worklist import Worklist
from fhir_gateway.audit.service import keep
from fhir_gateway.config import GatewayConfig
from fhir_gateway.following import CHANNEL, listen
from fhir_gateway.identity.follower import MergeFollower
from fhir_gateway.imaging import Publisher
from fhir_gateway.orders.follower import OrderFollower
from fhir_gateway.orders.performed import PerformedFollower
from fhir_gateway.patient import IssuerRules
from fhir_gateway.schema import (
    LEADER_LOCK,
    MERGE_LOCK,
    ORDER_LOCK,
    PERFORMED_LOCK,
    SUBSCRIPTION_LOCK,
    WORKITEM_LOCK,
    Pool,
    make_pool,
    migrate,
)
from fhir_gateway.subscriptions import seed
from fhir_gateway.topics.service import notify
from fhir_gateway.workitems import Ordering, WorkitemBridge
from records import Records, RecordsError

RETRY_S = 2.0
SHIPPER_LOCK = ".shipper.lock"
STOP_S = 15.0

log = structlog.get_logger(__name__)


class Services:
    """The background tasks of one web process."""

    def __init__(
        self,
        config: GatewayConfig,
        archive: Archive,
        audit_folder: Path,
        ordering: Ordering | None = None,
    ) -> None:
        self._config = config
        self._ordering = ordering
        self._archive = archive
        self._audit_folder = audit_folder
        self._seeded = asyncio.Event()
        self._woken = {name: asyncio.Event() for name in ("orders", "performed", "merges")}

    @property
    def seeded(self) -> bool:
        """Whether the FHIR store holds all that work needs."""
        return self._seeded.is_set()

    async def run(self, stop: asyncio.Event) -> None:
        """Run all of them until told to stop; returns when each has ended its present work."""
        works = {
            "seed": (SEEDER, self._seed),
            "publish": (PUBLISHER, self._publish),
            "workitems": (BRIDGE, self._bridge),
            "orders": (ORDERS, self._follow_orders),
            "performed": (ORDERS, self._follow_performed),
            "merges": (MERGER, self._follow_merges),
            "listen": (NOTHING, self._listen),
            "audit": (AUDITOR, self._ship),
            "subscriptions": (NOTIFIER, self._notify),
        }
        tasks = [
            asyncio.create_task(
                self._for_ever(name, stop, partial(self._with_rights, rights, work, stop)),
                name=name,
            )
            for name, (rights, work) in works.items()
        ]
        await stop.wait()
        _, late = await asyncio.wait(tasks, timeout=STOP_S)
        for task in late:
            log.warning("services.cut_off", task=task.get_name())
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _with_rights(
        self,
        rights: Rights,
        work: Callable[[Records, asyncio.Event], Awaitable[None]],
        stop: asyncio.Event,
    ) -> None:
        """Do one work with no more rights in the FHIR store than it needs."""
        config = self._config
        async with Records(config.records_url, config.grants.credentials(rights)) as records:
            await work(records, stop)

    async def _for_ever(
        self, name: str, stop: asyncio.Event, work: Callable[[], Awaitable[None]]
    ) -> None:
        """Start the work again whenever it fails, so that an outage is not the end of it."""
        while not stop.is_set():
            try:
                await work()
                return
            except Exception as error:  # process boundary: a background task must not die silently
                log.error(
                    "services.restarting", task=name, kind=type(error).__name__, exc_info=True
                )
                await _pause(stop, RETRY_S)

    async def _seed(self, records: Records, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await seed(records, self._config)
            except RecordsError as error:
                log.info("services.store_not_ready", reason=str(error))
                await _pause(stop, RETRY_S)
                continue
            self._seeded.set()
            return

    async def _publish(self, records: Records, stop: asyncio.Event) -> None:
        async with self._leading(LEADER_LOCK, stop) as pool:
            if pool is not None:
                log.info("services.publishing")
                await Publisher(self._config, self._archive, records, pool).run(stop)

    async def _bridge(self, records: Records, stop: asyncio.Event) -> None:
        async with self._leading(WORKITEM_LOCK, stop) as pool:
            if pool is not None:
                log.info("services.bridging_workitems")
                bridge = WorkitemBridge(
                    self._config, self._archive.workitems, self._archive, records, pool
                )
                await bridge.run(stop, self._ordering)

    async def _follow_orders(self, records: Records, stop: asyncio.Event) -> None:
        async with self._leading(ORDER_LOCK, stop) as pool:
            if pool is not None:
                log.info("services.following_orders")
                worklist = await asyncio.to_thread(Worklist, self._config.dsn)
                orders = OrderFollower(worklist, records, pool, self._config.timezone)
                await orders.run(stop, self._woken["orders"])

    async def _follow_performed(self, records: Records, stop: asyncio.Event) -> None:
        config = self._config
        async with self._leading(PERFORMED_LOCK, stop) as pool:
            if pool is not None:
                steps = await asyncio.to_thread(PerformedSteps, config.dsn)
                worklist = await asyncio.to_thread(Worklist, config.dsn)
                rules = IssuerRules(config.default_issuer, config.issuer_of_ae)
                performed = PerformedFollower(
                    steps, worklist, records, pool, rules, config.timezone
                )
                await performed.run(stop, self._woken["performed"])

    async def _follow_merges(self, records: Records, stop: asyncio.Event) -> None:
        async with self._leading(MERGE_LOCK, stop) as pool:
            if pool is not None:
                await MergeFollower(records, pool).run(stop, self._woken["merges"])

    async def _listen(self, records: Records, stop: asyncio.Event) -> None:
        """Wake the followers when something has happened that they wait for."""
        del records

        def heard(channel: str, payload: str) -> None:
            del payload
            for name in ("performed",) if channel == procedure.CHANNEL else ("orders", "merges"):
                self._woken[name].set()

        listening = asyncio.create_task(
            listen(self._config.dsn, (CHANNEL, procedure.CHANNEL), heard)
        )
        await stop.wait()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)

    async def _notify(self, records: Records, stop: asyncio.Event) -> None:
        async with self._leading(SUBSCRIPTION_LOCK, stop) as pool:
            if pool is not None:
                log.info("services.notifying")
                await notify(self._config, self._audit_folder, records, pool, stop)

    @contextlib.asynccontextmanager
    async def _leading(self, lock: int, stop: asyncio.Event) -> AsyncIterator[Pool | None]:
        """A pool on the gateway's tables, once no other process does this work; None at a stop."""
        pool = make_pool(self._config.dsn)
        await pool.open(wait=True)
        try:
            await migrate(pool)
            async with self._leadership(lock, stop) as leads:
                yield pool if leads else None
        finally:
            await pool.close()

    @contextlib.asynccontextmanager
    async def _leadership(self, lock: int, stop: asyncio.Event) -> AsyncIterator[bool]:
        """Wait until no other process has the lock; False when told to stop before.

        The lock belongs to the connection, so it falls with the process. That a leader which
        lost only its connection may overlap with the next one is harmless: writes are
        conditional.
        """
        connection = await psycopg.AsyncConnection.connect(self._config.dsn, autocommit=True)
        async with connection:
            while not stop.is_set():
                found = await connection.execute("select pg_try_advisory_lock(%s)", [lock])
                row = await found.fetchone()
                if row is not None and row[0]:
                    yield True
                    return
                await _pause(stop, RETRY_S)
            yield False

    async def _ship(self, records: Records, stop: asyncio.Event) -> None:
        self._audit_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self._audit_folder / SHIPPER_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            while not stop.is_set():
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    await _pause(stop, RETRY_S)
                    continue
                await keep(self._audit_folder, self._config.trail, records, stop)
        finally:
            os.close(lock)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
