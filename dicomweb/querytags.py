"""Extended query tags: which further attributes are kept for searches; administrators say it."""

from __future__ import annotations

import re
from typing import Any

import anyio
import orjson
import structlog
from pydicom.datadict import keyword_for_tag
from starlette.responses import Response

from archive import Archive, ArchiveError, QueryTag
from archive.match import LEVELS, LevelName
from archive.query import attribute_path
from dicomweb.body import whole_body
from dicomweb.door import Visit, in_thread
from dicomweb.errors import BadRequest, NotFound
from dicomweb.media import Offer, choose

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 64 * 1024
PAUSE_S, TROUBLED_S = 1.0, 10.0
_FORMS = (Offer("application/json"),)
_VR = re.compile(r"[A-Z]{2}")


async def list_tags(visit: Visit) -> Response:
    """GET /extendedquerytags."""
    choose(visit.accept, _FORMS)
    return _answer([_entry(one) for one in await in_thread(visit.archive.query_tags.list)])


async def read_tag(visit: Visit) -> Response:
    """GET /extendedquerytags/{tag}: one, with its progress."""
    choose(visit.accept, _FORMS)
    tag = attribute_path(visit.request.path_params["tag"])
    for one in await in_thread(visit.archive.query_tags.list):
        if one.tag == tag:
            return _answer(_entry(one))
    raise NotFound("this attribute is no extended query tag")


async def add_tags(visit: Visit) -> Response:
    """POST /extendedquerytags: `[{"path": "PatientSpeciesDescription", "level": "study"}]`.

    202: what is stored already is looked through in the background.
    """
    choose(visit.accept, _FORMS)
    data = await whole_body(visit.request, visit.door.config, MAX_BODY_BYTES)
    try:
        asked = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise BadRequest("the request is not JSON") from None
    wanted = [_wanted(one) for one in (asked if isinstance(asked, list) else [asked])]
    added = [await in_thread(visit.archive.query_tags.add, *one) for one in wanted]
    return _answer([_entry(one) for one in added], 202)


def _wanted(asked: object) -> tuple[str, LevelName, str | None]:
    """Attribute, level and VR of one entry of the request."""
    if not isinstance(asked, dict) or not isinstance(asked.get("path"), str):
        raise BadRequest("each tag is an object with path, level and, if it is private, vr")
    level, vr = str(asked.get("level", "")).lower(), asked.get("vr")
    if level not in LEVELS:
        raise BadRequest("level is study, series or instance")
    if vr is not None and not (isinstance(vr, str) and _VR.fullmatch(vr)):
        raise BadRequest("vr is two letters")
    return asked["path"], level, vr


async def remove_tag(visit: Visit) -> Response:
    """DELETE /extendedquerytags/{tag}."""
    if not await in_thread(visit.archive.query_tags.remove, visit.request.path_params["tag"]):
        raise NotFound("this attribute is no extended query tag")
    return Response(status_code=204)


def _entry(one: QueryTag) -> dict[str, Any]:
    return {
        "path": one.tag,
        "keyword": keyword_for_tag(int(one.tag, 16)) or None,
        "vr": one.vr,
        "level": one.level,
        "status": "ready" if one.done >= one.total else "indexing",
        "progress": {"done": one.done, "total": one.total},
    }


def _answer(document: object, status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, media_type="application/json")


async def keep_indexed(archive: Archive) -> None:
    """Fill in extended tags for as long as the service runs."""
    while True:
        try:
            more = await in_thread(archive.query_tags.index_some)
            await anyio.sleep(0 if more else PAUSE_S)
        except ArchiveError as error:
            log.warning("query_tags_waiting", reason=type(error).__name__)
            await anyio.sleep(TROUBLED_S)
        except Exception as error:
            log.error("query_tags_failed", exc_info=error)
            await anyio.sleep(TROUBLED_S)
