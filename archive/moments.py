"""Date and time as one range (PS3.4 C.2.2.2.5), and questions that tell their time zone."""

from __future__ import annotations

import re
from dataclasses import dataclass

from archive import attributes as known
from archive.attributes import json_name
from archive.errors import QueryError
from archive.ranges import Range, in_utc, moment_range
from archive.values import Condition, joined, range_test

_STUDY = (json_name(known.STUDY_DATE), json_name(known.STUDY_TIME))
# Each date that stands with a time of its own.
PAIRS = (
    _STUDY,
    ("00080021", "00080031"),
    ("00080022", "00080032"),
    ("00080023", "00080033"),
    ("00080012", "00080013"),
    ("00400244", "00400245"),
    ("00400250", "00400251"),
)
_ZONE = json_name(known.TIMEZONE)
_OFFSET = re.compile(r"[+-](0\d|1[0-4])[0-5]\d")


@dataclass(frozen=True, slots=True)
class Moments:
    """What a question says about dates and times.

    Attributes:
        pairs: (path of the date, its value, value of the time) that are one range.
        study: Value of date and time of the study, to be compared in UTC.
        zone: UTC offset of the question as `+HHMM`.
        rest: The other keys.
    """

    pairs: tuple[tuple[str, str, str], ...]
    study: tuple[str, str] | None
    zone: str | None
    rest: tuple[tuple[str, str], ...]


def take_moments(keys: tuple[tuple[str, str], ...], combined: bool, zone: str | None) -> Moments:
    """Separate the keys that are matched together; `zone` is overruled by (0008,0201) in `keys`.

    Raises:
        QueryError: the offset is none.
    """
    values = dict(keys)
    zone = values.pop(_ZONE, "").strip() or zone
    if zone is not None and not _OFFSET.fullmatch(zone):
        raise QueryError("TimezoneOffsetFromUTC must be +HHMM or -HHMM")
    pairs = []
    study = None
    for date, time in PAIRS if combined else ():
        if _says(values.get(date)) and _says(values.get(time)):
            pairs.append((date, values.pop(date), values.pop(time)))
    if zone is not None:
        if pairs and pairs[0][0] == _STUDY[0]:
            study = pairs.pop(0)[1:]
        elif _says(values.get(_STUDY[0])) and not _says(values.get(_STUDY[1])):
            study = (values.pop(_STUDY[0]), "")
    return Moments(tuple(pairs), study, zone, tuple(values.items()))


def _says(value: str | None) -> bool:
    return bool(value) and value != '""' and set(value or "") != {"*"}


def study_condition(date: str, time: str, zone: str | None) -> Condition:
    """The study's date and time as one range, in UTC for studies that tell their offset."""
    bounds = moment_range(date, time)
    local = _local("study.study_at", bounds)
    if zone is None:
        return joined([_days(bounds, 0), local], " and ")
    shifted = range_test("study.study_utc", in_utc(bounds, zone))
    either = Condition(
        f"case when study.study_utc <> '' then {shifted.sql} else {local.sql} end",
        shifted.parameters + local.parameters,
    )
    return joined([_days(bounds, 2), either], " and ")


def pair_condition(level: str, pair: tuple[str, str, str]) -> Condition:
    """Another date and its time as one range."""
    path, date, time = pair
    if path == _STUDY[0]:
        return study_condition(date, time, None)
    other = dict(PAIRS)[path]
    day = f"replace({level}.attributes -> '{path}' -> 'Value' ->> 0, '.', '')"
    clock = f"replace(coalesce({level}.attributes -> '{other}' -> 'Value' ->> 0, ''), ':', '')"
    whole = (
        f"({day} || case when {clock} = '' then '' else rpad(rpad(split_part({clock}, '.', 1),"
        f" 6, '0') || split_part({clock}, '.', 2), 12, '0') end)"
    )
    return _local(whole, moment_range(date, time))


def _local(column: str, bounds: Range) -> Condition:
    """A row that tells no time matches by its day."""
    days = Range(bounds.low and bounds.low[:8], bounds.high and bounds.high[:8])
    by_day, exact = range_test(column, days), range_test(column, bounds)
    return Condition(
        f"case when length({column}) = 8 then {by_day.sql} else {exact.sql} end",
        by_day.parameters + exact.parameters,
    )


def _days(bounds: Range, margin: int) -> Condition:
    """A wider range of days, which an index answers."""
    return range_test("study.study_date", bounds.days(margin))
