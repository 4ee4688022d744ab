"""Rows of the index: a group of instances becomes visible in one transaction."""

# The texts of SQL are made of this module's own pieces; every value travels as a parameter.
# ruff: noqa: S608

from __future__ import annotations

from typing import Any, LiteralString

import orjson
import psycopg

from archive.keys import InstanceKey
from archive.rows import Batch, Entry, Outcome, Row, instance_row, series_row, study_row

CHANNEL = "hilum_change"
_FEED_LOCK = "archive:feed"
_NEXT = (
    "select nextval(pg_get_serial_sequence('archive.change', 'sequence'))"
    " from generate_series(1, %s)"
)


def lock_feed(connection: psycopg.Connection) -> None:
    """Hold the feed until the transaction ends: numbers are given in the order of the commits."""
    connection.execute("select pg_advisory_xact_lock(hashtext(%s))", [_FEED_LOCK])


def enter(connection: psycopg.Connection, entries: list[Entry]) -> list[Outcome]:
    """Write a group in one transaction; an instance that is refused does not stop the others.

    The feed's lock serialises writers, which also keeps the counts right without row locks.
    Two round trips, whatever the size of the group.
    """
    with connection.pipeline(), connection.transaction():
        batch, numbers = _read(connection, entries)
        outcomes = [batch.add(entry) for entry in entries]
        if batch.accepted:
            _write(connection, batch, numbers)
    return outcomes


def _read(connection: psycopg.Connection, entries: list[Entry]) -> tuple[Batch, list[int]]:
    """The state before the group, and a sequence number for each of its instances."""
    studies = sorted({entry.header.key.study for entry in entries})
    lock_feed(connection)
    there = connection.execute(_PRESENT, [[e.header.key.instance for e in entries]])
    study_rows = connection.execute(_STUDIES, [studies])
    series_rows = connection.execute(
        _SERIES,
        [[e.header.key.study for e in entries], [e.header.key.series for e in entries]],
    )
    numbers = connection.execute(_NEXT, [len(entries)])
    batch = Batch(there.fetchall(), study_rows.fetchall(), series_rows.fetchall())
    return batch, [row[0] for row in numbers.fetchall()]


def _write(connection: psycopg.Connection, batch: Batch, numbers: list[int]) -> None:
    instances = [
        instance_row(entry, number)
        for entry, number in zip(batch.accepted, sorted(numbers), strict=False)
    ]
    last = {row["study_uid"]: row["change"] for row in instances}
    places = {(row["study_uid"], row["series_uid"]): row["change"] for row in instances}
    parameters = {
        "studies": _json([study_row(uid, batch.studies[uid], last[uid]) for uid in sorted(last)]),
        "series": _json([series_row(p, batch.series[p], n) for p, n in sorted(places.items())]),
        "instances": _json(instances),
    }
    connection.execute(_WRITE, parameters)
    connection.execute(f"notify {CHANNEL}")


def write_states(connection: psycopg.Connection, batch: Batch, last_change: int) -> None:
    """Write only the study and series rows of a batch, after a deletion in the study."""
    studies, series = batch.studies.items(), batch.series.items()
    parameters = {
        "studies": _json([study_row(uid, state, last_change) for uid, state in studies]),
        "series": _json([series_row(place, state, last_change) for place, state in series]),
    }
    connection.execute(f"with {_UPSERT_STUDIES} {_UPSERT_SERIES}", parameters)


def _json(rows: list[dict[str, Any]]) -> str:
    return orjson.dumps(rows).decode()


def instance_key(row: Row) -> InstanceKey:
    """The key from the columns study_uid, series_uid, sop_uid."""
    return InstanceKey(row[0], row[1], row[2])


_PRESENT = (
    "select sop_uid, study_uid, series_uid, sha256, transfer_syntax, path"
    " from archive.instance where sop_uid = any(%s)"
)
_STUDIES = (
    "select study_uid, attributes, patient_id, modalities, sop_classes, series_count,"
    " instance_count, sources, patient_mismatch from archive.study where study_uid = any(%s)"
)
_SERIES = (
    "select study_uid, series_uid, attributes, modality, number, instance_count"
    " from archive.series where (study_uid, series_uid) in"
    " (select * from unnest(%s::text[], %s::text[]))"
)

_UPSERT_STUDIES: LiteralString = """
study_written as (
    insert into archive.study (study_uid, attributes, names, patient_id, issuer, accession,
        study_date, study_time, study_at, study_utc, name_alphabetic, name_ideographic,
        name_phonetic, name_all, modalities, sop_classes, series_count, instance_count, sources,
        patient_mismatch, last_change, changed_at)
    select r.*, clock_timestamp() from jsonb_to_recordset(%(studies)s::jsonb) as r (
        study_uid text, attributes jsonb, names jsonb, patient_id text, issuer text,
        accession text, study_date text, study_time text, study_at text, study_utc text,
        name_alphabetic text, name_ideographic text, name_phonetic text, name_all text,
        modalities text[], sop_classes text[], series_count int, instance_count int,
        sources text[], patient_mismatch boolean, last_change bigint)
    on conflict (study_uid) do update set
        attributes = excluded.attributes, names = excluded.names,
        patient_id = excluded.patient_id, issuer = excluded.issuer,
        accession = excluded.accession, study_date = excluded.study_date,
        study_time = excluded.study_time, study_at = excluded.study_at,
        study_utc = excluded.study_utc, name_alphabetic = excluded.name_alphabetic,
        name_ideographic = excluded.name_ideographic, name_phonetic = excluded.name_phonetic,
        name_all = excluded.name_all, modalities = excluded.modalities,
        sop_classes = excluded.sop_classes, series_count = excluded.series_count,
        instance_count = excluded.instance_count, sources = excluded.sources,
        patient_mismatch = excluded.patient_mismatch, last_change = excluded.last_change,
        changed_at = excluded.changed_at
)
"""

_UPSERT_SERIES: LiteralString = """
insert into archive.series (study_uid, series_uid, attributes, names, modality, number,
    instance_count, last_change)
select r.* from jsonb_to_recordset(%(series)s::jsonb) as r (
    study_uid text, series_uid text, attributes jsonb, names jsonb, modality text,
    number bigint, instance_count int, last_change bigint)
on conflict (study_uid, series_uid) do update set
    attributes = excluded.attributes, names = excluded.names, modality = excluded.modality,
    number = excluded.number, instance_count = excluded.instance_count,
    last_change = excluded.last_change
"""

# Foreign keys are checked when the whole statement has ended.
_WRITE: LiteralString = f"""
with entry as materialized (
    select * from jsonb_to_recordset(%(instances)s::jsonb) as r (
        sop_uid text, study_uid text, series_uid text, sop_class text, transfer_syntax text,
        size bigint, sha256 text, head_length int, head_sha256 text, frames bigint,
        frame_table text, path text, number bigint, attributes jsonb, names jsonb,
        change bigint, source jsonb)
),
{_UPSERT_STUDIES},
series_written as ({_UPSERT_SERIES}),
change_written as (
    insert into archive.change (sequence, kind, study_uid, series_uid, sop_uid, source)
    overriding system value
    select change, 'instance_stored', study_uid, series_uid, sop_uid, source from entry
)
insert into archive.instance (sop_uid, study_uid, series_uid, sop_class, transfer_syntax, size,
    sha256, head_length, head_sha256, frames, frame_table, path, number, attributes, names, change)
select sop_uid, study_uid, series_uid, sop_class, transfer_syntax, size, sha256, head_length,
    head_sha256, frames, decode(frame_table, 'base64'), path, number, attributes, names, change
from entry
"""
