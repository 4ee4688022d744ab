"""Changes of who may do what: in the trail before they are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from access.audit.record import AuditRecord


@contextmanager
def announced(write: Callable[[AuditRecord], None], record: AuditRecord) -> Iterator[None]:
    """Write a record, then let be done what it says; what fails is written down as that, too.

    Raises:
        AuditUnavailable: by `write`; then nothing may be done.
    """
    write(record)
    try:
        yield
    except Exception as error:
        why = f"not done: {record.detail}: {type(error).__name__}"
        write(replace(record, outcome="minor", at=datetime.now(UTC), detail=why))
        raise
