"""The modality worklist: scheduled procedure steps that modalities ask for (PS3.4 annex K)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

import orjson
import psycopg
from psycopg.types.json import Jsonb

from archive.connection import connected
from archive.header import folded_names, text
from archive.keys import DicomJson
from archive.worklist_match import STEPS, Key, check, matches, start_range, starts
from database import migrate

Status = Literal["SCHEDULED", "ARRIVED", "STARTED", "COMPLETED", "DISCONTINUED"]
STATUSES: tuple[Status, ...] = get_args(Status)
OPEN: tuple[Status, ...] = ("SCHEDULED", "ARRIVED", "STARTED")
SCHEMA = "archive"
MIGRATIONS = Path(__file__).parent / "migrations"

_BATCH = 200
_STEP_STATUS = "00400020"
# Return keys of type 1 (PS3.4 table K.6-1): a modality may refuse an item without one of them.
_NEEDED = {0x00100010: "PatientName", 0x00100020: "PatientID", 0x0020000D: "StudyInstanceUID",
           0x00401001: "RequestedProcedureID"}  # fmt: skip
_NEEDED_OF_STEP = {0x00080060: "Modality", 0x00400001: "ScheduledStationAETitle",
                   0x00400002: "ScheduledProcedureStepStartDate",
                   0x00400003: "ScheduledProcedureStepStartTime",
                   0x00400009: "ScheduledProcedureStepID"}  # fmt: skip
_COLUMNS = (
    "source, step_id, item, status, study_uid, accession, patient_id, issuer,"
    " requested_procedure_id, station_aes, modality, starts, patient_name, performing_physician"
)


class WorklistError(Exception):
    """An item cannot be in a worklist; the text names attributes, never their values."""


@dataclass(frozen=True, slots=True)
class Scheduled:
    """One step of the worklist as the database holds it."""

    source: str
    step_id: str
    status: Status
    item: DicomJson
    changed_at: datetime


class Worklist:
    """The table of scheduled steps; safe to share between threads and processes."""

    def __init__(self, dsn: str) -> None:
        migrate(dsn, SCHEMA, MIGRATIONS)
        self._dsn = dsn

    def upsert(self, source: str, item: DicomJson, status: Status | None = None) -> int:
        """Put an item here, or bring it up to date; the same call again changes nothing.

        Args:
            source: Names the order at its origin, for example `ServiceRequest/17`.
            item: The item as DICOM JSON with one or more scheduled procedure steps. Steps of the
                same source that are not in it any more leave the worklist.
            status: Of its steps; None keeps the status of a step that is here already.

        Returns:
            The number of steps.

        Raises:
            WorklistError: an attribute is missing that every modality needs.
            ArchiveError: the database is away.
        """
        steps = _steps(source, item)
        with connected(self._dsn) as connection, connection.transaction():
            connection.execute(
                "delete from archive.worklist where source = %s and step_id <> all(%s)",
                [source, [step[1] for step in steps]],
            )
            for step in steps:
                places = ", ".join(["%s"] * len(step))
                connection.execute(
                    f"insert into archive.worklist ({_COLUMNS}) values ({places})"  # noqa: S608
                    f" on conflict (source, step_id) do update set {_updates()},"
                    f" status = coalesce(%s, worklist.status), changed_at = now()".encode(),
                    [*step[:3], status or "SCHEDULED", *step[4:], status],
                )
        return len(steps)

    def cancel(self, source: str) -> int:
        """Mark the open steps of a source discontinued; returns how many there were."""
        with connected(self._dsn) as connection:
            return connection.execute(
                "update archive.worklist set status = 'DISCONTINUED', changed_at = now()"
                " where source = %s and status = any(%s)",
                [source, list(OPEN)],
            ).rowcount

    def withdraw(self, source: str) -> int:
        """Take a source's open steps off; what was done stays. Returns how many there were.

        Unlike a cancelled step a withdrawn one comes back with the next `upsert`.
        """
        with connected(self._dsn) as connection:
            return connection.execute(
                "delete from archive.worklist where source = %s and status = any(%s)",
                [source, list(OPEN)],
            ).rowcount

    def statuses(self, source: str) -> list[Status]:
        """What has become of each step of a source."""
        with connected(self._dsn) as connection:
            rows = connection.execute(
                "select status from archive.worklist where source = %s order by step_id", [source]
            )
            return [row[0] for row in rows]

    def remove(self, source: str) -> int:
        """Forget a source's steps; returns how many there were."""
        with connected(self._dsn) as connection:
            return connection.execute(
                "delete from archive.worklist where source = %s", [source]
            ).rowcount

    def list(self) -> list[Scheduled]:
        """Every step, open or not, by its start."""
        with connected(self._dsn) as connection:
            rows = connection.execute(
                "select source, step_id, status, item, changed_at from archive.worklist"
                " order by starts, source, step_id"
            )
            return [Scheduled(*row) for row in rows]

    def find(self, keys: Sequence[Key], *, fuzzy: bool = False) -> Iterator[DicomJson]:
        """Open items that match, by their start; each holds the one step that matched.

        Closing the iterator ends the query in the database.

        Raises:
            QueryError: a value that its VR does not allow.
            ArchiveError: the database is away.
        """
        check(keys)
        bounds = start_range(keys)
        with (
            connected(self._dsn) as connection,
            connection.transaction(),
            connection.cursor(name="worklist") as cursor,
        ):
            cursor.itersize = _BATCH
            cursor.execute(
                "select item, status from archive.worklist where status = any(%s)"
                " and (%s::text is null or starts >= %s)"
                " and (%s::text is null or starts <= %s) order by starts, source, step_id",
                [list(OPEN), bounds.low, bounds.low, bounds.high, bounds.high],
            )
            for item, status in cursor:
                shown = _with_status(item, status)
                if matches(keys, shown, fuzzy=fuzzy):
                    yield shown


