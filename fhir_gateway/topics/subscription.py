"""A Subscription that a client sends: what of it we do, and a refusal of what we do not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import parse_qsl

from fhir_gateway.outcome import Refusal
from fhir_gateway.topics.catalogue import TOPICS, Topic
from fhir_gateway.topics.endpoints import EndpointRefused, Outbound

IG = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition"
PROFILE = f"{IG}/backport-subscription"
FILTER = f"{IG}/backport-filter-criteria"
CONTENT = f"{IG}/backport-payload-content"
HEARTBEAT = f"{IG}/backport-heartbeat-period"
TIMEOUT = f"{IG}/backport-timeout"
MAX_COUNT = f"{IG}/backport-max-count"

Content = Literal["empty", "id-only", "full-resource"]
CONTENTS: tuple[Content, ...] = ("empty", "id-only", "full-resource")
FHIR_JSON = "application/fhir+json"
HIDDEN = "(not shown)"
SHORTEST_HEARTBEAT_S = 1
LONGEST_TIMEOUT_S, LONGEST_COUNT = 60, 100
TIMEOUT_S, COUNT = 10, 20  # where the client says nothing
LAST_YEAR = 9998  # beyond, a zone could make it a time that nobody can read back
MOST_HEADERS, LONGEST_HEADER, LONGEST_CRITERIA = 10, 4_000, 2_000
_HEADER = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}): ?([\x21-\x7e](?:[\x20-\x7e]*))\Z")
# What the connection itself says; a client must not speak in our place.
OUR_HEADERS = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    }
)
ELEMENTS = frozenset(
    {
        "resourceType",
        "id",
        "meta",
        "text",
        "language",
        "status",
        "contact",
        "end",
        "reason",
        "criteria",
        "_criteria",
        "error",
        "channel",
    }
)
CHANNEL_ELEMENTS = frozenset({"extension", "type", "endpoint", "payload", "_payload", "header"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a valid Subscription asks for.

    Attributes:
        topic: None for a classic one, whose events are matches of `criteria`.
        criteria: the search of a classic one, without its type.
        filters: of a topic-based one, by parameter.
        content: of the notifications; None for a classic one.
        payload: whether a classic one is sent the resource.
        headers: to be sent with each notification; nobody may read them back.
    """

    status: Literal["requested", "off"]
    resource_type: str
    endpoint: str
    topic: Topic | None = None
    criteria: str = ""
    filters: Mapping[str, str] = field(default_factory=dict)
    content: Content | None = None
    payload: bool = False
    headers: tuple[str, ...] = ()
    ends_at: datetime | None = None
    heartbeat_s: int | None = None

    def with_criteria(self, criteria: str) -> Wanted:
        """The same with criteria that were judged."""
        return replace(self, criteria=criteria)


def read(body: Any, outbound: Outbound) -> Wanted:
    """What a Subscription asks for.

    Raises:
        Refusal: 422 with what is not supported; the criteria of a classic one are judged elsewhere.
    """
    if not isinstance(body, dict) or body.get("resourceType") != "Subscription":
        raise _refused("a Subscription is expected", "structure")
    _only(body, ELEMENTS, "Subscription")
    if not isinstance(body.get("meta", {}), dict):
        raise _refused("meta is an object", "structure")
    channel = body.get("channel")
    if not isinstance(channel, dict):
        raise _refused("a Subscription has a channel", "required")
    _only(channel, CHANNEL_ELEMENTS, "channel")
    criteria = _text(body, "criteria", LONGEST_CRITERIA)
    _text(body, "reason", 1_000)
    common = {
        "status": _status(body),
        "endpoint": _endpoint(channel, outbound),
        "headers": _headers(channel),
        "ends_at": _end(body),
    }
    if criteria.startswith(("http://", "https://", "urn:")) or PROFILE in _profiles(body):
        return _of_topic(body, channel, criteria, common)
    return _classic(body, channel, criteria, common)


