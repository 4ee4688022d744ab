"""The answer to a store: the Store Instances Response Module (PS3.18 annex I) and its status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from starlette.responses import Response

from archive import ArchiveError, Stored
from dicomweb.door import Visit
from dicomweb.errors import DicomwebError
from dicomweb.media import DICOM_JSON, Offer
from dicomweb.problems import problem_of
from dicomweb.xml import DICOM_XML, to_native

log = structlog.get_logger(__name__)

FORMS = (Offer(DICOM_JSON), Offer("application/json"), Offer(DICOM_XML))
# Lines that one request may write into the log.
LOGGED = 20
_RETRIEVE_URL, _SOP_CLASS, _SOP_UID = "00081190", "00081150", "00081155"
_FAILED, _STORED, _OTHER_FAILURES = "00081198", "00081199", "0008119A"
_REASON = "00081197"
# What a whole request may be answered with; anything mixed is a conflict.
_WHOLE = frozenset({400, 403, 413, 415, 503, 507})


@dataclass(frozen=True, slots=True)
class Failure:
    """An instance that was not stored; `sop_class` where it could be read."""

    error: ArchiveError | DicomwebError
    sop_class: str | None = None


Outcome = Stored | Failure


def answer(visit: Visit, offer: Offer, outcomes: Sequence[Outcome]) -> Response:
    """The response document in the chosen form, with the status of the whole request."""
    base = visit.door.base_url(visit.request)
    stored = [one for one in outcomes if isinstance(one, Stored)]
    failed = [one for one in outcomes if isinstance(one, Failure)]
    document = _document(base, stored, failed)
    _log(failed)
    text = to_native(document) if offer.part == DICOM_XML else orjson.dumps(document)
    return Response(text, _status(stored, failed), media_type=offer.part)


def _log(failed: list[Failure]) -> None:
    for one in failed[:LOGGED]:
        key = getattr(one.error, "key", None)
        log.info("stow_refused", reason=type(one.error).__name__, instance=key and key.instance)
    if len(failed) > LOGGED:
        log.info("stow_refused_more", count=len(failed) - LOGGED)


def _document(base: str, stored: list[Stored], failed: list[Failure]) -> dict[str, Any]:
    studies = {one.key.study for one in stored}
    document: dict[str, Any] = {}
    if len(studies) == 1:
        document[_RETRIEVE_URL] = _element("UR", f"{base}/studies/{studies.pop()}")
    named = [one for one in failed if getattr(one.error, "key", None) is not None]
    other = [one for one in failed if getattr(one.error, "key", None) is None]
    for name, items in (
        (_FAILED, [_failed_item(one) for one in named]),
        (_STORED, [_stored_item(base, one) for one in stored]),
        # What has no SOP Instance UID that could be read has no place in FailedSOPSequence.
        (_OTHER_FAILURES, [{_REASON: _reason(one)} for one in other]),
    ):
        if items:
            document[name] = {"vr": "SQ", "Value": items}
    return document


def _status(stored: list[Stored], failed: list[Failure]) -> int:
    if not failed:
        return HTTPStatus.OK
    if stored:
        return HTTPStatus.ACCEPTED
    statuses = {problem_of(one.error).status for one in failed}
    return statuses.pop() if len(statuses) == 1 and statuses <= _WHOLE else HTTPStatus.CONFLICT


def _element(vr: str, value: str | int) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]}


def _reason(one: Failure) -> dict[str, Any]:
    return _element("US", problem_of(one.error).reason)


def _stored_item(base: str, one: Stored) -> dict[str, Any]:
    key = one.key
    url = f"{base}/studies/{key.study}/series/{key.series}/instances/{key.instance}"
    return {
        _SOP_CLASS: _element("UI", one.sop_class),
        _SOP_UID: _element("UI", key.instance),
        _RETRIEVE_URL: _element("UR", url),
    }


def _failed_item(one: Failure) -> dict[str, Any]:
    key = getattr(one.error, "key", None)
    sop_class = _element("UI", one.sop_class) if one.sop_class else {"vr": "UI"}
    return {
        _SOP_CLASS: sop_class,
        _SOP_UID: _element("UI", key.instance) if key else {"vr": "UI"},
        _REASON: _reason(one),
    }
