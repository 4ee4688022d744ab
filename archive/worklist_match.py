"""Keys of a worklist query against one DICOM JSON item (PS3.4 C.2.2.2 and K.6.1.2).

The worklist is short, so each key of an item is looked at here and not in the database: every
attribute can be a key, in any sequence, and all keys of a sequence must match in the same item.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

from archive.errors import QueryError
from archive.keys import DicomJson
from archive.names import GROUPS, fold, fold_group
from archive.ranges import Range, date_range, datetime_range, moment_range, time_range

STEPS = "00400100"
START_DATE, START_TIME = "00400002", "00400003"
_EMPTY = '""'
_NUMERIC = frozenset({"IS", "DS", "US", "SS", "UL", "SL", "FL", "FD", "SV", "UV"})
_NOT_MATCHED = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})


@dataclass(frozen=True, slots=True)
class Key:
    """One attribute of a query identifier.

    Attributes:
        tag: As DICOM JSON writes it.
        value: What to match, several values joined by backslash; "" is universal.
        keys: Of a sequence: the keys of its only item; none asks for whole items.
    """

    tag: str
    vr: str
    value: str = ""
    keys: tuple[Key, ...] = ()

    @property
    def is_universal(self) -> bool:
        """Matches everything, and only asks for the value."""
        if self.vr == "SQ":
            return all(key.is_universal for key in self.keys)
        return not self.value.strip("*") or self.vr in _NOT_MATCHED


def matches(keys: Sequence[Key], item: DicomJson, *, fuzzy: bool = False) -> bool:
    """Whether the item fulfils every key. Raises QueryError for a value that its VR forbids."""
    joined = _combined(keys)
    if joined is not None and not _starts_within(item, joined):
        return False
    passed_over = (START_DATE, START_TIME) if joined is not None else ()
    return all(_matches(key, item, fuzzy) for key in keys if key.tag not in passed_over)


def check(keys: Sequence[Key]) -> None:
    """Raise QueryError for a value that could match nothing because it is wrong."""
    passed_over = (START_DATE, START_TIME) if _combined(keys) is not None else ()
    for key in keys:
        if key.keys:
            check(key.keys)
        elif key.tag not in passed_over and not key.is_universal and key.value != _EMPTY:
            _test(key.vr, key.value, False)


def start_range(keys: Sequence[Key]) -> Range:
    """Bounds (YYYYMMDDHHMMSSFFFFFF) that every matching step's start lies in, for an index."""
    found = {key.tag: key.value for key in _step_keys(keys) if not key.is_universal}
    days = found.get(START_DATE, "")
    if not days or days == _EMPTY:
        return Range(None, None)
    bounds = date_range(days)
    return Range(
        bounds.low and bounds.low + "000000000000", bounds.high and bounds.high + "235959999999"
    )


def starts(step: DicomJson) -> str:
    """Start of a scheduled step as YYYYMMDDHHMMSSFFFFFF; empty without a date."""
    day = _first(step, START_DATE).replace(".", "")
    if not re.fullmatch(r"\d{8}", day):
        return ""
    return day + _instant(_first(step, START_TIME))


def _step_keys(keys: Sequence[Key]) -> tuple[Key, ...]:
    return next((key.keys for key in keys if key.tag == STEPS), ())


def _instant(time: str) -> str:
    digits = re.sub(r"[:.]", "", time)
    return (digits if digits.isdigit() else "").ljust(12, "0")[:12]


def _combined(keys: Sequence[Key]) -> Range | None:
    """Start date and time as one period, where both are ranges (PS3.4 table K.6-1)."""
    found = {key.tag: key.value for key in keys if not key.is_universal}
    days, times = found.get(START_DATE, ""), found.get(START_TIME, "")
    if "-" not in days or "-" not in times:
        return None
    return moment_range(days, times)


def _starts_within(step: DicomJson, bounds: Range) -> bool:
    return _within(starts(step), bounds)


def _within(value: str, bounds: Range) -> bool:
    return bool(value) and (bounds.low or "") <= value and value <= (bounds.high or "~")


def _matches(key: Key, item: DicomJson, fuzzy: bool) -> bool:
    if key.is_universal:
        return True
    values = item.get(key.tag, {}).get("Value", [])
    if key.vr == "SQ":
        return any(matches(key.keys, inner, fuzzy=fuzzy) for inner in values)
    if key.value == _EMPTY:
        return not any(values)
    test = _test(key.vr, key.value, fuzzy)
    return any(test(value) for value in values if value is not None)


@lru_cache(maxsize=1024)
def _test(vr: str, value: str, fuzzy: bool) -> Callable[[Any], bool]:
    """What a single value must fulfil."""
    if vr == "PN":
        return _name_test(value, fuzzy)
    if vr == "DA":
        days = date_range(value)
        return lambda found: _within(str(found).replace(".", ""), days)
    if vr == "TM":
        times = time_range(value)
        return lambda found: _within(_instant(str(found)), times)
    if vr == "DT":
        moments = datetime_range(value)
        return lambda found: _within(_moment(str(found)), moments)
    if vr in _NUMERIC:
        numbers = {_number(part) for part in value.split("\\")}
        return lambda found: _number(str(found)) in numbers
    patterns = [part.strip() for part in value.split("\\") if part.strip()]
    return lambda found: any(_glob(one, str(found).strip()) for one in patterns)


def _moment(value: str) -> str:
    digits = re.sub(r"[+-]\d{4}$", "", value).replace(".", "")
    return digits.ljust(20, "0")[:20]


def _number(text: str) -> Decimal:
    try:
        return Decimal(text.strip())
    except InvalidOperation:
        raise QueryError("the value is not a number") from None


def _glob(pattern: str, text: str) -> bool:
    """A DICOM wildcard: * is any text, ? is one character.

    Not a regular expression: a key with many stars would keep that busy for hours.
    """
    at, star, mark = 0, -1, 0
    index = 0
    while index < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, mark, at = at, index, at + 1
        elif at < len(pattern) and pattern[at] in ("?", text[index]):
            at, index = at + 1, index + 1
        elif star >= 0:
            mark += 1
            at, index = star + 1, mark
        else:
            return False
    return not pattern[at:].strip("*")


def _name_test(value: str, fuzzy: bool) -> Callable[[Any], bool]:
    """A person name: each group given must match its own; one alone may match any of the three."""
    if fuzzy:
        words = [word for word in re.split(r"[\s^=*?,]+", fold(value)) if word]
        return lambda found: _begins_with(words, _groups(found))
    wanted = [fold_group(group) for group in value.split("=")[:3]]
    if len(wanted) == 1:
        return lambda found: any(_glob(wanted[0], group) for group in _groups(found) if group)
    return lambda found: all(
        not pattern.strip("*") or _glob(pattern, group)
        for pattern, group in zip(wanted, _groups(found), strict=False)
    )


def _groups(found: Any) -> list[str]:
    name = found if isinstance(found, dict) else {"Alphabetic": str(found)}
    return [fold_group(str(name.get(group, ""))) for group in GROUPS]


def _begins_with(words: list[str], groups: list[str]) -> bool:
    parts = [part for group in groups for part in re.split(r"[\s^,-]+", group) if part]
    return all(any(part.startswith(word) for part in parts) for word in words)


def _first(document: DicomJson, tag: str) -> str:
    values = document.get(tag, {}).get("Value") or [""]
    return "" if values[0] is None else str(values[0])
