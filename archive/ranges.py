"""Date, time and date-time ranges of a query, as bounds that compare as text."""

from __future__ import annotations

import re
from dataclasses import dataclass

from archive.errors import QueryError

_DATE = re.compile(r"\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
_TIME = re.compile(r"([01]\d|2[0-3])(([0-5]\d)(([0-5]\d|60)(\.\d{1,6})?)?)?")
_DATETIME = re.compile(r"\d{4}((\d{2})((\d{2})((\d{2})((\d{2})((\d{2})(\.\d{1,6})?)?)?)?)?)?")
_OFFSET = r"[+-]\d{4}"


@dataclass(frozen=True, slots=True)
class Range:
    """Inclusive bounds; None is open. A single value is a range of what it leaves unsaid."""

    low: str | None
    high: str | None


def _checked(low: str | None, high: str | None) -> Range:
    if low is not None and high is not None and low > high:
        raise QueryError("the range ends before it begins")
    return Range(low, high)


def _ends(value: str) -> tuple[str, str]:
    first, dash, last = value.partition("-")
    if not dash:
        return first, first
    if not first and not last:
        raise QueryError("a range needs at least one end")
    return first, last


def date_range(value: str) -> Range:
    """`20260101`, `20260101-`, `-20261231` or both ends; the old `2026.01.01` is understood."""
    low, high = _ends(value.replace(".", "").strip())
    if any(part and not _DATE.fullmatch(part) for part in (low, high)):
        raise QueryError("a date must be YYYYMMDD")
    return _checked(low or None, high or None)


def time_range(value: str) -> Range:
    """`10`, `1030-`, `103000.5-1200`: bounds as HHMMSSFFFFFF; the old `10:30:00` is understood."""
    low, high = _ends(value.replace(":", "").strip())
    if any(part and not _TIME.fullmatch(part) for part in (low, high)):
        raise QueryError("a time must be HH, HHMM, HHMMSS or HHMMSS.FFFFFF")
    return _checked(_padded(low, "000000000000"), _padded(high, "235959999999"))


def datetime_range(value: str) -> Range:
    """Bounds as YYYYMMDDHHMMSSFFFFFF. A UTC offset is read and not converted (documented)."""
    found = re.fullmatch(
        rf"(?P<low>[\d.]*)({_OFFSET}(?=-|$))?(?P<dash>-)?(?P<high>[\d.]*)({_OFFSET})?",
        value.strip(),
    )
    if found is None or not (found["low"] or found["high"]):
        raise QueryError("a date-time must be YYYYMMDDHHMMSS.FFFFFF&ZZXX or a part of it")
    low, high = found["low"], found["high"] if found["dash"] else found["low"]
    if any(part and not _DATETIME.fullmatch(part) for part in (low, high)):
        raise QueryError("a date-time must be YYYYMMDDHHMMSS.FFFFFF&ZZXX or a part of it")
    return _checked(_padded(low, "00000101000000000000"), _padded(high, "99991231235959999999"))


def _padded(value: str, filling: str) -> str | None:
    if not value:
        return None
    digits = value.replace(".", "")
    return digits + filling[len(digits) :]
