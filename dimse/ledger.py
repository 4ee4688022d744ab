"""Audit of stored instances: one record per association, study and outcome, not one per slice."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from access import AuditEventKind, AuditRecord, AuditSpool, Caller
from access.audit import AuditUnavailable

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Group:
    caller: Caller
    since: float = field(default_factory=time.monotonic)
    counts: Counter[str] = field(default_factory=Counter)


class Ledger:
    """Counts what each association stored; records a group at its end or when it is `age_s` old."""

    def __init__(self, audit: AuditSpool, age_s: float = 2.0) -> None:
        self._audit = audit
        self._age_s = age_s
        self._groups: dict[tuple[int, str | None], _Group] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dimse-ledger", daemon=True)
        self._thread.start()

    def add(self, association: int, caller: Caller, study: str | None, outcome: str) -> None:
        """Count one C-STORE; `outcome` is "stored", "duplicate" or the name of the refusal."""
        with self._lock:
            group = self._groups.setdefault((association, study), _Group(caller))
            group.counts[outcome] += 1

    def end(self, association: int) -> None:
        """Record everything of an association that is over."""
        self._record([key for key in self._keys() if key[0] == association])

    def refuse(self, caller: Caller, why: str) -> None:
        """Record an association that was not accepted."""
        self._write(caller, AuditEventKind.DENIED, "minor", None, why)

    def close(self) -> None:
        """Record what is left."""
        self._stopping.set()
        self._thread.join()
        self._record(self._keys())

    def _keys(self) -> list[tuple[int, str | None]]:
        with self._lock:
            return list(self._groups)

    def _run(self) -> None:
        while not self._stopping.wait(self._age_s / 4):
            limit = time.monotonic() - self._age_s
            with self._lock:
                old = [key for key, group in self._groups.items() if group.since <= limit]
            self._record(old)

    def _record(self, keys: list[tuple[int, str | None]]) -> None:
        for key in keys:
            with self._lock:
                group = self._groups.pop(key, None)
            if group is None:
                continue
            refused = set(group.counts) - {"stored", "duplicate"}
            outcome = "minor" if refused else "success"
            detail = ", ".join(f"{name}: {n}" for name, n in sorted(group.counts.items()))
            self._write(group.caller, AuditEventKind.STORE, outcome, key[1], detail)

    def _write(
        self, caller: Caller, event: AuditEventKind, outcome: str, study: str | None, detail: str
    ) -> None:
        record = AuditRecord(
            action="E" if event is AuditEventKind.DENIED else "C",
            event=event,
            outcome="success" if outcome == "success" else "minor",
            caller=caller,
            at=datetime.now(UTC),
            study=study,
            detail=detail,
        )
        try:
            self._audit.record(record)
        except AuditUnavailable:
            # The instances are stored and acknowledged; the log is the last place left to say so.
            log.exception("audit record lost", study=study, detail=detail)
