"""The durable audit spool: who did what, kept on local disk until the FHIR store has it.

Each process appends to its own NDJSON files; one reader ships them. A record is handed to the
operating system before `record` returns, so a killed process loses nothing; it is forced to
disk within SYNC_INTERVAL_S, and for an export before `record` returns.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import orjson
import structlog

from access.caller import Caller
from access.errors import AccessError

SYNC_INTERVAL_S = 0.05
ROTATE_BYTES = 8 * 1024 * 1024
NEWBORN_S = 60
MAX_TEXT_CHARS = 2_000
SUFFIX = ".ndjson"
ACKNOWLEDGED = "acknowledged.json"

log = structlog.get_logger(__name__)


class AuditUnavailable(AccessError):
    """The record could not be written to disk; what it describes must not go ahead."""


class AuditEventKind(StrEnum):
    """What happened, in the words of the doors."""

    STORE = "store"
    QUERY = "query"
    RETRIEVE = "retrieve"
    UPDATE = "update"
    DELETE = "delete"
    FHIR_READ = "fhir-read"
    FHIR_SEARCH = "fhir-search"
    FHIR_WRITE = "fhir-write"
    EXPORT = "export"
    LOGIN = "login"
    LOGOUT = "logout"
    TOKEN = "token"
    REVOKE = "revoke"
    NOTIFY = "notify"
    DENIED = "denied"
    START = "start"
    STOP = "stop"
    REPAIR = "repair"
    RETIRE = "retire"
    ANCHOR = "anchor"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One thing that a caller did or was refused. Identifiers only, never names or content.

    Attributes:
        action: AuditEvent.action (create, read, update, delete, execute).
        study: Study Instance UID, where one is concerned.
        patient: FHIR reference such as `Patient/1`, where known.
        resource: FHIR reference, or the path of a DICOM resource.
        query: what was asked, with values that could name a person already taken out.
        detail: reason of a denial or failure, without patient data.
    """

    action: Literal["C", "R", "U", "D", "E"]
    event: AuditEventKind
    outcome: Literal["success", "minor", "serious", "major"]
    caller: Caller | None
    at: datetime
    study: str | None = None
    patient: str | None = None
    resource: str | None = None
    query: str | None = None
    detail: str | None = None


