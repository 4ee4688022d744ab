"""Performed procedure steps as modalities report them, and what that means for the worklist."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import psycopg

from archive.connection import connected
from archive.header import text
from archive.keys import DicomJson
from archive.worklist import MIGRATIONS, SCHEMA, Status, move_steps, stored_json
from database import migrate

CHANNEL = "hilum_procedure_step"
StepStatus = Literal["IN PROGRESS", "COMPLETED", "DISCONTINUED"]
STATUS, SCHEDULED_STEPS, STUDY_UID = 0x00400252, "00400270", 0x0020000D

_LOCK = "archive.procedure_step"
_MEANS: dict[str, Status] = {
    "IN PROGRESS": "STARTED",
    "COMPLETED": "COMPLETED",
    "DISCONTINUED": "DISCONTINUED",
}


class StepError(Exception):
    """A report that does not fit to what was reported before."""


class StepExists(StepError):
    """The SOP Instance UID is taken."""


class StepUnknown(StepError):
    """No step has this SOP Instance UID."""


class StepFinal(StepError):
    """The step is completed or discontinued: it does not change any more."""


@dataclass(frozen=True, slots=True)
class PerformedStep:
    """One modality performed procedure step.

    Attributes:
        change: Grows with every change of any step, in the order of the commits.
    """

    sop_uid: str
    status: StepStatus
    attributes: DicomJson
    study_uids: tuple[str, ...]
    calling_ae: str
    changed_at: datetime
    change: int


class PerformedSteps:
    """The table of performed steps; each change also notifies `CHANNEL`."""

    def __init__(self, dsn: str) -> None:
        migrate(dsn, SCHEMA, MIGRATIONS)
        self._dsn = dsn

    def create(self, sop_uid: str, attributes: DicomJson, calling_ae: str) -> int:
        """Keep a new step and mark its scheduled steps started; returns how many those were.

        Raises:
            StepExists: there is one of this UID.
            ArchiveError: the database is away.
        """
        with self._change() as connection:
            added = connection.execute(
                "insert into archive.procedure_step"
                " (sop_uid, attributes, status, study_uids, calling_ae, change)"
                " values (%s, %s, %s, %s, %s, nextval('archive.procedure_step_change'))"
                " on conflict (sop_uid) do nothing",
                [
                    sop_uid,
                    stored_json(attributes),
                    text(attributes, STATUS),
                    _studies(attributes),
                    calling_ae,
                ],
            ).rowcount
            if not added:
                raise StepExists(sop_uid)
            return _move(connection, attributes)

    def update(self, sop_uid: str, changes: DicomJson) -> PerformedStep:
        """Merge changes into a step in progress, and tell the worklist of a new status.

        Raises:
            StepUnknown, StepFinal: it cannot be changed.
            ArchiveError: the database is away.
        """
        with self._change() as connection:
            before = _read(connection, sop_uid)
            if before.status != "IN PROGRESS":
                raise StepFinal(sop_uid)
            merged = {**before.attributes, **changes}
            connection.execute(
                "update archive.procedure_step set attributes = %s, status = %s, study_uids = %s,"
                " changed_at = now(), change = nextval('archive.procedure_step_change')"
                " where sop_uid = %s",
                [stored_json(merged), text(merged, STATUS), _studies(merged), sop_uid],
            )
            _move(connection, merged)
            return _read(connection, sop_uid)

    def get(self, sop_uid: str) -> PerformedStep:
        """One step. Raises StepUnknown."""
        with connected(self._dsn) as connection:
            return _read(connection, sop_uid)

    def changes(self, after: int, limit: int) -> list[PerformedStep]:
        """Steps changed behind `after`, each as it is now; a later change has a larger number."""
        with connected(self._dsn) as connection:
            rows = connection.execute(
                _SELECT + " where change > %s order by change limit %s", [after, limit]
            )
            return [_step(row) for row in rows]

    def of_studies(self, study_uids: Sequence[str]) -> list[PerformedStep]:
        """The steps in which these studies were made, each once."""
        with connected(self._dsn) as connection:
            rows = connection.execute(
                _SELECT + " where study_uids && %s order by change", [list(study_uids)]
            )
            return [_step(row) for row in rows]

    @contextmanager
    def _change(self) -> Iterator[psycopg.Connection]:
        """A transaction that takes its change number under a lock, so that none comes late."""
        with connected(self._dsn) as connection, connection.transaction():
            connection.execute("select pg_advisory_xact_lock(hashtext(%s))", [_LOCK])
            yield connection
            connection.execute(f"notify {CHANNEL}".encode())


_SELECT = (
    "select sop_uid, status, attributes, study_uids, calling_ae, changed_at, change"
    " from archive.procedure_step"
)


def _read(connection: psycopg.Connection, sop_uid: str) -> PerformedStep:
    row = connection.execute(_SELECT + " where sop_uid = %s", [sop_uid]).fetchone()
    if row is None:
        raise StepUnknown(sop_uid)
    return _step(row)


def _step(row: tuple[Any, ...]) -> PerformedStep:
    sop_uid, status, attributes, studies, calling_ae, changed_at, change = row
    return PerformedStep(
        sop_uid, status, attributes, tuple(studies), calling_ae, changed_at, change
    )


def _references(attributes: DicomJson) -> list[DicomJson]:
    return [one for one in attributes.get(SCHEDULED_STEPS, {}).get("Value", []) if one]


def _studies(attributes: DicomJson) -> list[str]:
    found = (text(one, STUDY_UID) for one in _references(attributes))
    return list(dict.fromkeys(uid for uid in found if uid))


def _move(connection: psycopg.Connection, attributes: DicomJson) -> int:
    return move_steps(connection, _references(attributes), _MEANS[text(attributes, STATUS)])
