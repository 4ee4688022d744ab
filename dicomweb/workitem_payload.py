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
from dicomweb.errors import BadRequest
from dicomweb.media import DICOM_JSON, Offer, choose
from dicomweb.multipart import many_parts
from dicomweb.problems import problem_document
from dicomweb.xml import DICOM_XML, to_native

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
