"""`DocumentReference/$docref` of US Core: a patient's documents, found by a search.

We make no documents on demand: what is asked for is looked up among those that are there.
Source: OperationDefinition us-core-docref (US Core 6.1.0 to 8.0.0).
"""

from __future__ import annotations

from typing import Any

import orjson

from fhir_gateway.outcome import Refusal
from fhir_gateway.searching import Pairs, parse_query

PATH = "DocumentReference/$docref"
MAX_BYTES = 64 * 1024
ONCE = frozenset({"patient", "start", "end", "on-demand"})
SEVERAL = frozenset({"type", "profile"})
PRESENTATION = frozenset({"_format", "_pretty", "_count"})
VALUES = {
    "patient": ("valueId", "valueString"),
    "start": ("valueDateTime", "valueDate"),
    "end": ("valueDateTime", "valueDate"),
    "on-demand": ("valueBoolean",),
    "type": ("valueCoding",),
    "profile": ("valueCanonical", "valueUri"),
}
# Without dates the current documents are meant; with them those of the time, unless withdrawn.
CURRENT, OF_THE_TIME = "current", "current,superseded"


def search_of(query: str, body: bytes | None) -> Pairs | None:
    """The search that answers; None when only documents made on demand are wanted.

    Args:
        query: the URL's.
        body: of a POST, a Parameters resource.

    Raises:
        Refusal: 400, no patient, or a parameter that is not understood.
    """
    asked = parse_query(query)
    if body is not None:
        asked += _parameters_in(body)
    return _search_for(asked)


def _search_for(asked: Pairs) -> Pairs | None:
    _check(asked)
    first = {name: value for name, value in asked if name in ONCE}
    if not first.get("patient"):
        raise Refusal(400, "$docref needs the parameter patient", code="required")
    if first.get("on-demand", "false") not in ("true", "false"):
        raise Refusal(400, "on-demand is true or false", code="value")
    if first.get("on-demand") == "true":
        return None
    dated = "start" in first or "end" in first
    search = [("patient", first["patient"]), ("status", OF_THE_TIME if dated else CURRENT)]
    search += [("period", f"ge{first['start']}")] if "start" in first else []
    search += [("period", f"le{first['end']}")] if "end" in first else []
    types = [value for name, value in asked if name == "type"]
    search += [("type", ",".join(types))] if types else []
    profiles = [value for name, value in asked if name == "profile"]
    search += [("_profile", ",".join(profiles))] if profiles else []
    return search + [(name, value) for name, value in asked if name in PRESENTATION]


def _check(asked: Pairs) -> None:
    names = [name for name, _ in asked]
    for name, value in asked:
        if name not in ONCE | SEVERAL | PRESENTATION:
            known = ", ".join(sorted(ONCE | SEVERAL | PRESENTATION))
            raise Refusal(400, f"$docref has the parameters {known}", code="not-supported")
        if name in ONCE and names.count(name) > 1:
            raise Refusal(400, f"{name} is given more than once", code="invalid")
        if not value:
            raise Refusal(400, f"{name} has no value", code="value")


def _parameters_in(body: bytes) -> Pairs:
    try:
        content = orjson.loads(body)
        if content["resourceType"] != "Parameters":
            raise ValueError
        return [(one["name"], _value(one)) for one in content.get("parameter", [])]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Refusal(400, "the body is not the Parameters of $docref", code="structure") from error


def _value(parameter: dict[str, Any]) -> str:
    for name in VALUES.get(parameter["name"], ()):
        if name in parameter:
            value = parameter[name]
            if name == "valueCoding":
                system = value.get("system")
                return f"{system}|{value['code']}" if system else str(value["code"])
            return str(value).lower() if isinstance(value, bool) else str(value)
    raise ValueError(parameter["name"])
