"""QIDO-RS (PS3.18 section 10.6): query parameters to an archive query, matches to JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import orjson
from pydicom.datadict import dictionary_VR
from starlette.responses import Response

from archive import Page, Query
from archive.query import attribute_path
from dicomweb.door import Visit, in_thread
from dicomweb.errors import BadRequest
from dicomweb.media import DICOM_JSON, Offer, choose

Level = Literal["studies", "series", "instances"]

RETRIEVE_URL = "00081190"
STUDY_UID, SERIES_UID, INSTANCE_UID = "0020000D", "0020000E", "00080018"
_RESERVED = frozenset(
    {"accept", "charset", "emptyvaluematching", "multiplevaluematching", "timezoneadjustment"}
)
_JSON = (Offer(DICOM_JSON), Offer("application/json"))


async def search_studies(visit: Visit) -> Response:
    """GET /studies."""
    return await _search(visit, "studies", visit.archive.studies)


async def search_series(visit: Visit) -> Response:
    """GET /series and /studies/{study}/series."""
    return await _search(visit, "series", visit.archive.series)


async def search_instances(visit: Visit) -> Response:
    """GET /instances, /studies/{study}/instances and .../series/{series}/instances."""
    return await _search(visit, "instances", visit.archive.instances)


async def _search(visit: Visit, level: Level, find: Callable[[Query], Page]) -> Response:
    media_type = choose(visit.accept, _JSON).part
    asked, query = query_of(visit)
    page = await in_thread(find, query)
    base = visit.door.base_url(visit.request)
    for item in page.items:
        item.setdefault(RETRIEVE_URL, {"vr": "UR", "Value": [_retrieve_url(base, level, item)]})
    headers = {}
    capped = asked is None or asked > (query.limit or 0)
    if page.has_more and capped:
        text = f"The number of results exceeded the maximum of {query.limit}; use limit and offset."
        headers["Warning"] = f'299 {visit.request.url.netloc} "{text}"'
    if not page.items:
        return Response(status_code=204, headers=headers)
    return Response(orjson.dumps(page.items), media_type=media_type, headers=headers)


def query_of(visit: Visit) -> tuple[int | None, Query]:
    """The limit that was asked for, and the query with the limit that is kept."""
    match: list[tuple[str, str]] = []
    include: list[str] = []
    paging: dict[str, int] = {}
    fuzzy = False
    for name, value in visit.request.query_params.multi_items():
        lower = name.lower()
        if lower in ("limit", "offset"):
            paging[lower] = _count(lower, value)
        elif lower == "includefield":
            include += [part for part in value.split(",") if part]
        elif lower == "fuzzymatching":
            fuzzy = value.lower() == "true"
        elif lower not in _RESERVED:
            path = attribute_path(name)
            match.append((path, _uid_list(path, value)))
    for path, uid in ((STUDY_UID, visit.study), (SERIES_UID, visit.series)):
        if uid is not None:
            match.append((path, uid))
    most = visit.door.config.max_results
    asked = paging.get("limit")
    query = Query.of(
        match,
        include=include,
        limit=most if asked is None else min(asked, most),
        offset=paging.get("offset", 0),
        fuzzy=fuzzy,
        studies=visit.caller.studies,
    )
    return asked, query


def _count(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise BadRequest(f"{name} is not a whole number")
    return int(text)


def _uid_list(path: str, value: str) -> str:
    """UIDs may be listed with commas (PS3.18) or backslashes (PS3.4); the archive takes these."""
    try:
        is_uid = dictionary_VR(int(path.rpartition(".")[2], 16)) == "UI"
    except KeyError:
        is_uid = False
    return value.replace(",", "\\") if is_uid else value


def _retrieve_url(base: str, level: Level, item: dict[str, Any]) -> str:
    url = f"{base}/studies/{item[STUDY_UID]['Value'][0]}"
    if level == "studies":
        return url
    url += f"/series/{item[SERIES_UID]['Value'][0]}"
    if level == "series":
        return url
    return f"{url}/instances/{item[INSTANCE_UID]['Value'][0]}"
