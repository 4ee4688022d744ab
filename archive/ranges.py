"""Date, time and date-time ranges of a query, as bounds that compare as text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

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

    def days(self, margin: int) -> Range:
        """The days of the bounds, wider by `margin` days at each end."""
        return Range(_other_day(self.low, -margin), _other_day(self.high, margin))


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


_DATETIMES = re.compile(
    rf"(?P<low>[\d.]*)(?P<low_zone>{_OFFSET}(?=-|$))?(?P<dash>-)?"
    rf"(?P<high>[\d.]*)(?P<high_zone>{_OFFSET})?"
)


def datetime_range(value: str) -> Range:
    """Bounds as YYYYMMDDHHMMSSFFFFFF, without their UTC offsets (`utc_range` has those)."""
    found = _DATETIMES.fullmatch(value.strip())
    if found is None or not (found["low"] or found["high"]):
        raise QueryError("a date-time must be YYYYMMDDHHMMSS.FFFFFF&ZZXX or a part of it")
    low, high = found["low"], found["high"] if found["dash"] else found["low"]
    if any(part and not _DATETIME.fullmatch(part) for part in (low, high)):
        raise QueryError("a date-time must be YYYYMMDDHHMMSS.FFFFFF&ZZXX or a part of it")
    return _checked(_padded(low, "00000101000000000000"), _padded(high, "99991231235959999999"))


def moment_range(date: str, time: str) -> Range:
    """Date and time of a question as one range of moments, YYYYMMDDHHMMSSFFFFFF.

    `20260101-20260103` with `1000-1200` is from the first day at 10:00 to the last day at 12:00.
    """
    days = date_range(date)
    hours = _hours(time)
    low = None if days.low is None else days.low + (hours.low or "0" * 12)
    high = None if days.high is None else days.high + (hours.high or "235959999999")
    return _checked(low, high)


def _hours(value: str) -> Range:
    """Each end by itself: in a period over days the second time may be the earlier one."""
    low, dash, high = value.partition("-")
    if not dash or not (low.strip() or high.strip()):
        return time_range(value) if value else Range(None, None)
    first = time_range(low).low if low.strip() else None
    return Range(first, time_range(high).high if high.strip() else None)


def in_utc(bounds: Range, zone: str) -> Range:
    """Bounds of a zone (`+HHMM`) as bounds in UTC."""
    return Range(_shifted(bounds.low, zone), _shifted(bounds.high, zone))


def to_utc(moment: str, zone: str) -> str:
    """A moment (YYYYMMDDHHMMSSFFFFFF) of a zone (`+HHMM`) in UTC; "" if there is no such day."""
    minutes = int(zone[1:3]) * 60 + int(zone[3:5])
    try:
        # A leap second is told as the last second before it: it must stay in its minute.
        seconds = min(int(moment[12:14]), 59)
        local = datetime.strptime(moment[:12], "%Y%m%d%H%M").replace(tzinfo=UTC, second=seconds)
        moved = local - timedelta(minutes=-minutes if zone[0] == "-" else minutes)
    except (ValueError, OverflowError):
        return ""
    return moved.strftime("%Y%m%d%H%M%S").rjust(14, "0") + moment[14:]


def _shifted(moment: str | None, zone: str) -> str | None:
    if moment is None:
        return None
    # At the very ends of the calendar nothing is left to be shifted into.
    return to_utc(moment, zone) or moment


def _other_day(moment: str | None, days: int) -> str | None:
    if moment is None:
        return None
    try:
        day = datetime.strptime(moment[:8], "%Y%m%d").replace(tzinfo=UTC) + timedelta(days=days)
    except (ValueError, OverflowError):
        return None
    return day.strftime("%Y%m%d").rjust(8, "0")


def utc_range(value: str) -> Range | None:
    """Bounds of a date-time in UTC; None unless each end that is given tells its offset."""
    found = _DATETIMES.fullmatch(value.strip())
    if found is None:
        return None
    bounds = datetime_range(value)
    low_zone = found["low_zone"]
    high_zone = found["high_zone"] if found["dash"] else low_zone
    if (found["low"] and not low_zone) or (found["high"] and not high_zone):
        return None
    low = None if bounds.low is None or not low_zone else _shifted(bounds.low, low_zone)
    high = None if bounds.high is None or not high_zone else _shifted(bounds.high, high_zone)
    return Range(low, high) if low or high else None


def _padded(value: str, filling: str) -> str | None:
    if not value:
        return None
    digits = value.replace(".", "")
    return digits + filling[len(digits) :]
