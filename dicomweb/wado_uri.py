"""WADO-URI (PS3.18 chapter 9): one instance by query parameters, as DICOM or as a picture.

Its parameters are translated into the words of WADO-RS, which does the work.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from archive import InstanceNotFound, Query
from archive.keys import DicomJson
from dicomweb.door import Visit, in_thread, is_uid
from dicomweb.errors import BadRequest
from dicomweb.media import DICOM, parse_accept
from dicomweb.rendered import rendered_frame, rendered_instance
from dicomweb.retrieve import retrieve_instance

_UIDS = {"study": "studyUID", "series": "seriesUID", "instance": "objectUID"}
# Answering without them would give something else than was asked for.
_REFUSED = ("anonymize", "presentationUID", "presentationSeriesUID")


async def wado(visit: Visit) -> Response:
    """GET /wado?requestType=WADO&studyUID=...&seriesUID=...&objectUID=..."""
    parameters = visit.request.query_params
    if parameters.get("requestType") != "WADO":
        raise BadRequest("requestType must be WADO")
    for name in _REFUSED:
        if name in parameters:
            raise BadRequest(f"{name} is not supported by this server")
    uids = await _uids(visit, parameters)
    asked = parameters.get("contentType") or visit.request.headers.get("accept", "*/*")
    kinds = parse_accept(asked)
    if kinds[0].type == DICOM:
        syntax = parameters.get("transferSyntax")
        if syntax is not None and not is_uid(syntax):
            raise BadRequest("transferSyntax is not a valid UID")
        accept = f"{DICOM}; transfer-syntax={syntax}" if syntax else DICOM
        return await retrieve_instance(_as_rs(visit, uids, {}, accept))
    words = await _rendering(visit, uids, parameters)
    number = parameters.get("frameNumber")
    if number is None:
        return await rendered_instance(_as_rs(visit, uids, words, asked))
    return await rendered_frame(_as_rs(visit, uids | {"numbers": number}, words, asked))


async def _uids(visit: Visit, parameters: Mapping[str, str]) -> dict[str, str]:
    """The three UIDs; a series that is not given is looked up, as older clients expect."""
    uids = {name: parameters.get(key, "") for name, key in _UIDS.items()}
    for name, key in _UIDS.items():
        if not is_uid(uids[name]) and not (name == "series" and not uids[name]):
            raise BadRequest(f"{key} is missing or not a valid UID")
    # From here on the audit record names the study, as with every other request.
    visit.request.scope["path_params"] = uids
    await visit.check_study(uids["study"], "r")
    if not uids["series"]:
        found = await in_thread(_find, visit, uids)
        uids["series"] = found["0020000E"]["Value"][0]
    return uids


def _find(visit: Visit, uids: Mapping[str, str]) -> DicomJson:
    query = Query.of({"0020000D": uids["study"], "00080018": uids["instance"]}, limit=1)
    items = visit.archive.instances(query).items
    if not items:
        raise InstanceNotFound(f"{uids['instance']} is not stored there")
    return items[0]


async def _rendering(
    visit: Visit, uids: Mapping[str, str], parameters: Mapping[str, str]
) -> dict[str, str]:
    """viewport, window and quality of WADO-RS."""
    words: dict[str, str] = {}
    most = visit.door.config.max_viewport
    sizes = [parameters.get("columns"), parameters.get("rows")]
    region = parameters.get("region")
    if any(sizes) or region is not None:
        words["viewport"] = ",".join(size or str(most) for size in sizes)
    if region is not None:
        words["viewport"] += "," + _pixels(region, await in_thread(_find, visit, uids))
    window = [parameters.get("windowCenter"), parameters.get("windowWidth")]
    if any(window):
        if not all(window):
            raise BadRequest("windowCenter and windowWidth come together")
        words["window"] = f"{window[0]},{window[1]},linear"
    if "imageQuality" in parameters:
        words["quality"] = parameters["imageQuality"]
    if "annotation" in parameters:
        words["annotation"] = parameters["annotation"]
    return words


def _pixels(region: str, found: DicomJson) -> str:
    """`left,top,right,bottom` as parts of 1, in pixels as x,y,width,height."""
    try:
        left, top, right, bottom = (float(part) for part in region.split(","))
    except ValueError:
        raise BadRequest("region is four numbers from 0 to 1") from None
    ends = (left, top, right, bottom)
    if not all(math.isfinite(v) and 0 <= v <= 1 for v in ends) or left >= right or top >= bottom:
        raise BadRequest("region is four numbers from 0 to 1")
    columns = found.get("00280011", {}).get("Value", [0])[0]
    rows = found.get("00280010", {}).get("Value", [0])[0]
    box = (left * columns, top * rows, (right - left) * columns, (bottom - top) * rows)
    return ",".join(f"{round(value)}" for value in box)


def _as_rs(visit: Visit, path: dict[str, str], query: dict[str, str], accept: str) -> Visit:
    """The same visit with the path, query and Accept header of a WADO-RS request."""
    headers = [(k, v) for k, v in visit.request.scope["headers"] if k != b"accept"]
    scope = {
        **visit.request.scope,
        "path_params": path,
        "query_string": urlencode(query).encode(),
        "headers": [*headers, (b"accept", accept.encode("latin-1", "replace"))],
    }
    request = Request(scope, visit.request.receive)
    return Visit(visit.door, request, visit.caller, path["study"], path["series"], path["instance"])