def shown(resource: Mapping[str, Any]) -> dict[str, Any]:
    """The Subscription as it may be read: without the values of its headers."""
    channel = dict(resource["channel"])
    if "header" in channel:
        channel["header"] = [f"{one.partition(':')[0]}: {HIDDEN}" for one in channel["header"]]
    return {**resource, "channel": channel}


def filters_of(topic: Topic, resource: Mapping[str, Any]) -> dict[str, str]:
    """The filters of a Subscription that was found good."""
    given = _extensions(_extensions_of(resource, "_criteria"), (FILTER,)).get(FILTER, [])
    return _filters(topic, given)


def content_of(resource: Mapping[str, Any]) -> Content:
    """The content of a topic-based Subscription that was found good."""
    found = _extensions(_extensions_of(resource["channel"], "_payload"), (CONTENT,))
    return next(one for one in CONTENTS if one == _one(found.get(CONTENT, [])))


def limits_of(resource: Mapping[str, Any]) -> tuple[int, int]:
    """Seconds to wait for an answer, and events in one notification."""
    given = resource["channel"].get("extension", [])
    found = _extensions(given, (HEARTBEAT, TIMEOUT, MAX_COUNT))
    timeout_s = _number(found, TIMEOUT, 1, LONGEST_TIMEOUT_S)
    return timeout_s or TIMEOUT_S, _number(found, MAX_COUNT, 1, LONGEST_COUNT) or COUNT


def _of_topic(
    body: Mapping[str, Any], channel: Mapping[str, Any], criteria: str, common: dict[str, Any]
) -> Wanted:
    topic = TOPICS.get(criteria)
    if topic is None:
        raise _refused("this server has no such topic", "not-supported")
    extensions = _extensions(channel.get("extension", []), (HEARTBEAT, TIMEOUT, MAX_COUNT))
    limits_of(body)
    content = _one(_extensions(_extensions_of(channel, "_payload"), (CONTENT,)).get(CONTENT, []))
    if content not in CONTENTS:
        raise _refused(f"payload content is one of {', '.join(CONTENTS)}", "not-supported")
    if channel.get("payload") != FHIR_JSON:
        raise _refused(f"notifications are {FHIR_JSON}", "not-supported")
    heartbeat = _number(extensions, HEARTBEAT, SHORTEST_HEARTBEAT_S, 7 * 24 * 3600)
    return Wanted(
        resource_type=topic.resource_type,
        topic=topic,
        filters=filters_of(topic, body),
        content=content,
        payload=True,
        heartbeat_s=heartbeat,
        **common,
    )


def _classic(
    body: Mapping[str, Any], channel: Mapping[str, Any], criteria: str, common: dict[str, Any]
) -> Wanted:
    _extensions(channel.get("extension", []), ())
    _extensions(_extensions_of(channel, "_payload"), ())
    _extensions(_extensions_of(body, "_criteria"), ())
    resource_type, mark, query = criteria.partition("?")
    if not re.fullmatch(r"[A-Z][A-Za-z]{1,63}", resource_type) or not mark:
        raise _refused("criteria are a type, a ? and search parameters", "invalid")
    payload = channel.get("payload")
    if payload not in (None, "", FHIR_JSON):
        raise _refused(f"a payload is {FHIR_JSON} or left out", "not-supported")
    return Wanted(
        resource_type=resource_type, criteria=query, payload=payload == FHIR_JSON, **common
    )


def _filters(topic: Topic, given: list[Any]) -> dict[str, str]:
    """The filters in `Type?name=value&...`; all of them must hold."""
    found: dict[str, str] = {}
    for text in given:
        kind, mark, query = str(text).partition("?")
        if not mark or kind != topic.resource_type:
            raise _refused(f"a filter is {topic.resource_type}?parameter=value", "not-supported")
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True)
        except ValueError as error:
            raise _refused("a filter is Type?parameter=value", "invalid") from error
        for name, value in pairs:
            if name not in topic.filters or name in found:
                known = ", ".join(topic.filters)
                raise _refused(f"this topic is filtered by {known}, each once", "not-supported")
            if not value or not all(value.split(",")):
                raise _refused("a filter has a value", "invalid")
            found[name] = value
    return found


