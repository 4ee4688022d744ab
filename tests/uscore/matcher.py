"""Whether a resource satisfies a search criterion, decided without the server.

Paths are those of the bar (`name.family`, `effective`); a search value is compared as FHIR R4
section 3.1.1.4 says. Where the specification leaves room for a range that overlaps the searched
one, `satisfies` is asked with or without the doubtful matches.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

Json = dict[str, Any]
Range = tuple[datetime, datetime]  # from (inclusive), to (exclusive)
EARLIEST = datetime.min.replace(tzinfo=UTC)
LATEST = datetime.max.replace(tzinfo=UTC)
PREFIX = re.compile(r"(eq|ne|gt|ge|lt|le|sa|eb|ap)(?=\d)")
HUMAN_NAME = ("text", "family", "given", "prefix", "suffix")
ADDRESS = ("text", "line", "city", "district", "state", "postalCode", "country")


def values(resource: Json, path: str) -> list[Any]:
    """Everything at a dotted path; `effective` also finds `effectiveDateTime`."""
    found: list[Any] = [resource]
    for step in path.split("."):
        found = [one for holder in found for one in _below(holder, step)]
    return found


def _below(holder: Any, step: str) -> Iterator[Any]:
    if not isinstance(holder, dict):
        return
    for name, value in holder.items():
        if name == step or (re.fullmatch(rf"{re.escape(step)}[A-Z]\w*", name) and _chosen(step)):
            yield from value if isinstance(value, list) else [value]


def _chosen(step: str) -> bool:
    return step in ("effective", "value", "occurrence", "deceased", "onset", "performed")


def satisfies(resource: Json, parameter: Json, value: str, *, doubtful: bool = False) -> bool:
    """Whether one of the comma-separated alternatives is met.

    Args:
        parameter: as in the bar, with `paths` and `type`.
        doubtful: what a partly overlapping range counts as.
    """
    found = [one for path in parameter["paths"] for one in values(resource, path)]
    return any(
        _meets(one, parameter["type"], alternative, doubtful)
        for alternative in value.split(",")
        for one in found
    )


def _meets(found: Any, kind: str, value: str, doubtful: bool) -> bool:
    if kind == "Reference":
        wanted = value if "/" in value else f"/{value}"
        return f"/{found.get('reference', '')}".endswith(wanted)
    if kind in ("CodeableConcept", "Coding", "Identifier"):
        return _token(tokens(found), value)
    if kind in ("date", "dateTime", "instant", "Period"):
        return _date(found, value, doubtful)
    if kind in ("HumanName", "Address"):
        parts = HUMAN_NAME if kind == "HumanName" else ADDRESS
        return any(_starts(text, value) for text in texts(found, parts))
    if kind == "string":
        return _starts(found, value)
    return bool(found == value.rpartition("|")[2])  # id and code


def tokens(found: Json) -> list[tuple[str, str]]:
    """System and code of each coding, or system and value of an identifier."""
    if "coding" in found or ("text" in found and "code" not in found and "value" not in found):
        return [(c.get("system", ""), c.get("code", "")) for c in found.get("coding", [])]
    return [(found.get("system", ""), found.get("code", found.get("value", "")))]


def _token(found: Iterable[tuple[str, str]], value: str) -> bool:
    system, bar, code = value.rpartition("|")
    return any(has == code and (not bar or of == system) for of, has in found)


def texts(found: Json, parts: Iterable[str]) -> list[str]:
    """The strings of a name or an address."""
    return [
        text
        for part in parts
        for text in (
            found.get(part, []) if isinstance(found.get(part), list) else [found.get(part)]
        )
        if text
    ]


def _starts(text: str, value: str) -> bool:
    return plain(text).startswith(plain(value))


def plain(text: str) -> str:
    """Without case and accents."""
    spread = unicodedata.normalize("NFKD", text.casefold())
    return "".join(one for one in spread if not unicodedata.combining(one))


def _date(found: Any, value: str, doubtful: bool) -> bool:
    prefix = match[1] if (match := PREFIX.match(value)) else "eq"
    low, high = range_of(value.removeprefix(prefix) if match else value)
    start, end = range_of(found)
    inside = low <= start and end <= high
    overlap = start < high and low < end
    if prefix == "eq":
        return inside or (doubtful and overlap)
    if prefix in ("gt", "ge"):
        above = end > high
        return above or (prefix == "ge" and inside) or (doubtful and overlap)
    if prefix in ("lt", "le"):
        below = start < low
        return below or (prefix == "le" and inside) or (doubtful and overlap)
    raise ValueError(prefix)


def range_of(value: Any) -> Range:
    """The time that a date of any precision, or a Period, covers."""
    if isinstance(value, dict):
        start = range_of(value["start"])[0] if "start" in value else EARLIEST
        end = range_of(value["end"])[1] if "end" in value else LATEST
        return start, end
    if len(value) == 4:
        return _day(int(value), 1, 1), _day(int(value) + 1, 1, 1)
    if len(value) == 7:
        year, month = int(value[:4]), int(value[5:])
        return _day(year, month, 1), _day(year + month // 12, month % 12 + 1, 1)
    if len(value) == 10:
        on = date.fromisoformat(value)
        start = _day(on.year, on.month, on.day)
        return start, start + timedelta(days=1)
    start = datetime.fromisoformat(value)
    precision = timedelta(milliseconds=1) if "." in value else timedelta(seconds=1)
    return start, start + precision


def _day(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)
