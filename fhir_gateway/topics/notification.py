"""The Bundles of the Subscriptions R5 Backport IG 1.1 on R4: notifications, $status, $events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from fhir_gateway.topics.store import Event, Subscription
from fhir_gateway.topics.subscription import IG, Content

STATUS_PROFILE = f"{IG}/backport-subscription-status-r4"
NOTIFICATION_PROFILE = f"{IG}/backport-subscription-notification-r4"


def notification(
    base: str,
    held: Subscription,
    kind: str,
    content: Content,
    events: Sequence[Event] = (),
    resources: Mapping[int, Mapping[str, Any]] = {},
    *,
    since_start: int | None = None,
) -> dict[str, Any]:
    """A history Bundle whose first entry is the status.

    Args:
        base: public FHIR base.
        kind: handshake, heartbeat, event-notification or query-event.
        resources: by event number, what the receiver may read; others are left out.
        since_start: number of events so far; default: the last of those in it.
    """
    count = since_start if since_start is not None else max((e.number for e in events), default=0)
    body = status(base, held, kind, count)
    if content != "empty":
        body["parameter"].insert(1, {"name": "topic", "valueCanonical": held.topic})
    body["parameter"] += [_event(base, one, content) for one in events]
    entries = [_status_entry(base, held, body)]
    if content != "empty":
        entries += [_focus(base, one, content, resources) for one in events]
    return {
        "resourceType": "Bundle",
        "id": str(uuid4()),
        "meta": {"profile": [NOTIFICATION_PROFILE]},
        "type": "history",
        "timestamp": _now(),
        "entry": entries,
    }


def statuses(base: str, found: Sequence[Subscription]) -> dict[str, Any]:
    """The answer of $status."""
    entries = []
    for held in found:
        body = status(base, held, "query-status", held.last_event)
        entry = {"fullUrl": f"urn:uuid:{uuid4()}", "resource": body, "search": {"mode": "match"}}
        entries.append(entry)
    return {
        "resourceType": "Bundle",
        "id": str(uuid4()),
        "type": "searchset",
        "timestamp": _now(),
        "total": len(entries),
        **({"entry": entries} if entries else {}),
    }


def status(base: str, held: Subscription, kind: str, count: int) -> dict[str, Any]:
    """The Parameters that stand for R5's SubscriptionStatus."""
    parameters: list[dict[str, Any]] = [
        {
            "name": "subscription",
            "valueReference": {"reference": f"{base}/Subscription/{held.id}"},
        },
        {"name": "status", "valueCode": held.status},
        {"name": "type", "valueCode": kind},
        {"name": "events-since-subscription-start", "valueString": str(count)},
    ]
    if held.reason:
        parameters.append({"name": "error", "valueCodeableConcept": {"text": held.reason}})
    return {
        "resourceType": "Parameters",
        "id": str(uuid4()),
        "meta": {"profile": [STATUS_PROFILE]},
        "parameter": parameters,
    }


def _event(base: str, event: Event, content: Content) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [
        {"name": "event-number", "valueString": str(event.number)},
        {"name": "timestamp", "valueInstant": event.at.astimezone(UTC).isoformat("T", "seconds")},
    ]
    if content != "empty":
        reference = {"reference": f"{base}/{event.reference}"}
        parts.append({"name": "focus", "valueReference": reference})
    return {"name": "notification-event", "part": parts}


def _status_entry(base: str, held: Subscription, body: Mapping[str, Any]) -> dict[str, Any]:
    url = f"{base}/Subscription/{held.id}/$status"
    return {
        "fullUrl": f"urn:uuid:{body['id']}",
        "resource": body,
        "request": {"method": "GET", "url": url},
        "response": {"status": "200"},
    }


def _focus(
    base: str, event: Event, content: Content, resources: Mapping[int, Mapping[str, Any]]
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "fullUrl": f"{base}/{event.reference}",
        "request": {"method": "PUT", "url": event.reference},
        "response": {"status": "200"},
    }
    if content == "full-resource" and event.number in resources:
        entry["resource"] = resources[event.number]
    return entry


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
