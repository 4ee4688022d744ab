"""The two halves of notification at work: looking for events, and delivering them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from access import AuditSpool
from fhir_gateway.config import GatewayConfig
from fhir_gateway.schema import Pool
from fhir_gateway.topics.deliver import Deliverer
from fhir_gateway.topics.reading import Reading
from fhir_gateway.topics.store import Subscriptions
from fhir_gateway.topics.watch import Watcher
from fhir_gateway.upstream import Upstream
from records import Records


async def notify(
    config: GatewayConfig,
    audit_folder: Path,
    records: Records,
    pool: Pool,
    stop: asyncio.Event,
) -> None:
    """Watch and deliver until told to stop; one runs per installation."""
    settings, subscriptions = config.subscriptions, Subscriptions(pool)
    upstream = Upstream(config)
    audit = await asyncio.to_thread(AuditSpool, audit_folder, "notify")
    reading, news = Reading(upstream, settings.standing), asyncio.Event()
    deliverer = Deliverer(settings, config.fhir_base, subscriptions, reading, audit)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(Watcher(settings, subscriptions, records, reading).run(stop, news))
            group.create_task(deliverer.run(stop, news))
    finally:
        await upstream.close()
        await asyncio.to_thread(audit.close)
