"""The ordered feed of changes, and a study as it stands now."""

from __future__ import annotations

import psycopg

from archive.index import instance_key
from archive.keys import Change, Source
from archive.summary import InstanceSummary, SeriesSummary, StudySummary


def changes(connection: psycopg.Connection, after: int, limit: int) -> list[Change]:
    """Changes behind `after`, in the order of their commits."""
    rows = connection.execute(
        "select study_uid, series_uid, sop_uid, sequence, kind, at, source, reason"
        " from archive.change where sequence > %s order by sequence limit %s",
        [after, limit],
    )
    return [
        Change(
            sequence=row[3],
            kind=row[4],
            key=instance_key(row),
            at=row[5],
            source=Source(**row[6]),
            reason=row[7],
        )
        for row in rows
    ]


def last_sequence(connection: psycopg.Connection) -> int:
    """Sequence number of the newest change; 0 before the first."""
    row = connection.execute("select coalesce(max(sequence), 0) from archive.change").fetchone()
    return int(row[0]) if row else 0


def study_summary(connection: psycopg.Connection, study: str) -> StudySummary | None:
    """The study and all below it, read in one snapshot."""
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        row = connection.execute(
            "select attributes, changed_at, sources, patient_mismatch, last_change"
            " from archive.study where study_uid = %s",
            [study],
        ).fetchone()
        if row is None:
            return None
        series_rows = connection.execute(
            "select series_uid, attributes from archive.series where study_uid = %s"
            " order by number, series_uid",
            [study],
        ).fetchall()
        instance_rows = connection.execute(
            "select series_uid, sop_uid, sop_class, transfer_syntax, frames, attributes"
            " from archive.instance where study_uid = %s order by number, sop_uid",
            [study],
        ).fetchall()
    instances: dict[str, list[InstanceSummary]] = {}
    for series_uid, *fields in instance_rows:
        instances.setdefault(series_uid, []).append(InstanceSummary(*fields))
    return StudySummary(
        uid=study,
        attributes=row[0],
        series=tuple(
            SeriesSummary(uid, attributes, tuple(instances.get(uid, ())))
            for uid, attributes in series_rows
        ),
        last_change=row[4],
        changed_at=row[1],
        sources=tuple(row[2]),
        patient_mismatch=row[3],
    )
