"""Subscriptions to work items (PS3.18 sections 11.10 to 11.12)."""

from __future__ import annotations

import re
from urllib.parse import quote

from starlette.responses import Response

from archive.query import attribute_path
from archive.workitem_subscriptions import FILTERED, GLOBAL
from dicomweb.door import Visit, in_thread
from dicomweb.errors import BadRequest

_AE = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,16}", re.ASCII)
_RESERVED = frozenset({"accept", "charset", "deletionlock", "filter"})


def ae_title(text: str) -> str:
    """The subscriber's AE title, without the spaces around it (PS3.5 6.2). Raises BadRequest."""
    title = text.strip(" ")
    if not title or not _AE.fullmatch(title):
        raise BadRequest("the subscriber in the path is no AE title")
    return title


async def subscribe(visit: Visit) -> Response:
    """POST /workitems/{workitem}/subscribers/{ae}: 201 with the address of the event channel."""
    ae, target = _target(visit)
    locked = _lock(visit)
    subscriptions = visit.archive.workitems.subscriptions
    studies = visit.caller.studies
    if target in (GLOBAL, FILTERED):
        wanted = _filter(visit) if target == FILTERED else []
        if target == FILTERED and not wanted:
            raise BadRequest("a filtered subscription needs at least one matching key")
        await in_thread(
            lambda: subscriptions.subscribe_all(ae, wanted, studies, locked=locked),
        )
    else:
        await in_thread(lambda: subscriptions.subscribe(ae, target, studies, locked=locked))
    return Response(status_code=201, headers={"Content-Location": channel_url(visit, ae)})


async def unsubscribe(visit: Visit) -> Response:
    """DELETE /workitems/{workitem}/subscribers/{ae}."""
    ae, target = _target(visit)
    subscriptions = visit.archive.workitems.subscriptions
    if target in (GLOBAL, FILTERED):
        await in_thread(
            lambda: subscriptions.unsubscribe_all(ae, filtered=target == FILTERED),
        )
    else:
        await in_thread(subscriptions.unsubscribe, ae, target)
    return Response(status_code=200)


async def suspend(visit: Visit) -> Response:
    """POST /workitems/{global UID}/subscribers/{ae}/suspend."""
    ae, target = _target(visit)
    if target not in (GLOBAL, FILTERED):
        raise BadRequest("only a global or filtered subscription can be suspended")
    subscriptions = visit.archive.workitems.subscriptions
    await in_thread(lambda: subscriptions.suspend(ae, filtered=target == FILTERED))
    return Response(status_code=200)


def channel_url(visit: Visit, ae: str) -> str:
    """The WebSocket at which the subscriber's events can be had."""
    base = visit.door.base_url(visit.request)
    return f"ws{base.removeprefix('http')}/subscribers/{quote(ae, safe='')}"


def _target(visit: Visit) -> tuple[str, str]:
    parameters = visit.request.path_params
    return ae_title(str(parameters["ae"])), str(parameters["workitem"])


def _lock(visit: Visit) -> bool:
    text = visit.request.query_params.get("deletionlock", "false").lower()
    if text not in ("true", "false"):
        raise BadRequest("deletionlock is true or false")
    return text == "true"


def _filter(visit: Visit) -> list[tuple[str, str]]:
    """Matching keys: as parameters of their own, or in `filter` as attribute=value with commas."""
    keys = []
    for name, value in visit.request.query_params.multi_items():
        if name.lower() not in _RESERVED:
            keys.append((attribute_path(name), value))
        elif name.lower() == "filter":
            pairs = (part.partition("=") for part in value.split(",") if part)
            keys += [(attribute_path(key.strip()), text) for key, _, text in pairs]
    return sorted(set(keys))
