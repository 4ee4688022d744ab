"""The change feed: what was stored and deleted, in order, resumable by sequence number."""

from __future__ import annotations

import time
from typing import Any

import anyio
import orjson
from starlette.responses import Response

from access import Forbidden
from archive import Archive, Change
from dicomweb.door import Visit, in_thread
from dicomweb.errors import BadRequest
from dicomweb.media import Offer, choose

MAX_CHANGES = 1000
MAX_WAIT_S = 60
POLL_S = 0.5
# Changes that are looked at for one answer where the caller may see only some studies.
MAX_SCANNED = 20_000
_FORMS = (Offer("application/json"),)


async def changes(visit: Visit) -> Response:
    """GET /changefeed?after=SEQUENCE&limit=N&wait=SECONDS.

    `next` is what to give as `after` in the next request, also where nothing was for the caller.
    """
    choose(visit.accept, _FORMS)
    after = _number(visit, "after", 0, 2**62)
    limit = max(1, _number(visit, "limit", 100, MAX_CHANGES))
    deadline = time.monotonic() + _number(visit, "wait", 0, MAX_WAIT_S)
    while True:
        found, reached = await in_thread(_visible, visit, after, limit)
        if found or time.monotonic() >= deadline or await visit.request.is_disconnected():
            return _answer({"changes": [_entry(one) for one in found], "next": reached})
        after = reached
        await anyio.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))


async def latest(visit: Visit) -> Response:
    """GET /changefeed/latest: the newest sequence number, to begin there."""
    choose(visit.accept, _FORMS)
    if visit.caller.studies is not None:
        raise Forbidden("the token is limited to single studies; read the feed from after=0")
    return _answer({"sequence": await in_thread(visit.archive.last_change)})


def _number(visit: Visit, name: str, default: int, most: int) -> int:
    text = visit.request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise BadRequest(f"{name} is a whole number")
    if int(text) > most:
        raise BadRequest(f"{name} is at most {most}")
    return int(text)


def _visible(visit: Visit, after: int, limit: int) -> tuple[list[Change], int]:
    """Changes that the caller may see, and how far the feed was read for them."""
    if visit.caller.studies is None:
        found = visit.archive.changes(after, limit)
        return found, found[-1].sequence if found else after
    return _filtered(visit.archive, visit.caller.studies, after, limit)


def _filtered(
    archive: Archive, studies: frozenset[str], after: int, limit: int
) -> tuple[list[Change], int]:
    found: list[Change] = []
    for _ in range(MAX_SCANNED // MAX_CHANGES):
        batch = archive.changes(after, MAX_CHANGES)
        for one in batch:
            after = one.sequence
            if one.key.study in studies:
                found.append(one)
                if len(found) == limit:
                    return found, after
        if len(batch) < MAX_CHANGES:
            break
    return found, after


def _entry(one: Change) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "sequence": one.sequence,
        "kind": one.kind,
        "study": one.key.study,
        "series": one.key.series,
        "instance": one.key.instance,
        "time": one.at,
    }
    return entry | ({"reason": one.reason} if one.reason is not None else {})


def _answer(document: dict[str, Any]) -> Response:
    headers = {"Cache-Control": "no-store"}
    return Response(orjson.dumps(document), media_type="application/json", headers=headers)
