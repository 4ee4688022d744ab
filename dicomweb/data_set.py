"""The data set in the body of a request, as DICOM JSON or XML."""

from __future__ import annotations

import orjson

from archive.keys import DicomJson
from dicomweb.body import whole_body
from dicomweb.door import Visit
from dicomweb.errors import BadRequest, UnsupportedMediaType
from dicomweb.media import DICOM_JSON, parse_media_type
from dicomweb.xml import DICOM_XML, from_native


async def data_set_of(visit: Visit, most: int, *, optional: bool = False) -> DicomJson:
    """The data set in the body of the request; an empty one where that is allowed.

    Raises:
        BadRequest: it is no single data set.
        PayloadTooLarge: it passes `most` bytes.
        UnsupportedMediaType: neither DICOM JSON nor DICOM XML.
    """
    kind = parse_media_type(visit.request.headers.get("content-type") or DICOM_JSON).type
    if kind not in (DICOM_JSON, "application/json", DICOM_XML):
        raise UnsupportedMediaType(f"send {DICOM_JSON} or {DICOM_XML}")
    body = await whole_body(visit.request, visit.door.config, most)
    if optional and not body.strip():
        return {}
    if kind == DICOM_XML:
        return from_native(body)
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