def stored_json(document: DicomJson) -> Jsonb:
    """For a jsonb column, which holds no NUL."""
    return Jsonb(document, lambda value: orjson.dumps(value).replace(b"\\u0000", b"").decode())


def move_steps(
    connection: psycopg.Connection, references: Sequence[DicomJson], status: Status
) -> int:
    """Give open steps a new status; returns how many there were.

    Args:
        references: Items of a Scheduled Step Attributes Sequence. A step is meant by its ID
            together with the study or the accession number: IDs alone repeat.
        status: The new one.
    """
    moved = 0
    for reference in references:
        moved += connection.execute(
            "update archive.worklist set status = %s, changed_at = now()"
            " where status = any(%s) and step_id = %s and (study_uid = %s"
            " or (accession <> '' and accession = %s))",
            [
                status,
                list(OPEN),
                text(reference, 0x00400009),
                text(reference, 0x0020000D),
                text(reference, 0x00080050),
            ],
        ).rowcount
    return moved


def _updates() -> str:
    names = [name.strip() for name in _COLUMNS.split(",")]
    kept = ("source", "step_id", "status")
    return ", ".join(f"{name} = excluded.{name}" for name in names if name not in kept)


def _with_status(item: DicomJson, status: str) -> DicomJson:
    """The item with its step's status as it is now."""
    step = {**item[STEPS]["Value"][0], _STEP_STATUS: {"vr": "CS", "Value": [status]}}
    return {**item, STEPS: {"vr": "SQ", "Value": [step]}}


def _steps(source: str, item: DicomJson) -> list[tuple[Any, ...]]:
    """The rows of an item, in the order of `_COLUMNS`."""
    if not source or len(source) > 500 or "\0" in source:
        raise WorklistError("an item needs a key of 1 to 500 characters")
    steps = [step for step in item.get(STEPS, {}).get("Value", []) if step]
    if not steps:
        raise WorklistError("the item has no ScheduledProcedureStepSequence")
    _demand(item, _NEEDED)
    rows = [_row(source, item, step) for step in steps]
    if len({row[1] for row in rows}) < len(rows):
        raise WorklistError("two steps of the item have the same ScheduledProcedureStepID")
    return rows


def _demand(document: DicomJson, needed: dict[int, str]) -> None:
    missing = [name for tag, name in needed.items() if not text(document, tag)]
    if missing:
        raise WorklistError(f"the item lacks {', '.join(missing)}")


def _row(source: str, item: DicomJson, step: DicomJson) -> tuple[Any, ...]:
    _demand(step, _NEEDED_OF_STEP)
    if not starts(step):
        raise WorklistError("ScheduledProcedureStepStartDate is not YYYYMMDD")
    whole = {**item, STEPS: {"vr": "SQ", "Value": [step]}}
    names = {**folded_names([item]), **folded_names([step])}
    stations = [str(one).strip() for one in step["00400001"]["Value"] if one]
    return (
        source,
        text(step, 0x00400009),
        stored_json(whole),
        None,
        text(item, 0x0020000D),
        text(item, 0x00080050),
        text(item, 0x00100020),
        text(item, 0x00100021),
        text(item, 0x00401001),
        stations,
        text(step, 0x00080060),
        starts(step),
        _clean(names.get("00100010")),
        _clean(names.get("00400006")),
    )


def _clean(groups: list[list[str]] | None) -> list[str]:
    return [group.replace("\0", "") for group in groups[0]] if groups else ["", "", ""]
