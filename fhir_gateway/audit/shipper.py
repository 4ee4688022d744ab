"""Ships the audit spool to the FHIR store: nothing is lost, nothing is written twice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import structlog

from access import SpoolReader
from access.audit import Batch, SpooledRecord
from fhir_gateway.audit.event import to_audit_event
from records import Records, RecordsError, RecordsUnavailable, Rejected

BATCH = 100
IDLE_S = 1.0
FIRST_DELAY_S, LONGEST_DELAY_S = 1.0, 30.0
# Below this backlog the shipper rests several times as long as it works: the trail is in no hurry,
# and the store has others to serve. Above, it catches up.
EASY_BYTES = 4 * 1024 * 1024
RESTS = 4
LONGEST_REST_S = 5.0
ATTEMPTS = 5
REJECTED = "rejected.jsonl"

log = structlog.get_logger(__name__)


class AuditShipper:
    """Reads the spool and writes AuditEvents; one runs per spool folder."""

    def __init__(self, folder: Path, records: Records) -> None:
        self._folder = folder
        self._records = records
        self._failures: Counter[str] = Counter()

    async def run(self, stop: asyncio.Event) -> None:
        """Ship until told to stop; waits out an absence of the FHIR store."""
        reader = await asyncio.to_thread(SpoolReader, self._folder)
        delay = FIRST_DELAY_S
        while not stop.is_set():
            pause, began = IDLE_S, time.monotonic()
            try:
                if await self.ship_once(reader):
                    pause = await self._rest(reader, time.monotonic() - began)
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
        await self.ship(batch)
        await asyncio.to_thread(reader.acknowledge, batch)
        return True

    async def _rest(self, reader: SpoolReader, worked_s: float) -> float:
        backlog = await asyncio.to_thread(reader.backlog)
        return 0.0 if backlog > EASY_BYTES else min(RESTS * worked_s, LONGEST_REST_S)

    async def ship(self, batch: Batch) -> None:
        """Write these records; what the store will never take is kept on disk."""
        events = list(batch.records)
        if not events or await self._all_at_once(events):
            return
        refused = await self._one_by_one(events, literal=True)
        # A reference to what is not there is refused: say the same without the link.
        refused = await self._one_by_one(refused, literal=False)
        if refused:
            await asyncio.to_thread(self._keep, refused)
        self._failures.clear()

    async def _all_at_once(self, records: list[SpooledRecord]) -> bool:
        """One transaction, which costs the store a third; False when it does not take it."""
        try:
            await self._post("transaction", records, literal=True)
        except RecordsUnavailable:
            raise
        except RecordsError:
            return False
        return True

    async def _one_by_one(
        self, records: list[SpooledRecord], *, literal: bool
    ) -> list[SpooledRecord]:
        """Write these as one batch and return those that the store will not take."""
        if not records:
            return []
        try:
            answer = await self._post("batch", records, literal=literal)
        except Rejected:  # the whole of it, for what cannot even be parsed: find out which
            if len(records) == 1:
                return records
            half = len(records) // 2
            first = await self._one_by_one(records[:half], literal=literal)
            return first + await self._one_by_one(records[half:], literal=literal)
        refused, away = [], None
        for record, entry in zip(records, answer["entry"], strict=True):
            status = int(str(entry["response"]["status"])[:3])
            if status >= 500:
                self._failures[record.id] += 1
                away = away or (None if self._failures[record.id] >= ATTEMPTS else status)
            if status >= 400:
                refused.append(record)
        if away is not None:
            raise RecordsUnavailable("a batch entry failed", status=away)
        return refused

    async def _post(self, kind: str, records: list[SpooledRecord], *, literal: bool) -> Any:
        bundle = {
            "resourceType": "Bundle",
            "type": kind,
            "entry": [_entry(to_audit_event(one, literal=literal)) for one in records],
        }
        _, _, answer = await self._records.operation(
            "POST", "", data=bundle, headers={"Prefer": "return=minimal"}
        )
        return answer

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
    # By an id of our own: to write it again changes nothing.
    return {
        "resource": event,
        "request": {"method": "PUT", "url": f"AuditEvent/{event['id']}"},
    }
