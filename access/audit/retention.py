"""What becomes of records that every reader has: kept for a time, then removed, with a note."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from access.audit.chain import SUFFIX, chains, last_head, name_parts, retired, save_retired
from access.audit.reader import positions
from access.audit.record import AuditEventKind, AuditRecord, Head
from access.audit.spool import AuditSpool

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long shipped records stay on the disk.

    Attributes:
        keep_s: seconds after the last change of a file.
        keep_bytes: beyond this size of the spool the oldest files go earlier.
    """

    keep_s: float = 30 * 86_400.0
    keep_bytes: int = 2 * 1024**3


def retire(folder: Path, readers: list[str], rule: Retention, spool: AuditSpool) -> int:
    """Remove files that are past their time; returns how many.

    Only what every reader has acknowledged goes, the newest file of a chain never does. What goes
    is first written into the trail, so that `verify` can tell it from what somebody has removed.
    """
    going = _going(folder, readers, rule)
    if not going:
        return 0
    known = retired(folder)
    for path in going:
        parts, head = name_parts(path), last_head(path)
        if parts is not None and head is not None:
            known[parts[0]] = head
    for chain, head in sorted(known.items()):
        # All chains each time: an older note may be in a file that goes now.
        spool.record(note(chain, head))
    save_retired(folder, known)
    for path in going:
        path.unlink()
    log.info("audit.retired", files=len(going))
    return len(going)


def note(chain: str, head: Head) -> AuditRecord:
    """The record that says up to where a chain was removed."""
    return AuditRecord(
        action="D",
        event=AuditEventKind.RETIRE,
        outcome="success",
        caller=None,
        at=datetime.now(UTC),
        resource=f"audit/{chain}",
        detail=f"removed through {head.sequence}, SHA-256 {head.digest}",
    )


def noted(record: AuditRecord) -> tuple[str, Head] | None:
    """Chain and last record that a note speaks of."""
    words = (record.detail or "").replace(",", "").split(" ")
    if record.event is not AuditEventKind.RETIRE or len(words) != 5 or not words[2].isdigit():
        return None
    return (record.resource or "").removeprefix("audit/"), Head(int(words[2]), words[4])


def _going(folder: Path, readers: list[str], rule: Retention) -> list[Path]:
    reached = [positions(folder, name) for name in readers]
    surplus = sum(path.stat().st_size for path in folder.glob(f"*{SUFFIX}")) - rule.keep_bytes
    before = time.time() - rule.keep_s
    of_earlier_versions = [p for p in folder.glob(f"*{SUFFIX}") if name_parts(p) is None]
    rows = [files[:-1] for files in chains(folder).values()] + [[p] for p in of_earlier_versions]
    going = []
    for files in rows:
        for path in files:
            status = path.stat()
            everywhere = all(at.get(path.name, 0) >= status.st_size for at in reached)
            if not everywhere or not (status.st_mtime < before or surplus > 0):
                break
            surplus -= status.st_size
            going.append(path)
    return going
