"""`/fhir/Subscription`: what machines may subscribe to, and their $status and $events."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC
from email.utils import format_datetime
from typing import Any
from uuid import UUID

import orjson
import psycopg
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from access import AuditEventKind, Caller
from access import Interaction as Letter
from fhir_gateway.config import GatewayConfig
from fhir_gateway.facade import Facade
from fhir_gateway.grammar import Interaction, Judge
from fhir_gateway.model import ModelSource
from fhir_gateway.outcome import Refusal, fhir_response
from fhir_gateway.searching import parse_query
from fhir_gateway.topics.endpoints import Outbound
from fhir_gateway.topics.notification import notification, statuses
from fhir_gateway.topics.reading import Reading
from fhir_gateway.topics.store import Subscription, Subscriptions, TooMany
from fhir_gateway.topics.subscription import (
    CONTENTS,
    HIDDEN,
    Content,
    Wanted,
    content_of,
    read,
    shown,
)
from fhir_gateway.upstream import Upstream

MAX_BYTES = 64 * 1024
EVENTS_AT_ONCE = 100
LETTERS: Mapping[str, Letter] = {"POST": "c", "PUT": "u", "DELETE": "d"}
SEARCHED = frozenset({"status", "criteria", "_id", "_format", "_count"})
# What makes a criterion mean something else, or nothing, to a matcher: :missing above all, which
# HAPI takes for true (hapi-fhir 3350).
FORBIDDEN_IN_CRITERIA = ("_has", "_include", "_revinclude", "_sort", "_count", "_summary")


class SubscriptionDoor:
    """Answers for the subscriptions of machines; each sees its own and no others."""

    def __init__(
        self,
        config: GatewayConfig,
        facade: Facade,
        models: ModelSource,
        subscriptions: Subscriptions,
        upstream: Upstream,
    ) -> None:
        self._config = config
        self._facade = facade
        self._models = models
        self._subscriptions = subscriptions
        self._reading = Reading(upstream)
        self._outbound = Outbound(config.subscriptions)

    async def on_type(self, request: Request) -> Response:
        """Create, or search one's own."""
        return await self._facade.guarded(request, lambda caller: self._on_type(request, caller))

    async def on_instance(self, request: Request, identity: str) -> Response:
        """Read, replace or remove one."""
        return await self._facade.guarded(
            request, lambda caller: self._on_instance(request, caller, identity)
        )

    async def status(self, request: Request, identity: str | None = None) -> Response:
        """$status of one, or of all of one's own."""
        return await self._facade.guarded(
            request, lambda caller: self._status(request, caller, identity)
        )

    async def events(self, request: Request, identity: str) -> Response:
        """$events: what a subscription was told of, again."""
        return await self._facade.guarded(
            request, lambda caller: self._events(request, caller, identity)
        )

    async def _on_type(self, request: Request, caller: Caller) -> Response:
        if request.method in ("GET", "HEAD"):
            return await self._search(request, caller)
        _owner(caller, "c")
        body, wanted = await self._wanted(request, caller)
        starts_at = await self._reading.store_time(caller, wanted.resource_type)
        most = self._config.subscriptions.per_client
        try:
            with _keeping():
                held = await self._subscriptions.add(caller, wanted, body, starts_at, most=most)
        except TooMany as error:
            text = f"a client may have {most} subscriptions, and this one has"
            raise Refusal(422, text, code="too-costly") from error
        await self._record(caller, held, "C")
        return self._answer(held, 201)

    async def _search(self, request: Request, caller: Caller) -> Response:
        client = _owner(caller, "s")
        pairs = parse_query(request.url.query)
        if any(name not in SEARCHED for name, _ in pairs):
            raise Refusal(400, "a search parameter is not supported", code="not-supported")
        found = [
            self._resource(held)
            for held in await self._subscriptions.of_client(client)
            if _matches(held, pairs)
        ]
        base = f"{self._config.fhir_base}/Subscription"
        entries = [
            {"fullUrl": f"{base}/{one['id']}", "resource": one, "search": {"mode": "match"}}
            for one in found
        ]
        bundle: dict[str, Any] = {
            "resourceType": "Bundle",
            "type": "searchset",
            "total": len(entries),
            "link": [{"relation": "self", "url": base}],
        }
        if entries:
            bundle["entry"] = entries
        return fhir_response(bundle)

    async def _on_instance(self, request: Request, caller: Caller, identity: str) -> Response:
        letter = LETTERS.get(request.method, "r")
        held = await self._held(caller, letter, identity)
        if request.method == "PUT":
            return await self._replace(request, caller, held)
        if request.method == "DELETE":
            await self._subscriptions.remove(held)
            await self._record(caller, held, "D")
            return Response(status_code=204)
        if request.method not in ("GET", "HEAD"):
            raise Refusal(405, "no such method here")
        return self._answer(held)

    async def _replace(self, request: Request, caller: Caller, held: Subscription) -> Response:
        match = request.headers.get("if-match")
        if match is not None and match != f'W/"{held.version}"':
            raise Refusal(412, "the subscription has changed since")
        body, wanted = await self._wanted(request, caller, held)
        if body.get("id") not in (None, str(held.id)):
            raise Refusal(400, "the id is not that of the URL")
        starts_at = None
        # What happened while it was off, or looked at another type, is not asked for.
        if held.status == "off" or held.resource_type != wanted.resource_type:
            starts_at = await self._reading.store_time(caller, wanted.resource_type)
        with _keeping():
            replaced = await self._subscriptions.replace(held, caller, wanted, body, starts_at)
        if replaced is None or replaced.version == held.version:
            raise Refusal(409, "somebody else has changed the subscription")
        await self._record(caller, replaced, "U")
        return self._answer(replaced)

    async def _status(self, request: Request, caller: Caller, identity: str | None) -> Response:
        if identity is not None:
            found = [await self._held(caller, "r", identity)]
        else:
            asked = await _parameters(request)
            client = _owner(caller, "r")
            found = [
                held
                for held in await self._subscriptions.of_client(client)
                if _is_asked_for(held, asked)
            ]
        return fhir_response(statuses(self._config.fhir_base, found))

    async def _events(self, request: Request, caller: Caller, identity: str) -> Response:
        held = await self._held(caller, "r", identity)
        if held.topic is None:
            raise Refusal(400, "only subscriptions to a topic have events to be asked for")
        asked = await _parameters(request)
        first = _number(asked, "eventsSinceNumber", 1)
        last = _number(asked, "eventsUntilNumber", held.last_event)
        content = _content(asked, content_of(held.resource))
        if content == "full-resource":
            content = "id-only"  # the resources themselves are read where reading is judged
        events = await self._subscriptions.events(
            held, after=first - 1, upto=last, limit=EVENTS_AT_ONCE
        )
        ids = [one.resource_id for one in events]
        readable = await self._reading.readable(caller, held.resource_type, ids)
        events = [one for one in events if one.resource_id in readable]
        await self._record(caller, held, "R", [one.patient for one in events if one.patient])
        return fhir_response(
            notification(
                self._config.fhir_base,
                held,
                "query-event",
                content,
                events,
                since_start=held.last_event,
            )
        )

    async def _wanted(
        self, request: Request, caller: Caller, held: Subscription | None = None
    ) -> tuple[dict[str, Any], Wanted]:
        """The Subscription in a body, judged: what it asks for and what of it is granted."""
        try:
            body = orjson.loads(await _body(request))
        except orjson.JSONDecodeError as error:
            raise Refusal(400, "the body is not JSON", code="structure") from error
        if held is not None:
            _put_back_hidden(body, held)
        wanted = read(body, self._outbound)
        judge = Judge(caller, await self._models.model())
        judge.need(wanted.resource_type, "r")
        judge.need(wanted.resource_type, "s")
        if wanted.topic is None:
            criteria = _criteria(judge, wanted)
            body = {**body, "criteria": f"{wanted.resource_type}?{wanted.criteria}"}
            wanted = wanted.with_criteria(criteria)
        return body, wanted

    async def _held(self, caller: Caller, letter: Letter, identity: str) -> Subscription:
        client = _owner(caller, letter)
        try:
            found = await self._subscriptions.find(UUID(identity), client)
        except ValueError:
            found = None
        if found is None:  # another client's is not told from one that never was
            raise Refusal(404, "no such subscription")
        return found

    def _resource(self, held: Subscription) -> dict[str, Any]:
        meta = {name: v for name, v in held.resource.get("meta", {}).items() if name == "profile"}
        meta |= {
            "versionId": str(held.version),
            "lastUpdated": held.changed_at.isoformat(timespec="milliseconds"),
        }
        own = {"resourceType": "Subscription", "id": str(held.id), "meta": meta}
        resource = shown({**held.resource, **own, "status": held.status})
        resource.pop("error", None)
        return resource | ({"error": held.reason} if held.reason else {})

    def _answer(self, held: Subscription, status: int = 200) -> Response:
        headers = {
            "ETag": f'W/"{held.version}"',
            "Last-Modified": format_datetime(held.changed_at.astimezone(UTC), usegmt=True),
        }
        if status == 201:
            url = f"{self._config.fhir_base}/Subscription/{held.id}/_history/{held.version}"
            headers["Location"] = url
        return fhir_response(self._resource(held), status, headers)

    async def _record(
        self, caller: Caller, held: Subscription, action: Any, patients: Sequence[str] = ()
    ) -> None:
        event = AuditEventKind.FHIR_READ if action == "R" else AuditEventKind.FHIR_WRITE
        about = Interaction("", "", "", "Subscription", str(held.id), action, event)
        await self._facade.record(caller, about, 200, tuple(dict.fromkeys(patients)))


