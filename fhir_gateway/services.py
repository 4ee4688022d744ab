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
from pathlib import Path

import psycopg
import structlog

from archive import Archive
from fhir_gateway.audit.service import keep
from fhir_gateway.config import GatewayConfig
from fhir_gateway.imaging import Publisher
from fhir_gateway.schema import LEADER_LOCK, WORKITEM_LOCK, Pool, make_pool, migrate
from fhir_gateway.subscriptions import seed
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

    @property
    def seeded(self) -> bool:
        """Whether the FHIR store holds all that work needs."""
        return self._seeded.is_set()

    async def run(self, stop: asyncio.Event) -> None:
        """Run all of them until told to stop; returns when each has ended its present work."""
        config = self._config
        async with Records(config.records_url, config.records_secret) as records:
            tasks = [
                asyncio.create_task(
                    self._for_ever("seed", stop, lambda: self._seed(records, stop))
                ),
                asyncio.create_task(
                    self._for_ever("publish", stop, lambda: self._publish(records, stop))
                ),
                asyncio.create_task(
                    self._for_ever("workitems", stop, lambda: self._bridge(records, stop))
                ),
                asyncio.create_task(
                    self._for_ever("audit", stop, lambda: self._ship(records, stop))
                ),
            ]
            await stop.wait()
            _, late = await asyncio.wait(tasks, timeout=STOP_S)
            for task in late:
                log.warning("services.cut_off", task=task.get_name())
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

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
