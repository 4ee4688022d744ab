"""Conditions on one value, by its VR (PS3.4 C.2.2.2). Every value travels as a parameter."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from archive.errors import QueryError
from archive.names import fold, fold_group
from archive.ranges import Range, date_range, datetime_range, time_range, utc_range

NUMERIC = frozenset({"IS", "DS", "US", "SS", "UL", "SL", "FL", "FD", "SV", "UV"})
_TEXT = frozenset({"AE", "AS", "CS", "LO", "LT", "SH", "ST", "UC", "UR", "UT", "AT"})
_RANGES: dict[str, Callable[[str], Range]] = {
    "DA": date_range,
    "TM": time_range,
    "DT": datetime_range,
}
# How a stored value is brought into the form that the bounds of a range have.
_COMPARABLE = {
    "DA": "replace(v, '.', '')",
    "TM": "rpad(rpad(split_part(replace(v, ':', ''), '.', 1), 6, '0')"
    " || split_part(v, '.', 2), 12, '0')",
    "DT": "rpad(rpad(split_part(regexp_replace(v, '[+-][0-9]{4}$', ''), '.', 1), 14, '0')"
    " || split_part(regexp_replace(v, '[+-][0-9]{4}$', ''), '.', 2), 20, '0')",
}
TRIGRAM = 3
"""Characters that a trigram index needs to be of use."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A piece of a WHERE clause and its parameters."""

    sql: str
    parameters: tuple[Any, ...] = ()


def joined(conditions: Iterable[Condition], word: str) -> Condition:
    """The conditions joined by " and " or " or "; true if there are none."""
    kept = list(conditions)
    sql = word.join(condition.sql for condition in kept)
    return Condition(f"({sql})" if kept else "true", tuple(p for c in kept for p in c.parameters))


def uid_list(value: str) -> list[str]:
    """UIDs of a list separated by backslash (PS3.4) or comma (PS3.18)."""
    uids = [uid.strip() for uid in re.split(r"[\\,]", value) if uid.strip()]
    if not all(re.fullmatch(r"[0-9.]{1,64}", uid) for uid in uids):
        raise QueryError("a UID holds something else than digits and dots")
    return uids


def text_test(column: str, value: str) -> Condition:
    """Single value or wildcard matching; spaces around the value mean nothing (PS3.5 6.2)."""
    value = value.strip(" ")
    if "*" in value or "?" in value:
        return Condition(f"{column} like %s", (like(value),))
    return Condition(f"{column} = %s", (value,))


def like(value: str) -> str:
    """The LIKE pattern of a DICOM wildcard: * is any text, ? is one character."""
    escaped = re.sub(r"([\\%_])", r"\\\1", value)
    return escaped.replace("*", "%").replace("?", "_")


def range_test(column: str, bounds: Range) -> Condition:
    """A text column that is neither empty nor outside the bounds."""
    tests, parameters = [f"{column} <> ''"], []
    if bounds.low is not None:
        tests.append(f"{column} >= %s")
        parameters.append(bounds.low)
    if bounds.high is not None:
        tests.append(f"{column} <= %s")
        parameters.append(bounds.high)
    return Condition("(" + " and ".join(tests) + ")", tuple(parameters))


def value_test(vr: str, value: str) -> Condition:
    """A condition on the text `v` of a value that is no name and no number."""
    if vr == "UI":
        return Condition("v = any(%s)", (uid_list(value),))
    if vr == "DT":
        return _datetime_test(value)
    if vr in _RANGES:
        return range_test(_COMPARABLE[vr], _RANGES[vr](value))
    if vr in _TEXT:
        return text_test("v", value)
    raise QueryError(f"an attribute of VR {vr} cannot be matched")


def _datetime_test(value: str) -> Condition:
    """Where question and stored value both tell their UTC offset, they are compared in UTC."""
    plain = range_test(_COMPARABLE["DT"], datetime_range(value))
    moments = utc_range(value)
    if moments is None:
        return plain
    shifted = range_test("archive.dt_utc(v)", moments)
    return Condition(
        f"case when archive.dt_utc(v) is not null then {shifted.sql} else {plain.sql} end",
        shifted.parameters + plain.parameters,
    )


def number(value: str) -> str:
    """The number of a key as JSON; raises QueryError."""
    if not re.fullmatch(r"[+-]?\d{1,18}(\.\d{1,18})?", value.strip()):
        raise QueryError("the value is not a number")
    return format(Decimal(value.strip()), "f")


def name_condition(columns: tuple[str, str, str], value: str, fuzzy: bool) -> Condition:
    """A person name: each group given must match its own; one alone may match any of the three."""
    if fuzzy:
        return _fuzzy_name(columns, value)
    groups = [fold_group(group) for group in value.split("=")[:3]]
    if len(groups) == 1 and groups[0].strip("*"):
        return joined((text_test(column, groups[0]) for column in columns), " or ")
    pairs = zip(columns, groups, strict=False)
    return joined(
        (text_test(column, group) for column, group in pairs if group.strip("*")), " and "
    )


def _fuzzy_name(columns: tuple[str, str, str], value: str) -> Condition:
    """Every word begins some component of the name, in any order and any group."""
    words = fuzzy_words(value)
    whole = f"concat_ws('^', {', '.join(columns)})"
    tests = " and ".join([f"{whole} ~ %s"] * len(words)) or "true"
    return Condition(f"({tests})", tuple(r"(^|[\^ ,-])" + _quoted(word) for word in words))


def fuzzy_words(value: str) -> list[str]:
    """The folded words of a fuzzy question."""
    return [word for word in re.split(r"[\s^=*?,]+", fold(value)) if word]


def searched_part(value: str) -> str:
    """The folded text of `*text*`, which may stand anywhere in a name; "" for other questions."""
    text = fold_group(value)
    inner = text[1:-1]
    plain = text[:1] == text[-1:] == "*" and not set("*?=") & set(inner)
    return inner if plain and len(inner) >= TRIGRAM else ""


def narrowed_by_trigrams(column: str, value: str, fuzzy: bool) -> list[Condition]:
    """Conditions that every match meets too and that a trigram index on `column` can answer.

    Args:
        column: The three folded groups of a name, joined.
    """
    asked = fuzzy_words(value) if fuzzy else [fold_group(g) for g in value.split("=")[:3]]
    # What begins with text is found by the indexes on the groups.
    asked = [one for one in asked if fuzzy or one[:1] in ("*", "?")]
    longest = [max(re.split(r"[*?]", one), key=len) for one in asked]
    return [
        Condition(f"{column} like %s", ("%" + like(part) + "%",))
        for part in longest
        if len(part) >= TRIGRAM
    ]


def _quoted(word: str) -> str:
    return re.sub(r"([^\w])", r"\\\1", word)
