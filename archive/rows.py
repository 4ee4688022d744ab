"""The rows of a group of instances as they will be in the index: merged here, written at once."""

from __future__ import annotations

import dataclasses
import re
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any

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
from archive.keys import DicomJson, Source, Stored
from archive.ranges import to_utc

INDEXED = 500
"""Characters of a value that a column holds; the whole value is in the JSON beside it."""
NO_NUMBER = 1 << 62
"""Stands for a missing number: it sorts last."""
ONLINE = {"vr": "CS", "Value": ["ONLINE"]}
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d(([0-5]\d|60)(\.\d{1,6})?)?)?")

Row = tuple[Any, ...]
Outcome = Stored | ArchiveError


@dataclass(frozen=True, slots=True)
class Entry:
    """One instance whose file lies at `place`, to be entered into the index."""

    header: Header
    source: Source
    place: str


@dataclass(slots=True)
class StudyState:
    """A study's row while instances are merged into it; the fields are columns of the index."""

    attributes: DicomJson
    patient_id: str
    modalities: list[str] = field(default_factory=list)
    sop_classes: list[str] = field(default_factory=list)
    series_count: int = 0
    instance_count: int = 0
    sources: list[str] = field(default_factory=list)
    patient_mismatch: bool = False


@dataclass(slots=True)
class SeriesState:
    """A series' row while instances are merged into it."""

    attributes: DicomJson
    modality: str
    number: int
    instance_count: int = 0


@dataclass(frozen=True, slots=True)
class WholeStudy:
    """A study and all of its series."""

    uid: str
    study: StudyState
    series: dict[str, SeriesState]


class Batch:
    """Studies and series as they will be after the group."""

    def __init__(self, present: list[Row], studies: list[Row], series: list[Row]) -> None:
        self._present = {row[0]: row for row in present}
        self.studies = {row[0]: StudyState(*row[1:]) for row in studies}
        self.series = {(row[0], row[1]): SeriesState(*row[2:]) for row in series}
        self.accepted: list[Entry] = []

    def add(self, entry: Entry) -> Outcome:
        """Merge one instance, or say why it is not new."""
        header, key = entry.header, entry.header.key
        row = self._present.get(key.instance)
        if row is not None and row[5] != entry.place:
            return compare(header, row)
        if row is not None:
            # Committed before, but the answer of the database was lost on its way.
            return Stored(key, "stored", header.sop_class)
        self._present[key.instance] = (
            key.instance,
            key.study,
            key.series,
            header.sha256,
            header.transfer_syntax,
            entry.place,
        )
        self._merge_study(entry)
        self._merge_series(header)
        self.accepted.append(entry)
        return Stored(key, "stored", header.sop_class)

    def go_on_with(self, whole: WholeStudy) -> None:
        """Begin from a study as an earlier group left it."""
        self.studies[whole.uid] = whole.study
        self.series |= {(whole.uid, uid): state for uid, state in whole.series.items()}

    def only(self, study: str) -> WholeStudy:
        """One study as it is after the group."""
        series = {place[1]: state for place, state in self.series.items() if place[0] == study}
        return WholeStudy(study, self.studies[study], series)

    def _merge_study(self, entry: Entry) -> None:
        header = entry.header
        patient_id = text(header.study, known.PATIENT_ID)
        study = self.studies.get(header.key.study)
        if study is None:
            study = StudyState(dict(header.study), patient_id)
            self.studies[header.key.study] = study
        else:
            _fill(study.attributes, header.study)
        study.patient_mismatch |= patient_id != study.patient_id
        study.patient_id = study.patient_id or patient_id
        _join(study.modalities, modality(header))
        _join(study.sop_classes, header.sop_class)
        _join(study.sources, entry.source.calling_ae or "")
        study.instance_count += 1
        if (header.key.study, header.key.series) not in self.series:
            study.series_count += 1

    def _merge_series(self, header: Header) -> None:
        place = (header.key.study, header.key.series)
        series = self.series.get(place)
        if series is None:
            number = series_number(header)
            number = NO_NUMBER if number is None else number
            series = SeriesState(dict(header.series), modality(header), number)
            self.series[place] = series
        else:
            _fill(series.attributes, header.series)
        series.instance_count += 1


def compare(header: Header, row: Row) -> Outcome:
    """What a store answers whose SOP Instance UID is in the index already.

    Args:
        row: sop_uid, study_uid, series_uid, sha256, transfer_syntax, path.
    """
    _, study, series, sha256, syntax, _ = row
    if (study, series) != (header.key.study, header.key.series):
        return PlacementConflict(header.key)
    if (sha256, syntax) != (header.sha256, header.transfer_syntax):
        return ContentConflict(header.key)
    return Stored(header.key, "duplicate", header.sop_class)