class AuditSpool:
    """Appends audit records to a file of this process; safe to share between threads."""

    def __init__(self, folder: Path, source: str) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        self._folder = folder
        self._source = source
        self._writing = threading.Lock()
        self._syncing = threading.Lock()
        self._handle: int | None = None
        self._size = 0
        self._written = 0
        self._synced = 0
        self._wake = threading.Event()
        self._closed = False
        self._syncer: threading.Thread | None = None

    def record(self, record: AuditRecord) -> None:
        """Append one record; an export is on disk when this returns.

        Raises:
            AuditUnavailable: the disk refused it.
        """
        line = orjson.dumps(_as_json(record, self._source)) + b"\n"
        with self._writing:
            self._append(line)
            self._written += 1
            mine = self._written
        if record.event is AuditEventKind.EXPORT:
            self._sync_up_to(mine)
        else:
            self._wake.set()

    def flush(self) -> None:
        """Force everything recorded so far to disk."""
        self._sync_up_to(self._written)

    def close(self) -> None:
        """Force everything to disk and let go of the file."""
        self._closed = True
        self._wake.set()
        if self._syncer is not None:
            self._syncer.join()
        self.flush()
        with self._syncing, self._writing:
            self._let_go()

    def _append(self, line: bytes) -> None:
        if self._handle is not None and self._size + len(line) > ROTATE_BYTES:
            os.fsync(self._handle)
            self._let_go()
        try:
            handle = self._handle if self._handle is not None else self._open()
            written = os.write(handle, line)
        except OSError as error:
            raise AuditUnavailable("the audit spool cannot be written") from error
        if written != len(line):
            os.ftruncate(handle, self._size)  # a full disk: no half line may stay
            raise AuditUnavailable("the audit spool's disk is full")
        self._size += written

    def _open(self) -> int:
        name = f"{self._source}-{os.getpid()}-{secrets.token_hex(6)}{SUFFIX}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        handle = os.open(self._folder / name, flags, 0o600)
        # The lock tells the reader that the file may still grow; it ends with the process.
        fcntl.flock(handle, fcntl.LOCK_EX)
        _sync_folder(self._folder)
        self._handle, self._size = handle, 0
        if self._syncer is None:
            self._syncer = threading.Thread(target=self._sync_loop, daemon=True)
            self._syncer.start()
        return handle

    def _let_go(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _sync_up_to(self, number: int) -> None:
        with self._syncing:
            if self._synced >= number:
                return  # the thread before us has taken our record along
            with self._writing:
                upto = self._written
                handle = os.dup(self._handle) if self._handle is not None else None
            try:
                if handle is not None:
                    os.fsync(handle)
            except OSError as error:
                raise AuditUnavailable("the audit spool cannot be forced to disk") from error
            finally:
                if handle is not None:
                    os.close(handle)
            self._synced = upto

    def _sync_loop(self) -> None:
        while not self._closed:
            self._wake.wait()
            self._wake.clear()
            try:
                self.flush()
            except AuditUnavailable:
                log.error("audit.sync_failed", source=self._source)
            time.sleep(SYNC_INTERVAL_S)


@dataclass(frozen=True, slots=True)
class SpooledRecord:
    """One line of the spool: a globally unique id, the door it came from, and the record."""

    id: str
    source: str
    record: AuditRecord


@dataclass(frozen=True, slots=True)
class Batch:
    """Records in the order of each file, and how far they reach in it."""

    records: tuple[SpooledRecord, ...]
    positions: dict[str, int]


class SpoolReader:
    """Reads every file of the spool from where it was last acknowledged; one reader at a time."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._acknowledged = self._load()

    def next_batch(self, limit: int = 100) -> Batch:
        """Up to `limit` records that were not acknowledged; empty when all are shipped."""
        records: list[SpooledRecord] = []
        positions: dict[str, int] = {}
        for path in sorted(self._folder.glob(f"*{SUFFIX}"), key=lambda p: p.stat().st_mtime_ns):
            if len(records) >= limit:
                break
            offset = self._acknowledged.get(path.name, 0)
            found, end = _read_lines(path, offset, limit - len(records))
            records.extend(found)
            if end > offset:
                positions[path.name] = end
            elif _is_finished(path, offset):
                self._forget(path)
        return Batch(tuple(records), positions)

    def acknowledge(self, batch: Batch) -> None:
        """Remember that these records are safe elsewhere; a finished file is removed later."""
        self._acknowledged.update(batch.positions)
        self._save()

    def _forget(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        if self._acknowledged.pop(path.name, None) is not None:
            self._save()

    def _load(self) -> dict[str, int]:
        path = self._folder / ACKNOWLEDGED
        loaded: dict[str, int] = orjson.loads(path.read_bytes()) if path.exists() else {}
        return {name: at for name, at in loaded.items() if (self._folder / name).exists()}

    def _save(self) -> None:
        path = self._folder / ACKNOWLEDGED
        draft = path.with_suffix(".draft")
        with draft.open("wb") as file:
            file.write(orjson.dumps(self._acknowledged))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        _sync_folder(self._folder)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_lines(path: Path, offset: int, limit: int) -> tuple[list[SpooledRecord], int]:
    records: list[SpooledRecord] = []
    with path.open("rb") as file:
        file.seek(offset)
        while len(records) < limit:
            line = file.readline()
            if not line.endswith(b"\n"):
                break  # the end, or a line that is being written
            offset += len(line)
            try:
                records.append(_from_json(orjson.loads(line)))
            except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
                log.error("audit.damaged_line", file=path.name, end=offset)
    return records, offset


def _is_finished(path: Path, offset: int) -> bool:
    """True when no process can append to the file any more and nothing complete is unread."""
    status = path.stat()
    if status.st_size == 0 and time.time() - status.st_mtime < NEWBORN_S:
        return False  # its writer may not have come to lock it yet
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        file.seek(offset)
        return b"\n" not in file.read()


def _as_json(record: AuditRecord, source: str) -> dict[str, Any]:
    caller = record.caller
    who = caller and {
        "subject": caller.subject,
        "kind": caller.kind,
        "client": caller.client,
        "address": caller.address,
    }
    texts = ("study", "patient", "resource", "query", "detail")
    cut = {name: (getattr(record, name) or "")[:MAX_TEXT_CHARS] or None for name in texts}
    return {
        "id": str(uuid4()),
        "source": source,
        "action": record.action,
        "event": record.event.value,
        "outcome": record.outcome,
        "at": record.at.isoformat(),
        "caller": who,
        **cut,
    }


def _from_json(line: dict[str, Any]) -> SpooledRecord:
    who = line.pop("caller")
    identity, source = line.pop("id"), line.pop("source")
    record = AuditRecord(
        caller=Caller(**who) if who else None,
        event=AuditEventKind(line.pop("event")),
        at=datetime.fromisoformat(line.pop("at")),
        **line,
    )
    return SpooledRecord(identity, source, record)