@contextmanager
def _keeping() -> Iterator[None]:
    """Refuse what the database cannot keep, such as a text with a NUL."""
    try:
        yield
    except psycopg.DataError as error:
        raise Refusal(422, "a text holds what cannot be kept", code="invalid") from error


async def _body(request: Request) -> bytes:
    """The body, which has a limit. Raises Refusal."""
    content = b""
    try:
        async for part in request.stream():
            content += part
            if len(content) > MAX_BYTES:
                raise Refusal(413, f"the body is larger than {MAX_BYTES} bytes")
    except ClientDisconnect as error:
        raise Refusal(400, "the client left before its body was complete") from error
    return content


def _owner(caller: Caller, letter: Letter) -> str:
    """The client that acts. Raises Refusal for people, and for machines without a name."""
    contexts = {grant.context for grant in caller.scopes.grants}
    if caller.kind != "system" or contexts != {"system"} or caller.client is None:
        raise Refusal(403, "subscriptions are for system clients")
    if not caller.may("Subscription", letter):
        raise Refusal(403, f"the token grants no Subscription.{letter}")
    return caller.client


def _criteria(judge: Judge, wanted: Wanted) -> str:
    """The criteria as the store is asked. Raises Refusal for what is no plain filter."""
    for name, _ in parse_query(wanted.criteria):
        plain = name.partition(":")[0]
        if ":" in name or "." in name or plain in FORBIDDEN_IN_CRITERIA:
            raise Refusal(
                422,
                "criteria are plain parameters, without modifiers, chains and controls",
                code="not-supported",
            )
    return judge.judge("GET", wanted.resource_type, wanted.criteria).query


