"""Rows of the index: a group of instances becomes visible in one transaction."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import orjson
import psycopg
from psycopg.types.json import Jsonb

from archive import attributes as known
from archive.attributes import json_name
from archive.errors import ArchiveError, ContentConflict, PlacementConflict
from archive.header import (
    Header,
    folded_names,
    instance_number,
    modality,
    series_number,
    text,
)
from archive.keys import DicomJson, InstanceKey, Source, Stored

CHANNEL = "hilum_change"
INDEXED = 500
"""Characters of a value that a column holds; the whole value is in the JSON beside it."""
_FEED_LOCK = "archive:feed"
_ONLINE = {"vr": "CS", "Value": ["ONLINE"]}

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One instance whose file lies at `place`, to be entered into the index."""

    header: Header
    source: Source
    place: str


Outcome = Stored | ArchiveError


def enter(connection: psycopg.Connection, entries: list[Entry]) -> list[Outcome]:
    """Write a group in one transaction; an instance that is refused does not stop the others.

    The feed's lock serialises writers, which also keeps the counts right without row locks.
    """
    studies = sorted({entry.header.key.study for entry in entries})
    with connection.transaction():
        with connection.pipeline():
            connection.execute("select pg_advisory_xact_lock(hashtext(%s))", [_FEED_LOCK])
            present = connection.execute(
                "select sop_uid, study_uid, series_uid, sha256, transfer_syntax"
                " from archive.instance where sop_uid = any(%s)",
                [[entry.header.key.instance for entry in entries]],
            )
            study_rows = connection.execute(
                "select study_uid, attributes, names, patient_id, modalities, sop_classes,"
                " series_count, instance_count, sources, patient_mismatch"
                " from archive.study where study_uid = any(%s)",
                [studies],
            )
            series_rows = connection.execute(
                "select study_uid, series_uid, attributes, names, modality, number, instance_count"
                " from archive.series where (study_uid, series_uid) in"
                " (select * from unnest(%s::text[], %s::text[]))",
                [
                    [entry.header.key.study for entry in entries],
                    [entry.header.key.series for entry in entries],
                ],
            )
        batch = _Batch(present.fetchall(), study_rows.fetchall(), series_rows.fetchall())
        outcomes = [batch.add(entry) for entry in entries]
        if batch.accepted:
            batch.write(connection)
    return outcomes


def known_outcome(connection: psycopg.Connection, header: Header) -> Outcome | None:
    """What a store of this instance would answer if the index holds its SOP UID already."""
    row = connection.execute(
        "select sop_uid, study_uid, series_uid, sha256, transfer_syntax"
        " from archive.instance where sop_uid = %s",
        [header.key.instance],
    ).fetchone()
    return _compare(header, row) if row else None


def _compare(header: Header, row: Row) -> Outcome:
    _, study, series, sha256, syntax = row
    if (study, series) != (header.key.study, header.key.series):
        return PlacementConflict(header.key)
    if (sha256, syntax) != (header.sha256, header.transfer_syntax):
        return ContentConflict(header.key)
    return Stored(header.key, "duplicate", header.sop_class)


@dataclass(slots=True)
class _Study:
    attributes: DicomJson
    names: dict[str, Any]
    patient_id: str
    modalities: list[str]
    sop_classes: list[str]
    series_count: int
    instance_count: int
    sources: list[str]
    patient_mismatch: bool


@dataclass(slots=True)
class _Series:
    attributes: DicomJson
    names: dict[str, Any]
    modality: str
    number: int | None
    instance_count: int


