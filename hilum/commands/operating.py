"""What the operator does at the command line, in the audit trail like everything else."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from access import AuditEventKind, AuditRecord, Caller
from access.audit import AuditUnavailable
from access.audit.announcing import announced
from access.revocation import Revocations
from authorization.ending import Endings
from hilum.commands.console import database_of
from hilum.settings import Settings
from hilum.wiring import OPERATOR_CLIENT, audit_spool

_SOURCE = "operator"


def write(settings: Settings, record: AuditRecord) -> None:
    """Put one record into the trail. Raises AuditUnavailable."""
    try:
        spool = audit_spool(settings, _SOURCE)
    except OSError as error:
        raise AuditUnavailable(
            f"the audit trail in {settings.data} cannot be written ({error.strerror}), so nothing "
            "was changed; run the command as the user that runs Hilum"
        ) from error
    try:
        spool.record(record)
    finally:
        spool.close()


@contextmanager
def recorded(settings: Settings, what: str) -> Iterator[None]:
    """Write a change down, then let it be made; one that fails is written down as that, too."""
    record = AuditRecord(
        action="U",
        event=AuditEventKind.UPDATE,
        outcome="success",
        caller=Caller(_account(), "system", client=OPERATOR_CLIENT),
        at=datetime.now(UTC),
        detail=what,
    )
    with announced(partial(write, settings), record):
        yield


@contextmanager
def endings_of(data: Path | None) -> Iterator[Endings]:
    """Ends what apps were allowed; their tokens stop within two seconds."""
    dsn = database_of(data)
    with closing(Revocations(dsn)) as revocations:
        yield Endings(dsn, revocations)


def _account() -> str:
    """Who types, as the operating system has it."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"
