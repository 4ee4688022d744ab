"""Refusals of those who prove nothing: the first are recorded each, the others are counted.

Anyone can be refused as often as they like. One record for each would let a stranger fill the
disk and push the trail of those who were let in out of sight.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from access.audit.record import AuditEventKind, AuditRecord

WINDOW_S = 60.0
EACH = 50  # records of one address in a window
ALL = 200  # records of all addresses in a window
NAMED_EACH, NAMED_ALL = 300, 1_000  # the same of those who name a client, which anybody can
ADDRESSES = 200  # addresses that are counted apart
OTHERS = "other addresses"


@dataclass(slots=True)
class _Count:
    since: datetime
    last: AuditRecord
    written: int = 0
    withheld: int = 0


class Flood:
    """Counts refusals by address; not safe between threads by itself."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._written = {False: 0, True: 0}
        self._counts: dict[tuple[bool, str], _Count] = {}

    def admits(self, record: AuditRecord) -> bool:
        """Whether this record is to be written; one that is not is counted."""
        if not _is_of_a_stranger(record):
            return True
        address = (record.caller.address if record.caller else None) or "unknown address"
        named = record.caller is not None and record.caller.client is not None
        each, all_ = (NAMED_EACH, NAMED_ALL) if named else (EACH, ALL)
        if (named, address) not in self._counts and len(self._counts) >= ADDRESSES:
            address = OTHERS
        count = self._counts.setdefault((named, address), _Count(record.at, record))
        count.last = record
        if count.written < each and self._written[named] < all_:
            count.written += 1
            self._written[named] += 1
            return True
        count.withheld += 1
        return False

    def due(self, *, now: bool = False) -> list[AuditRecord]:
        """What was counted in a window that is over; with `now` in the present one as well."""
        if not now and self._clock() - self._began < WINDOW_S:
            return []
        counted = [_sum(address, one) for (_, address), one in self._counts.items() if one.withheld]
        self._counts, self._written, self._began = {}, {False: 0, True: 0}, self._clock()
        return counted


def _is_of_a_stranger(record: AuditRecord) -> bool:
    if record.event is AuditEventKind.LOGIN:
        return record.outcome != "success"
    if record.event is not AuditEventKind.DENIED:
        return False
    caller = record.caller
    return caller is None or (caller.kind != "user" and caller.token_id is None)


def _sum(address: str, count: _Count) -> AuditRecord:
    what = "sign-ins failed" if count.last.event is AuditEventKind.LOGIN else "requests refused"
    since = count.since.isoformat(timespec="seconds")
    caller = count.last.caller
    who = caller and replace(caller, address=address, subject="anonymous")
    return AuditRecord(
        action="E",
        event=count.last.event,
        outcome="minor",
        caller=who,
        at=datetime.now(UTC),
        detail=f"{count.withheld} further {what} since {since}; last: {count.last.detail or ''}",
    )