def _fill(target: DicomJson, source: DicomJson) -> None:
    """Take over attributes that the first instances left out or empty."""
    for name, element in source.items():
        if "Value" in element and "Value" not in target.get(name, {}):
            target[name] = element


def _join(values: list[str], value: str) -> None:
    if value and value not in values:
        values.append(value)


def study_row(uid: str, study: StudyState, last_change: int) -> dict[str, Any]:
    """The columns of a study."""
    document = study.attributes | {
        json_name(known.AVAILABILITY): ONLINE,
        json_name(known.MODALITIES_IN_STUDY): {"vr": "CS", "Value": list(study.modalities)},
        json_name(known.SOP_CLASSES_IN_STUDY): {"vr": "UI", "Value": list(study.sop_classes)},
        json_name(known.STUDY_SERIES): {"vr": "IS", "Value": [study.series_count]},
        json_name(known.STUDY_INSTANCES): {"vr": "IS", "Value": [study.instance_count]},
    }
    names = folded_names([document])
    groups = (names.get(json_name(known.PATIENT_NAME)) or [["", "", ""]])[0]
    date = text(document, known.STUDY_DATE).replace(".", "")
    time = text(document, known.STUDY_TIME).replace(":", "")
    return {
        "study_uid": uid,
        "attributes": document,
        "names": names,
        "patient_id": study.patient_id[:INDEXED],
        "issuer": text(document, known.ISSUER)[:INDEXED],
        "accession": text(document, known.ACCESSION)[:INDEXED],
        "study_date": date[:INDEXED],
        "study_time": time[:INDEXED],
        "study_at": moment(date, time),
        "study_utc": _in_utc(moment(date, time), text(document, known.TIMEZONE)),
        "name_alphabetic": groups[0][:INDEXED],
        "name_ideographic": groups[1][:INDEXED],
        "name_phonetic": groups[2][:INDEXED],
        "name_all": "=".join(group[:INDEXED] for group in groups),
        "modalities": study.modalities,
        "sop_classes": study.sop_classes,
        "series_count": study.series_count,
        "instance_count": study.instance_count,
        "sources": study.sources,
        "patient_mismatch": study.patient_mismatch,
        "last_change": last_change,
    }


def moment(date: str, time: str) -> str:
    """Date and time as one text that compares; the date alone where there is no time."""
    if len(date) != 8 or not date.isdecimal():
        return ""
    if not _TIME.fullmatch(time):
        return date
    whole, _, fraction = time.partition(".")
    return date + whole.ljust(6, "0") + fraction.ljust(6, "0")


def _in_utc(at: str, zone: str) -> str:
    known_zone = re.fullmatch(r"[+-](0\d|1[0-4])[0-5]\d", zone)
    return to_utc(at, zone) if len(at) == 20 and known_zone else ""


def series_row(place: tuple[str, str], series: SeriesState, last_change: int) -> dict[str, Any]:
    """The columns of a series."""
    document = series.attributes | {
        json_name(known.AVAILABILITY): ONLINE,
        json_name(known.SERIES_INSTANCES): {"vr": "IS", "Value": [series.instance_count]},
    }
    return {
        "study_uid": place[0],
        "series_uid": place[1],
        "attributes": document,
        "names": folded_names([document]),
        "modality": series.modality,
        "number": series.number,
        "instance_count": series.instance_count,
        "last_change": last_change,
    }


def instance_row(entry: Entry, change: int) -> dict[str, Any]:
    """The columns of an instance and of its entry in the feed."""
    header = entry.header
    number = instance_number(header)
    table = header.frame_table
    return {
        "sop_uid": header.key.instance,
        "study_uid": header.key.study,
        "series_uid": header.key.series,
        "sop_class": header.sop_class,
        "transfer_syntax": header.transfer_syntax,
        "size": header.size,
        "sha256": header.sha256,
        "head_length": header.head_length,
        "head_sha256": header.head_sha256,
        "frames": header.frames,
        "frame_table": None if table is None else b64encode(table).decode(),
        "path": entry.place,
        "number": NO_NUMBER if number is None else number,
        "attributes": header.instance | {json_name(known.AVAILABILITY): ONLINE},
        "names": folded_names([header.instance]),
        "change": change,
        "source": dataclasses.asdict(entry.source),
    }