def _endpoint(channel: Mapping[str, Any], outbound: Outbound) -> str:
    if channel.get("type") != "rest-hook":
        raise _refused("the channel is a rest-hook", "not-supported")
    endpoint = channel.get("endpoint")
    if not isinstance(endpoint, str):
        raise _refused("a rest-hook has an endpoint", "required")
    try:
        outbound.check(endpoint)
    except EndpointRefused as error:
        raise _refused(str(error), "not-supported") from error
    return endpoint


def _headers(channel: Mapping[str, Any]) -> tuple[str, ...]:
    given = channel.get("header", [])
    if not isinstance(given, list) or len(given) > MOST_HEADERS:
        raise _refused(f"there are at most {MOST_HEADERS} headers", "invalid")
    for one in given:
        match = _HEADER.match(one) if isinstance(one, str) and len(one) <= LONGEST_HEADER else None
        if match is None:
            raise _refused("a header is 'Name: value'", "invalid")
        if match[1].lower() in OUR_HEADERS:
            raise _refused("a header is one that the connection sets itself", "invalid")
    return tuple(given)


def _status(body: Mapping[str, Any]) -> Literal["requested", "off"]:
    status = body.get("status")
    if status == "off":
        return "off"
    # A client that writes back what it has read sends active or error: begin anew.
    if status in ("requested", "active", "error"):
        return "requested"
    raise _refused("the status is requested or off", "invalid")


def _end(body: Mapping[str, Any]) -> datetime | None:
    if "end" not in body:
        return None
    try:
        end = datetime.fromisoformat(str(body["end"]))
    except ValueError as error:
        raise _refused("the end is an instant", "invalid") from error
    if end.tzinfo is None or end <= datetime.now(UTC) or end.year > LAST_YEAR:
        raise _refused("the end is an instant in the future, with its zone", "invalid")
    return end


def _profiles(body: Mapping[str, Any]) -> list[Any]:
    found = body.get("meta", {}).get("profile", [])
    return found if isinstance(found, list) else []


def _extensions_of(holder: Mapping[str, Any], name: str) -> Any:
    part = holder.get(name, {})
    if not isinstance(part, dict):
        raise _refused(f"{name} holds extensions", "structure")
    _only(part, frozenset({"id", "extension"}), name)
    return part.get("extension", [])


def _extensions(found: Any, known: tuple[str, ...]) -> dict[str, list[Any]]:
    """The values by URL; one that we do not know may change the meaning and is refused."""
    values: dict[str, list[Any]] = {}
    for one in found if isinstance(found, list) else [None]:
        if not isinstance(one, dict) or one.get("url") not in known:
            raise _refused("an extension is not supported here", "not-supported")
        value = [one[name] for name in one if name.startswith("value")]
        if len(value) != 1:
            raise _refused("an extension has one value", "structure")
        values.setdefault(one["url"], []).append(value[0])
    return values


def _number(extensions: Mapping[str, list[Any]], url: str, least: int, most: int) -> int | None:
    if url not in extensions:
        return None
    value = _one(extensions[url])
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        name = url.rpartition("/")[2]
        raise _refused(f"{name} is a number from {least} to {most}", "not-supported")
    return value


def _one(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else None


def _text(body: Mapping[str, Any], name: str, longest: int) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise _refused(f"a Subscription has {name}, of at most {longest} characters", "required")
    return value


def _only(part: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    if not part.keys() <= known:
        raise _refused(f"an element of {where} is not supported here", "not-supported")


def _refused(text: str, code: str) -> Refusal:
    return Refusal(422, text, code=code)
