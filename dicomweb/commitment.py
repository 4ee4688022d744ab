"""Storage commitment over the web (PS3.18 chapter 13): success only for bytes read again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
from starlette.responses import Response

from access import Forbidden
from archive import Archive, ArchiveError
from archive.commitments import Reference
from archive.keys import DicomJson
from archive.vouching import PROCESSING_FAILURE, why_not
from dicomweb.data_set import data_set_of
from dicomweb.door import Visit, in_thread, is_uid
from dicomweb.errors import (
    BadRequest,
    NotFound,
    PayloadTooLarge,
    TransactionInUse,
)
from dicomweb.media import DICOM_JSON, Offer, choose
from dicomweb.xml import DICOM_XML, to_native

_FORMS = (Offer(DICOM_JSON), Offer("application/json"), Offer(DICOM_XML))
_SOP_CLASS, _SOP_UID, _REASON = "00081150", "00081155", "00081197"
_COMMITTED, _FAILED = "00081199", "00081198"
PATIENCE_S = 10.0
_IN_USE = "the Transaction UID is in use"


async def request_commitment(visit: Visit) -> Response:
    """POST /commitment-requests/{transaction}."""
    offer = choose(visit.accept, _FORMS)
    uid: str = visit.request.path_params["transaction"]
    kept = visit.archive.commitments
    if not await in_thread(kept.is_free, uid):
        raise TransactionInUse(_IN_USE)
    config = visit.door.config
    document = await data_set_of(visit, config.max_metadata_bytes)
    references = _references(document, config.max_parts)
    hidden = await _hidden(visit, {uid for _, uid in references})
    # Another request may have come while the body did.
    if not await in_thread(kept.begin, uid, visit.caller.subject, references, hidden):
        raise TransactionInUse(_IN_USE)
    return await _answer(visit, offer, _verification(visit, uid, references, hidden))


async def check_result(visit: Visit) -> Response:
    """GET /commitment-requests/{transaction}."""
    offer = choose(visit.accept, _FORMS)
    uid: str = visit.request.path_params["transaction"]
    found = await in_thread(visit.archive.commitments.find, uid)
    if found is None or found.subject != visit.caller.subject:
        raise NotFound("no storage commitment request has this Transaction UID")
    if found.result is not None:
        return _document_of(offer, found.result)
    # Under way, or left by a process that ended: then it is verified again.
    work = _verification(visit, uid, found.referenced, found.hidden)
    return await _answer(visit, offer, work)


def _verification(
    visit: Visit, uid: str, references: Sequence[Reference], hidden: frozenset[str]
) -> asyncio.Task[DicomJson]:
    async def work() -> DicomJson:
        found = await in_thread(_verify, visit.archive, hidden, references)
        await in_thread(visit.archive.commitments.finish, uid, found)
        return found

    return visit.door.commitments.verify(uid, work)


async def _answer(visit: Visit, offer: Offer, work: asyncio.Task[DicomJson]) -> Response:
    """200 with the result, or 202 where it takes longer than a client should wait."""
    done, _ = await asyncio.wait({work}, timeout=PATIENCE_S)
    if not done:
        url = f"{visit.door.base_url(visit.request)}{visit.request.scope['path']}"
        return Response(status_code=202, headers={"Retry-After": "5", "Content-Location": url})
    return _document_of(offer, work.result())


def _document_of(offer: Offer, document: DicomJson) -> Response:
    text = to_native(document) if offer.part == DICOM_XML else orjson.dumps(document)
    return Response(text, media_type=offer.part)


def _references(document: DicomJson, most: int) -> list[Reference]:
    """SOP class and instance of each item of ReferencedSOPSequence (table J.1-1)."""
    try:
        items = document[_COMMITTED]["Value"]
        pairs = [(item[_SOP_CLASS]["Value"][0], item[_SOP_UID]["Value"][0]) for item in items]
    except (KeyError, IndexError, TypeError):
        raise BadRequest(
            "name the instances in ReferencedSOPSequence (0008,1199), each by class and instance"
        ) from None
    if not pairs or not all(is_uid(str(uid)) for pair in pairs for uid in pair):
        raise BadRequest("ReferencedSOPSequence is empty or holds something that is not a UID")
    if len(pairs) > most:
        raise PayloadTooLarge(f"at most {most} instances in one request")
    return [(str(sop_class), str(uid)) for sop_class, uid in pairs]


async def _hidden(visit: Visit, instances: set[str]) -> frozenset[str]:
    """Studies of the instances that are nobody's business of the caller's."""
    if visit.caller.studies is None and not visit.is_limited("c"):
        return frozenset()
    records = await in_thread(lambda: list(visit.archive.records_of(instances=sorted(instances))))
    hidden = set()
    for study in {record.key.study for record in records}:
        try:
            await visit.check_study(study, "c")
        except Forbidden:
            hidden.add(study)
    return frozenset(hidden)


def _verify(archive: Archive, hidden: frozenset[str], references: Sequence[Reference]) -> DicomJson:
    """The Storage Commitment Response Module (table J.2-1)."""
    committed, failed = [], []
    for sop_class, uid in references:
        reason = _reason(archive, hidden, sop_class, uid)
        item = {_SOP_CLASS: _element("UI", sop_class), _SOP_UID: _element("UI", uid)}
        if reason is None:
            committed.append(item)
        else:
            failed.append(item | {_REASON: _element("US", reason)})
    answer = {_FAILED: failed, _COMMITTED: committed}
    return {name: {"vr": "SQ", "Value": items} for name, items in answer.items() if items}


def _reason(archive: Archive, hidden: frozenset[str], sop_class: str, uid: str) -> int | None:
    """Failure reason of an instance; None where its bytes are those that were stored."""
    try:
        return why_not(archive, sop_class, uid, hidden)
    except ArchiveError:
        return PROCESSING_FAILURE


def _element(vr: str, value: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]}
