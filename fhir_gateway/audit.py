"""Ships the audit spool to the FHIR store: nothing is lost, nothing is written twice."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any

import orjson
import structlog

from access import SpoolReader
from access.audit import Batch, SpooledRecord
from fhir_gateway.audit_event import to_audit_event
from records import Records, RecordsError, RecordsUnavailable

BATCH = 50
IDLE_S = 1.0
FIRST_DELAY_S, LONGEST_DELAY_S = 1.0, 30.0
REJECTED = "rejected.jsonl"

log = structlog.get_logger(__name__)


class AuditShipper:
    """Reads the spool and writes AuditEvents; one runs per spool folder."""

    def __init__(self, folder: Path, records: Records) -> None:
        self._folder = folder
        self._records = records

    async def run(self, stop: asyncio.Event) -> None:
        """Ship until told to stop; waits out an absence of the FHIR store."""
        reader = await asyncio.to_thread(SpoolReader, self._folder)
        delay = FIRST_DELAY_S
        while not stop.is_set():
            pause = IDLE_S
            try:
                if await self.ship_once(reader):
                    pause = 0.0
                delay = FIRST_DELAY_S
            except (RecordsError, OSError) as error:
                log.warning("audit.waiting", reason=f"{type(error).__name__} {error}")
                pause, delay = delay, min(delay * 2, LONGEST_DELAY_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause or 0.001)

    async def ship_once(self, reader: SpoolReader) -> bool:
        """Ship one batch; False when nothing was waiting."""
        batch = await asyncio.to_thread(reader.next_batch, BATCH)
        if not batch.positions:
            return False
        await self._ship(batch)
        await asyncio.to_thread(reader.acknowledge, batch)
        return True

    async def _ship(self, batch: Batch) -> None:
        refused = await self._put(list(batch.records), literal=True)
        # A reference to what is not there is refused: say the same without the link.
        refused = await self._put(refused, literal=False)
        if refused:
            await asyncio.to_thread(self._keep, refused)

    async def _put(self, records: list[SpooledRecord], *, literal: bool) -> list[SpooledRecord]:
        """Write these as one batch and return those that the store will not take."""
        if not records:
            return []
        bundle = {
            "resourceType": "Bundle",
            "type": "batch",
            "entry": [_entry(to_audit_event(one, literal=literal)) for one in records],
        }
        _, _, answer = await self._records.operation(
            "POST", "", data=bundle, headers={"Prefer": "return=minimal"}
        )
        refused = []
        for record, entry in zip(records, answer["entry"], strict=True):
            status = int(str(entry["response"]["status"])[:3])
            if status >= 500:
                raise RecordsUnavailable("a batch entry failed", status=status)
            if status >= 400:
                refused.append(record)
        return refused

    def _keep(self, refused: list[SpooledRecord]) -> None:
        """Keep what the store refuses on disk: a trail may be late, but has no gap."""
        path = self._folder / REJECTED
        with path.open("ab") as file:
            for one in refused:
                file.write(orjson.dumps(to_audit_event(one, literal=False)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        log.error("audit.refused", count=len(refused), kept_in=REJECTED)


def _entry(event: dict[str, Any]) -> dict[str, Any]:
    return {
        "resource": event,
        "request": {"method": "PUT", "url": f"AuditEvent/{event['id']}"},
    }