class _Batch:
    """The rows as they will be after the group; nothing is written before `write`."""

    def __init__(self, present: list[Row], studies: list[Row], series: list[Row]) -> None:
        self._present = {row[0]: row for row in present}
        self._studies = {row[0]: _Study(*row[1:]) for row in studies}
        self._series = {(row[0], row[1]): _Series(*row[2:]) for row in series}
        self.accepted: list[Entry] = []

    def add(self, entry: Entry) -> Outcome:
        """Merge one instance, or say why it is not new."""
        header, key = entry.header, entry.header.key
        row = self._present.get(key.instance)
        if row is not None:
            return _compare(header, row)
        self._present[key.instance] = (
            key.instance,
            key.study,
            key.series,
            header.sha256,
            header.transfer_syntax,
        )
        self._merge_study(entry)
        self._merge_series(header)
        self.accepted.append(entry)
        return Stored(key, "stored", header.sop_class)

    def _merge_study(self, entry: Entry) -> None:
        header = entry.header
        patient_id = text(header.study, known.PATIENT_ID)
        study = self._studies.get(header.key.study)
        if study is None:
            study = _Study(dict(header.study), {}, patient_id, [], [], 0, 0, [], False)
            self._studies[header.key.study] = study
        _fill(study.attributes, header.study)
        study.patient_mismatch |= patient_id != study.patient_id
        study.patient_id = study.patient_id or patient_id
        _join(study.modalities, modality(header))
        _join(study.sop_classes, header.sop_class)
        _join(study.sources, entry.source.calling_ae or "")
        study.instance_count += 1
        if (header.key.study, header.key.series) not in self._series:
            study.series_count += 1
        study.names = folded_names([study.attributes])
        study.attributes |= {
            json_name(known.AVAILABILITY): _ONLINE,
            json_name(known.MODALITIES_IN_STUDY): {"vr": "CS", "Value": list(study.modalities)},
            json_name(known.SOP_CLASSES_IN_STUDY): {"vr": "UI", "Value": list(study.sop_classes)},
            json_name(known.STUDY_SERIES): {"vr": "IS", "Value": [study.series_count]},
            json_name(known.STUDY_INSTANCES): {"vr": "IS", "Value": [study.instance_count]},
        }

    def _merge_series(self, header: Header) -> None:
        place = (header.key.study, header.key.series)
        series = self._series.get(place)
        if series is None:
            series = _Series(dict(header.series), {}, modality(header), series_number(header), 0)
            self._series[place] = series
        _fill(series.attributes, header.series)
        series.instance_count += 1
        series.names = folded_names([series.attributes])
        series.attributes |= {
            json_name(known.AVAILABILITY): _ONLINE,
            json_name(known.SERIES_INSTANCES): {"vr": "IS", "Value": [series.instance_count]},
        }

    def write(self, connection: psycopg.Connection) -> None:
        """Write every changed row, the changes and the notification."""
        studies = {entry.header.key.study for entry in self.accepted}
        series = {(entry.header.key.study, entry.header.key.series) for entry in self.accepted}
        with connection.pipeline():
            for uid in sorted(studies):
                connection.execute(_UPSERT_STUDY, _study_row(uid, self._studies[uid]))
            for place in sorted(series):
                connection.execute(_UPSERT_SERIES, _series_row(place, self._series[place]))
            for entry in self.accepted:
                connection.execute(_INSERT_INSTANCE, _instance_row(entry))
            connection.execute(f"notify {CHANNEL}")


def _fill(target: DicomJson, source: DicomJson) -> None:
    """Take over attributes that the first instances left out or empty."""
    for name, element in source.items():
        if "Value" in element and "Value" not in target.get(name, {}):
            target[name] = element


def _join(values: list[str], value: str) -> None:
    if value and value not in values:
        values.append(value)


def _study_row(uid: str, study: _Study) -> dict[str, Any]:
    names = study.names.get(json_name(known.PATIENT_NAME)) or [["", "", ""]]
    return {
        "study_uid": uid,
        "attributes": Jsonb(study.attributes, orjson.dumps),
        "names": Jsonb(study.names, orjson.dumps),
        "patient_id": study.patient_id[:INDEXED],
        "accession": text(study.attributes, known.ACCESSION)[:INDEXED],
        "study_date": text(study.attributes, known.STUDY_DATE).replace(".", "")[:INDEXED],
        "study_time": text(study.attributes, known.STUDY_TIME)[:INDEXED],
        "name_alphabetic": names[0][0][:INDEXED],
        "name_ideographic": names[0][1][:INDEXED],
        "name_phonetic": names[0][2][:INDEXED],
        "modalities": study.modalities,
        "sop_classes": study.sop_classes,
        "series_count": study.series_count,
        "instance_count": study.instance_count,
        "sources": study.sources,
        "patient_mismatch": study.patient_mismatch,
    }