def _put_back_hidden(body: Any, held: Subscription) -> None:
    """A header that comes back as it was shown keeps its value."""
    channel = body.get("channel") if isinstance(body, dict) else None
    given = channel.get("header") if isinstance(channel, dict) else None
    if not isinstance(channel, dict) or not isinstance(given, list):
        return
    known = {one.partition(":")[0].lower(): one for one in held.headers}
    channel["header"] = [
        known.get(one.partition(":")[0].lower(), one)
        if isinstance(one, str) and one.endswith(f": {HIDDEN}")
        else one
        for one in given
    ]


def _matches(held: Subscription, pairs: Any) -> bool:
    values = {"status": held.status, "criteria": held.resource["criteria"], "_id": str(held.id)}
    return all(values[name] in value.split(",") for name, value in pairs if name in values)


async def _parameters(request: Request) -> dict[str, list[str]]:
    """Of an operation: in the query, or as Parameters in the body."""
    found: dict[str, list[str]] = {}
    for name, value in parse_query(request.url.query):
        found.setdefault(name, []).append(value)
    if request.method != "POST":
        return found
    content = await _body(request)
    try:
        body = orjson.loads(content) if content else {}
        for one in body.get("parameter", []):
            value = next(one[name] for name in one if name.startswith("value"))
            found.setdefault(str(one["name"]), []).append(str(value))
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, StopIteration) as error:
        raise Refusal(400, "the body is not Parameters", code="structure") from error
    return found


def _is_asked_for(held: Subscription, asked: Mapping[str, list[str]]) -> bool:
    ids = {one.rpartition("/")[2] for one in asked.get("id", [])}
    states = set(asked.get("status", []))
    return (not ids or str(held.id) in ids) and (not states or held.status in states)


def _number(asked: Mapping[str, list[str]], name: str, default: int) -> int:
    values = asked.get(name, [])
    if not values:
        return default
    if len(values) != 1 or not re.fullmatch(r"[0-9]{1,18}", values[0]):
        raise Refusal(400, f"{name} is a number")
    return int(values[0])


def _content(asked: Mapping[str, list[str]], default: Content) -> Content:
    values = asked.get("content", [])
    if not values:
        return default
    found = next((one for one in CONTENTS if values == [one]), None)
    if found is None:
        raise Refusal(400, f"content is one of {', '.join(CONTENTS)}")
    return found
