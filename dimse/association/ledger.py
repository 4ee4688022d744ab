"""Audit of associations: what was stored (one record per association, study and outcome, not one
per slice), asked for, fetched and refused."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import structlog

from access import AuditEventKind, AuditRecord, AuditSpool, Caller
from access.audit import AuditUnavailable

log = structlog.get_logger(__name__)

Outcome = Literal["success", "minor", "serious", "major"]
Action = Literal["C", "R", "U", "D", "E"]

# AuditEvent.action: create, read, update, delete; a query is an execution (DICOM PS3.15 A.5.3).
_ACTION: dict[AuditEventKind, Action] = {
    AuditEventKind.STORE: "C",
    AuditEventKind.RETRIEVE: "R",
    AuditEventKind.UPDATE: "U",
    AuditEventKind.DELETE: "D",
}


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
        self._thread: threading.Thread | None = None

    def add(self, association: int, caller: Caller, study: str | None, outcome: str) -> None:
        """Count one C-STORE; `outcome` is "stored", "duplicate" or the name of the refusal."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="dimse-ledger", daemon=True)
                self._thread.start()
            group = self._groups.setdefault((association, study), _Group(caller))
            group.counts[outcome] += 1

    def end(self, association: int) -> None:
        """Record everything of an association that is over."""
        self._record([key for key in self._keys() if key[0] == association])

    def refuse(self, caller: Caller, why: str) -> None:
        """Record an association that was not accepted."""
        self.event(caller, AuditEventKind.DENIED, "minor", detail=why)

    def event(
        self,
        caller: Caller,
        kind: AuditEventKind,
        outcome: Outcome,
        study: str | None = None,
        detail: str | None = None,
        *,
        query: str | None = None,
    ) -> None:
        """Record one thing at once; neither `detail` nor `query` ever holds patient data."""
        record = AuditRecord(
            action=_ACTION.get(kind, "E"),
            event=kind,
            outcome=outcome,
            caller=caller,
            at=datetime.now(UTC),
            study=study,
            detail=detail,
            query=query,
        )
        try:
            self._audit.record(record)
        except AuditUnavailable:
            # It is done and acknowledged; the log is the last place left to say so.
            log.exception("audit record lost", study=study, detail=detail)

    def close(self) -> None:
        """Record what is left."""
        self._stopping.set()
        if self._thread is not None:
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
            outcome: Outcome = "minor" if refused else "success"
            detail = ", ".join(f"{name}: {n}" for name, n in sorted(group.counts.items()))
            self.event(group.caller, AuditEventKind.STORE, outcome, key[1], detail)
