"""Data sets of work items as they come and go: media types, sizes, refusals."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping

import orjson
from starlette.responses import Response

from archive.keys import DicomJson
from archive.workitem_errors import (
    InvalidWorkitem,
    StateConflict,
    SubscriptionNotFound,
    WorkitemError,
    WorkitemExists,
    WorkitemNotFound,
    WrongTransaction,
)
from dicomweb.door import Visit, is_uid
from dicomweb.errors import BadRequest, PayloadTooLarge, UnsupportedMediaType
from dicomweb.media import DICOM_JSON, Offer, choose, parse_media_type
from dicomweb.multipart import many_parts
from dicomweb.problems import problem_document
from dicomweb.xml import DICOM_XML, from_native, to_native

MAX_BYTES = 4 * 1024 * 1024
FORMS = (
    Offer(DICOM_JSON),
    Offer("application/json"),
    Offer(DICOM_XML),
    Offer(DICOM_XML, multipart=True),
)
# PS3.18 tables 11.4.3-1 to 11.12.3-1.
STATUS_OF: Mapping[type[WorkitemError], int] = {
    InvalidWorkitem: 400,
    WorkitemExists: 409,
    WorkitemNotFound: 404,
    WrongTransaction: 400,
    StateConflict: 409,
    SubscriptionNotFound: 404,
}
_BARE = re.compile(r"[0-9.]{1,64}", re.ASCII)

Handler = Callable[[Visit], Awaitable[Response]]


def refusing(handler: Handler) -> Handler:
    """A handler whose refusals leave with their status and the Warning of chapter 11."""

    async def answer(visit: Visit) -> Response:
        try:
            return await handler(visit)
        except WorkitemError as error:
            headers = warned(visit, error.warning) if error.warning else {}
            return problem_document(STATUS_OF[type(error)], str(error), headers=headers)

    answer.__doc__ = handler.__doc__
    return answer


def warned(visit: Visit, text: str) -> dict[str, str]:
    """The Warning header; chapter 11 writes it without the quotes that RFC 9111 wants."""
    return {"Warning": f"299 {visit.door.base_url(visit.request)}: {text}"}


async def data_set_of(visit: Visit, *, optional: bool = False) -> DicomJson:
    """The data set in the body of the request; an empty one where that is allowed.

    Raises:
        BadRequest: it is no single data set.
        PayloadTooLarge: it passes MAX_BYTES.
        UnsupportedMediaType: neither DICOM JSON nor DICOM XML.
    """
    body = await _body(visit)
    if optional and not body.strip():
        return {}
    kind = parse_media_type(visit.request.headers.get("content-type") or DICOM_JSON).type
    if kind == DICOM_XML:
        return from_native(body)
    if kind not in (DICOM_JSON, "application/json"):
        raise UnsupportedMediaType("a work item comes as application/dicom+json or dicom+xml")
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest("the body is not JSON") from error
    # The DICOM JSON model has an array around its data sets; many clients send the set alone.
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if not isinstance(found, dict):
        raise BadRequest("the body must hold one data set")
    return found


async def _body(visit: Visit) -> bytes:
    body = bytearray()
    async for chunk in visit.request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise PayloadTooLarge(f"a work item has at most {MAX_BYTES} bytes")
    return bytes(body)


def answer_with(visit: Visit, found: list[DicomJson], headers: dict[str, str]) -> Response:
    """Data sets in the form that the client prefers."""
    offer = choose(visit.accept, FORMS)
    if offer.multipart:
        return many_parts(DICOM_XML, (to_native(item) for item in found), headers)
    if offer.part == DICOM_XML and len(found) == 1:
        return Response(to_native(found[0]), media_type=DICOM_XML, headers=headers)
    if offer.part == DICOM_XML:
        return many_parts(DICOM_XML, (to_native(item) for item in found), headers)
    return Response(orjson.dumps(found), media_type=offer.part, headers=headers)


def uid_in_query(visit: Visit, *names: str) -> str | None:
    """The UID in the query: PS3.18 writes it alone (`?1.2.3`), many clients under a name.

    Raises:
        BadRequest: it is no UID.
    """
    found: str | None = None
    for name, value in visit.request.query_params.multi_items():
        if name.lower() in names:
            found = value
        elif value == "" and _BARE.fullmatch(name):
            found = name
    if found is not None and not is_uid(found):
        raise BadRequest("the UID in the query is not valid")
    return found
