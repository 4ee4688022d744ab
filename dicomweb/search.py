"""QIDO-RS (PS3.18 section 10.6): query parameters to an archive query, matches to the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import orjson
from pydicom.datadict import dictionary_VR
from starlette.responses import Response

from archive import JsonPage, Query, QueryError
from archive.query import attribute_path
from dicomweb.attributes import described, kept_at
from dicomweb.door import Visit, in_thread
from dicomweb.errors import BadRequest
from dicomweb.media import DICOM_JSON, Offer, check_charset, choose
from dicomweb.multipart import many_parts
from dicomweb.xml import DICOM_XML, to_native

Level = Literal["study", "series", "instance"]

STUDY_UID, SERIES_UID = "0020000D", "0020000E"
MAX_KEYS = 100
MAX_VALUE_CHARS = 16 * 1024
_SWITCHES = frozenset({"fuzzymatching", "emptyvaluematching", "multiplevaluematching"})
_RESERVED = frozenset({"accept", "charset", "timezoneadjustment"})
_FORMS = (Offer(DICOM_JSON), Offer("application/json"), Offer(DICOM_XML, multipart=True))


async def search_studies(visit: Visit) -> Response:
    """GET /studies."""
    return await _search(visit, "study")


async def search_series(visit: Visit) -> Response:
    """GET /series and /studies/{study}/series."""
    return await _search(visit, "series")


async def search_instances(visit: Visit) -> Response:
    """GET /instances, /studies/{study}/instances and .../series/{series}/instances."""
    return await _search(visit, "instance")


async def _search(visit: Visit, level: Level) -> Response:
    check_charset(visit.request.query_params.getlist("charset"))
    offer = choose(visit.accept, _FORMS)
    try:
        # A study in the path has been asked about before.
        seen = visit.caller.studies if visit.study is not None else await visit.studies("s")
        question = question_of(visit, seen)
        base = visit.door.base_url(visit.request)
        page = await in_thread(visit.archive.page, level, question.query, base)
    except QueryError as error:
        raise BadRequest(
            str(error), known=await in_thread(described, visit.archive, level)
        ) from error
    headers = {}
    missing = [path for path in question.query.include if not kept_at(level, path)]
    if missing and missing != ["all"]:
        tags = await in_thread(visit.archive.query_tags.list)
        missing = [path for path in missing if not kept_at(level, path, tags)]
    if warnings := [*_unanswered(question, missing), *_capped(question, page)]:
        service = visit.door.base_url(visit.request)
        headers["Warning"] = ", ".join(f'299 {service} "{text}"' for text in warnings)
    if not page.items:
        return Response(status_code=204, headers=headers)
    if offer.multipart:
        parts = (to_native(orjson.loads(item)) for item in page.items)
        return many_parts(DICOM_XML, parts, headers)
    # The texts come from the database as they are sent: nothing is parsed on the way.
    body = f"[{','.join(page.items)}]".encode()
    return Response(body, media_type=offer.part, headers=headers)


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked: the limit as given, the query as it is kept, and the switches."""

    asked: int | None
    query: Query
    multiple_values: bool = False


def question_of(visit: Visit, studies: frozenset[str] | None) -> Question:
    """Read the query parameters; only `studies` are searched.

    Raises:
        BadRequest: a parameter is not of its form.
        QueryError: an attribute that nobody knows.
    """
    match: list[tuple[str, str]] = []
    include: list[str] = []
    paging: dict[str, int] = {}
    switches = dict.fromkeys(_SWITCHES, False)
    items = visit.request.query_params.multi_items()
    if len(items) > MAX_KEYS or any(len(value) > MAX_VALUE_CHARS for _, value in items):
        raise BadRequest(f"at most {MAX_KEYS} parameters of {MAX_VALUE_CHARS} characters each")
    for name, value in items:
        lower = name.lower()
        if lower in ("limit", "offset"):
            paging[lower] = _count(lower, value)
        elif lower == "includefield":
            include += [part.strip() for part in value.split(",") if part.strip()]
        elif lower in _SWITCHES:
            switches[lower] = _switch(lower, value)
        elif lower not in _RESERVED:
            path = attribute_path(name)
            match.append((path, _uid_list(path, value)))
    for path, uid in ((STUDY_UID, visit.study), (SERIES_UID, visit.series)):
        if uid is not None:
            match.append((path, uid))
    most = visit.door.config.max_results
    asked = paging.get("limit")
    capped = asked is None or asked > most
    query = Query.of(
        match,
        include=[name for name in include if name.lower() != "all"] or _all(include),
        limit=most if asked is None else min(asked, most),
        offset=paging.get("offset", 0),
        fuzzy=switches["fuzzymatching"],
        studies=studies,
        count=capped,
    )
    return Question(asked, query, switches["multiplevaluematching"])


def _all(include: list[str]) -> list[str]:
    return ["all"] if include else []


def _count(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise BadRequest(f"{name} is not a whole number")
    return int(text)


def _switch(name: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise BadRequest(f"{name} is true or false")
    return text.lower() == "true"


def _uid_list(path: str, value: str) -> str:
    """UIDs may be listed with commas (PS3.18) or backslashes (PS3.4); the archive takes these."""
    return value.replace(",", "\\") if _vr(path) == "UI" else value


def _vr(path: str) -> str:
    try:
        return dictionary_VR(int(path.rpartition(".")[2], 16))
    except KeyError:
        return ""


def _capped(question: Question, page: JsonPage) -> list[str]:
    """The warning of PS3.18 section 8.3.4.4, where fewer are given than were asked for."""
    query = question.query
    most = query.limit or 0
    if not page.has_more or not (question.asked is None or question.asked > most):
        return []
    remaining = (page.total or 0) - query.offset - len(page.items)
    return [f"There are {remaining} additional results that can be requested"]


def _unanswered(question: Question, missing: list[str]) -> list[str]:
    """What the query asks for and does not get."""
    texts = []
    missing = [path for path in missing if path != "all"]
    if missing:
        names = ", ".join(missing[:20])
        texts.append(f"These attributes are not kept for queries and not included: {names}")
    listed = [path for path, value in question.query.match if "\\" in value and _vr(path) != "UI"]
    if question.multiple_values and listed:
        texts.append("The multiplevaluematching parameter is not supported")
    return texts