def _series_row(place: tuple[str, str], series: _Series) -> dict[str, Any]:
    return {
        "study_uid": place[0],
        "series_uid": place[1],
        "attributes": Jsonb(series.attributes, orjson.dumps),
        "names": Jsonb(series.names, orjson.dumps),
        "modality": series.modality,
        "number": series.number,
        "instance_count": series.instance_count,
    }


def _instance_row(entry: Entry) -> dict[str, Any]:
    header = entry.header
    return {
        "sop_uid": header.key.instance,
        "study_uid": header.key.study,
        "series_uid": header.key.series,
        "sop_class": header.sop_class,
        "transfer_syntax": header.transfer_syntax,
        "size": header.size,
        "sha256": header.sha256,
        "frames": header.frames,
        "frame_table": header.frame_table,
        "path": entry.place,
        "number": instance_number(header),
        "attributes": Jsonb(
            header.instance | {json_name(known.AVAILABILITY): _ONLINE}, orjson.dumps
        ),
        "names": Jsonb(folded_names([header.instance]), orjson.dumps),
        "source": Jsonb(dataclasses.asdict(entry.source), orjson.dumps),
    }


def instance_key(row: Row) -> InstanceKey:
    """The key from the columns study_uid, series_uid, sop_uid."""
    return InstanceKey(row[0], row[1], row[2])


_UPSERT_STUDY = """
insert into archive.study (study_uid, attributes, names, patient_id, accession, study_date,
    study_time, name_alphabetic, name_ideographic, name_phonetic, modalities, sop_classes,
    series_count, instance_count, sources, patient_mismatch, changed_at)
values (%(study_uid)s, %(attributes)s, %(names)s, %(patient_id)s, %(accession)s, %(study_date)s,
    %(study_time)s, %(name_alphabetic)s, %(name_ideographic)s, %(name_phonetic)s, %(modalities)s,
    %(sop_classes)s, %(series_count)s, %(instance_count)s, %(sources)s, %(patient_mismatch)s,
    clock_timestamp())
on conflict (study_uid) do update set
    attributes = excluded.attributes, names = excluded.names, patient_id = excluded.patient_id,
    accession = excluded.accession, study_date = excluded.study_date,
    study_time = excluded.study_time, name_alphabetic = excluded.name_alphabetic,
    name_ideographic = excluded.name_ideographic, name_phonetic = excluded.name_phonetic,
    modalities = excluded.modalities, sop_classes = excluded.sop_classes,
    series_count = excluded.series_count, instance_count = excluded.instance_count,
    sources = excluded.sources, patient_mismatch = excluded.patient_mismatch,
    changed_at = excluded.changed_at
"""

_UPSERT_SERIES = """
insert into archive.series (study_uid, series_uid, attributes, names, modality, number,
    instance_count)
values (%(study_uid)s, %(series_uid)s, %(attributes)s, %(names)s, %(modality)s, %(number)s,
    %(instance_count)s)
on conflict (study_uid, series_uid) do update set
    attributes = excluded.attributes, names = excluded.names, modality = excluded.modality,
    number = excluded.number, instance_count = excluded.instance_count
"""

_INSERT_INSTANCE = """
with entry as (
    insert into archive.change (kind, study_uid, series_uid, sop_uid, source)
    values ('instance_stored', %(study_uid)s, %(series_uid)s, %(sop_uid)s, %(source)s)
    returning sequence
)
insert into archive.instance (sop_uid, study_uid, series_uid, sop_class, transfer_syntax, size,
    sha256, frames, frame_table, path, number, attributes, names, change)
select %(sop_uid)s, %(study_uid)s, %(series_uid)s, %(sop_class)s, %(transfer_syntax)s, %(size)s,
    %(sha256)s, %(frames)s, %(frame_table)s, %(path)s, %(number)s, %(attributes)s, %(names)s,
    entry.sequence
from entry
"""
