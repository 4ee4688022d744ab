"""All that is done with the spool of one machine, by whichever of its web processes does it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fhir_gateway.audit.shipper import AuditShipper
from fhir_gateway.audit.syslog import SyslogSender
from fhir_gateway.audit.upkeep import TrailConfig, Upkeep
from records import Records


async def keep(folder: Path, config: TrailConfig, records: Records, stop: asyncio.Event) -> None:
    """Ship, anchor and retire until told to stop; one runs per spool folder."""
    async with asyncio.TaskGroup() as group:
        group.create_task(AuditShipper(folder, records).run(stop))
        group.create_task(Upkeep(folder, config).run(stop))
        if config.syslog is not None:
            group.create_task(SyslogSender(folder, config.syslog).run(stop))
