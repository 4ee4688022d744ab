"""The writing end of the spool.

Each process appends to files of its own chain. A record is handed to the operating system before
`record` returns, so a killed process loses nothing; it is forced to disk within SYNC_INTERVAL_S,
and for an export before `record` returns.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import structlog

from access.audit import chain as chains
from access.audit.flood import Flood
from access.audit.record import START, AuditEventKind, AuditRecord, Head, digest_of, encode
from access.errors import AccessError

SYNC_INTERVAL_S = 0.05
IDLE_S = 1.0
ROTATE_BYTES = 8 * 1024 * 1024
FORCED = frozenset(
    {AuditEventKind.EXPORT, AuditEventKind.REPAIR, AuditEventKind.RETIRE, AuditEventKind.ANCHOR}
)
_SOURCE = re.compile(r"[A-Za-z0-9_-]{1,40}\Z", re.ASCII)

log = structlog.get_logger(__name__)


class AuditUnavailable(AccessError):
    """The record could not be written to disk; what it describes must not go ahead."""


class AuditSpool:
    """Appends audit records to the chain of this process; safe to share between threads.

    A chain is named by its source; the second process of one source that runs at the same time
    has `source+2`. The next process goes on where the last one stopped.
    """

    def __init__(self, folder: Path, source: str) -> None:
        if not _SOURCE.match(source):
            raise ValueError("a source is a word of letters, digits, - and _")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        self._folder = folder
        self._source = source
        self._host = socket.gethostname()
        self._chain = source
        self._head = START
        self._writing = threading.Lock()
        self._syncing = threading.Lock()
        self._lock: int | None = None
        self._handle: int | None = None
        self._size = 0
        self._written = 0
        self._synced = 0
        self._flood = Flood()
        self._wake = threading.Event()
        self._closed = False
        self._syncer: threading.Thread | None = None

    def record(self, record: AuditRecord) -> None:
        """Append one record; an export is on disk when this returns.

        Raises:
            AuditUnavailable: the disk refused it.
        """
        with self._writing:
            self._append_due()
            if self._flood.admits(record):
                self._append(record)
            mine = self._written
        if record.event in FORCED:
            self._sync_up_to(mine)
        else:
            self._wake.set()

    def flush(self) -> None:
        """Force everything recorded so far to disk."""
        self._sync_up_to(self._written)

    def close(self) -> None:
        """Force everything to disk and let go of the chain."""
        self._closed = True
        self._wake.set()
        if self._syncer is not None:
            self._syncer.join()
        with self._writing:
            self._append_due(now=True)
        self.flush()
        with self._syncing, self._writing:
            self._let_go()
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def _append_due(self, *, now: bool = False) -> None:
        for counted in self._flood.due(now=now):
            self._append(counted)

    def _append(self, record: AuditRecord) -> None:
        try:
            if self._handle is not None and self._size >= ROTATE_BYTES:
                os.fsync(self._handle)
                self._let_go()
            handle = self._handle if self._handle is not None else self._open()
            self._write(handle, record)
        except OSError as error:
            # The next record opens the chain anew, which also mends and syncs what is left.
            self._let_go()
            raise AuditUnavailable("the audit spool cannot be written") from error

    def _write(self, handle: int, record: AuditRecord) -> None:
        line = encode(record, self._source, self._host, self._head)
        written = os.write(handle, line)
        if written != len(line):
            os.ftruncate(handle, self._size)  # a full disk: no half line may stay
            raise AuditUnavailable("the audit spool's disk is full")
        self._size += written
        self._head = Head(self._head.sequence + 1, digest_of(line))
        self._written += 1

    def _open(self) -> int:
        if self._lock is None:
            self._lock, self._chain = self._take_chain()
        self._head, torn = chains.mend(self._folder, self._chain)
        path = self._folder / chains.file_name(self._chain, self._head.sequence + 1)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._handle, self._size = handle, 0
        chains.sync_folder(self._folder)
        if self._syncer is None and not self._closed:
            self._syncer = threading.Thread(target=self._sync_loop, daemon=True)
            self._syncer.start()
        if torn is not None:
            log.warning("audit.torn_record", chain=self._chain, after=torn.after)
            self._write(handle, _note_of(self._chain, torn))
        return handle

    def _take_chain(self) -> tuple[int, str]:
        """The first chain of our source that no living process has."""
        number = 1
        while True:
            name = self._source if number == 1 else f"{self._source}+{number}"
            path = chains.lock_path(self._folder, name)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return handle, name
            except BlockingIOError:
                os.close(handle)
                number += 1

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
            if handle is None:  # let go after a failure: the next record syncs what is left
                raise AuditUnavailable("the audit spool cannot be forced to disk")
            try:
                os.fsync(handle)
            except OSError as error:
                raise AuditUnavailable("the audit spool cannot be forced to disk") from error
            finally:
                os.close(handle)
            self._synced = upto

    def _sync_loop(self) -> None:
        while not self._closed:
            self._wake.wait(IDLE_S)
            self._wake.clear()
            try:
                with self._writing:
                    self._append_due()
                self.flush()
            except AuditUnavailable:
                log.error("audit.sync_failed", source=self._source)
            time.sleep(SYNC_INTERVAL_S)


def _note_of(chain: str, torn: chains.Torn) -> AuditRecord:
    """That a crash has left half a record, for whoever reads the trail."""
    detail = (
        f"chain {chain}: {torn.length} bytes of a half-written record after {torn.after} were cut "
        f"off, SHA-256 {torn.digest}"
    )
    return AuditRecord(
        action="U",
        event=AuditEventKind.REPAIR,
        outcome="minor",
        caller=None,
        at=datetime.now(UTC),
        resource=f"audit/{chain}",
        detail=detail,
    )
