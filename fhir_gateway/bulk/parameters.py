"""Kick-off parameters, from a query or a Parameters body, before anything is decided about them.

Source: Bulk Data Access 2.0 and 3.0, Query Parameters.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Any

import orjson
from starlette.requests import Request

from fhir_gateway.outcome import Refusal
from fhir_gateway.searching import Pairs, parse_query

MAX_BODY = 1024 * 1024
KNOWN = frozenset(
    {"_outputFormat", "_since", "_until", "_type", "_typeFilter", "_elements", "patient",
     "includeAssociatedData", "organizeOutputBy", "allowPartialManifests"}
)  # fmt: skip
ONCE = frozenset({"_outputFormat", "_since", "_until", "organizeOutputBy", "allowPartialManifests"})
_DAY = re.compile(r"\d{4}(-\d{2}(-\d{2})?)?\Z", re.ASCII)
_INSTANT = re.compile(
    r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2})?)(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})\Z", re.ASCII
)
# A comma parts two filters only where a type begins: values hold commas too.
_NEXT_FILTER = re.compile(r",(?=[A-Z][A-Za-z]{1,63}\?)")


async def kick_off_pairs(request: Request) -> Pairs:
    """All parameters of a kick-off.

    Raises:
        Refusal: 400 or 413, the body is not a Parameters resource; 400, `patient` in a URL.
    """
    pairs = parse_query(request.url.query)
    if any(name == "patient" for name, _ in pairs):
        raise Refusal(400, "patient is given in the Parameters of a POST, not in a URL")
    if request.method != "POST":
        return pairs
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise Refusal(413, "the Parameters are too large")
    return pairs + _in_body(body) if body.strip() else pairs


def _in_body(body: bytes) -> Pairs:
    try:
        parsed = orjson.loads(body)
        if parsed["resourceType"] != "Parameters":
            raise ValueError("another resource")
        return [(str(one["name"]), _value(one)) for one in parsed.get("parameter", [])]
    except (ValueError, KeyError, StopIteration, AttributeError, TypeError) as error:
        raise Refusal(400, "the body is not a Parameters resource") from error


def _value(parameter: dict[str, Any]) -> str:
    value = next(v for name, v in parameter.items() if name.startswith("value"))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return str(value.get("reference") or value["code"])
    if not isinstance(value, str):
        raise TypeError("a value of another type")
    return value


def listed(pairs: Pairs, name: str) -> list[str]:
    """Values of a parameter that may be repeated and may hold commas, each once, in order."""
    found = [one.strip() for n, value in pairs if n == name for one in value.split(",")]
    return list(dict.fromkeys(one for one in found if one))


def type_filters(pairs: Pairs) -> list[str]:
    """Each `_typeFilter`; several may be in one parameter, parted by commas."""
    return [
        one for name, value in pairs if name == "_typeFilter" for one in _NEXT_FILTER.split(value)
    ]


def single(pairs: Pairs, name: str) -> str | None:
    """The one value of a parameter.

    Raises:
        Refusal: it is given more than once.
    """
    found = [value for n, value in pairs if n == name]
    if len(found) > 1:
        raise Refusal(400, f"{name} is given more than once")
    return found[0] if found else None


def instant(name: str, text: str, *, upper: bool = False) -> str:
    """An instant as the store compares it: UTC with milliseconds.

    A date stands for its first moment. What is finer than a millisecond is cut off, for an
    upper bound rounded up, so that `later than` and `earlier than` stay exact.

    Raises:
        Refusal: it is no such time.
    """
    try:
        if _DAY.match(text):
            parts = [int(part) for part in text.split("-")] + [1, 1]
            return written(datetime(parts[0], parts[1], parts[2], tzinfo=UTC))
        found = _INSTANT.match(text)
        if found is None:
            raise ValueError("another form")
        second = datetime.fromisoformat(found[1] + found[3].replace("Z", "+00:00"))
        exact = float(found[2] or 0) * 1000
        millis = math.ceil(round(exact, 6)) if upper else math.floor(round(exact, 6))
        return written(datetime.fromtimestamp(second.timestamp() + millis / 1000, UTC))
    except (ValueError, OverflowError) as error:
        raise Refusal(400, f"{name} is not an instant") from error


def written(moment: datetime) -> str:
    """A moment in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
