"""Read values out of the DICOM JSON model and turn them into FHIR data types.

Nothing here raises on odd content: a value that cannot be understood is left out, because a
study must be published even when a modality filled a header badly. Source: PS3.5, PS3.18 F.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

from records import codes

DicomJson = Mapping[str, Any]

# Coding Scheme Designator -> FHIR system (PS3.16 table 8-1).
SCHEMES = {
    "SCT": codes.SCT,
    "SRT": "http://snomed.info/srt",
    "LN": codes.LOINC,
    "DCM": codes.DCM,
    "NCIt": codes.NCIT,
    "UCUM": codes.UCUM,
    "RADLEX": "http://radlex.org",
    "I10": "http://hl7.org/fhir/sid/icd-10",
    "C4": "http://www.ama-assn.org/go/cpt",
}
FARTHEST = timedelta(hours=14)  # the largest offset of a FHIR dateTime
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_TIME = re.compile(r"(\d{2})(\d{2})?(\d{2})?(?:\.(\d{1,6}))?\Z", re.ASCII)
_OFFSET = re.compile(r"([+-])(\d{2})(\d{2})\Z", re.ASCII)


def clean(value: Any) -> str:
    """Text that a FHIR string may hold: no control characters, no outer blanks."""
    return _UNPRINTABLE.sub("", str(value)).strip()


def values(data: DicomJson, tag: str) -> list[Any]:
    """All values of an attribute; [] when it is absent or empty."""
    found = data.get(tag, {}).get("Value", [])
    return [value for value in found if value is not None] if isinstance(found, list) else []


def text(data: DicomJson, *tags: str) -> str | None:
    """The first non-empty text among these attributes."""
    for tag in tags:
        for value in values(data, tag):
            if not isinstance(value, Mapping) and (cleaned := clean(value)):
                return cleaned
    return None


def items(data: DicomJson, tag: str) -> Iterator[DicomJson]:
    """The items of a sequence."""
    return (item for item in values(data, tag) if isinstance(item, Mapping))


def whole_number(data: DicomJson, tag: str) -> int | None:
    """A value as FHIR unsignedInt, or None (IS allows negative numbers, FHIR does not here)."""
    found = text(data, tag)
    try:
        number = int(float(found)) if found else -1
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number <= 2_147_483_647 else None


def coded(data: DicomJson, tag: str) -> list[dict[str, Any]]:
    """A code sequence as CodeableConcepts; the meaning is kept as text."""
    return [made for item in items(data, tag) if (made := _concept(item)) is not None]


def _concept(item: DicomJson) -> dict[str, Any] | None:
    code = text(item, "00080100", "00080119", "00080120")
    meaning = text(item, "00080104")
    scheme = text(item, "00080102")
    concept: dict[str, Any] = {"text": meaning} if meaning else {}
    if code:
        coding: dict[str, Any] = {"code": code.replace(" ", "_")}
        if scheme and (system := SCHEMES.get(scheme)):
            coding = {"system": system, "code": code}
        elif scheme:
            coding["system"] = f"{codes.SID_SCHEME}/{re.sub(r'[^A-Za-z0-9.-]', '-', scheme)}"
        if meaning:
            coding["display"] = meaning
        concept["coding"] = [coding]
    return concept or None


def fhir_date(data: DicomJson, tag: str) -> str | None:
    """A DA value as a FHIR date, or None when it is no day of the calendar."""
    found = _date(text(data, tag))
    return found.isoformat() if found else None


def fhir_datetime(
    data: DicomJson, date_tag: str, time_tag: str, *, offset: str | None, zone: str | None
) -> str | None:
    """DA and TM as a FHIR dateTime.

    A FHIR dateTime with a time needs an offset. It is taken from `offset` (0008,0201), else from
    the site's zone; without either only the date is written, which claims nothing unknown. So it
    is with a day before time zones, whose local time is seconds off: FHIR has no such offset.
    """
    day, moment = _date(text(data, date_tag)), _time(text(data, time_tag))
    if day is None:
        return None
    where = _offset(offset) or (ZoneInfo(zone) if zone else None)
    if moment is None or where is None:
        return day.isoformat()
    combined = datetime.combine(day, moment, tzinfo=where)
    if (combined.utcoffset() or timedelta(0)) % timedelta(minutes=1):
        return day.isoformat()
    return combined.isoformat(timespec="milliseconds" if moment.microsecond else "seconds")


def _date(value: str | None) -> date | None:
    if value is None or not re.fullmatch(r"\d{4}\.?\d{2}\.?\d{2}", value, re.ASCII):
        return None  # ACR-NEMA wrote dots; DICOM readers accept them still
    try:
        return datetime.strptime(value.replace(".", ""), "%Y%m%d").date()  # noqa: DTZ007
    except ValueError:
        return None


def _time(value: str | None) -> time | None:
    match = _TIME.match((value or "").replace(":", ""))
    if match is None:
        return None
    hour, minute, second = (int(match[n] or 0) for n in (1, 2, 3))
    micros = int((match[4] or "0").ljust(6, "0"))
    try:
        return time(hour, minute, min(second, 59), micros)  # 60 is a leap second
    except ValueError:
        return None


def _offset(value: str | None) -> timezone | None:
    match = _OFFSET.match(value or "")
    if match is None or int(match[3]) > 59:
        return None
    delta = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return timezone(-delta if match[1] == "-" else delta) if delta <= FARTHEST else None
