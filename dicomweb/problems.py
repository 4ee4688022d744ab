"""Error to HTTP status and STOW failure reason: the only such table, and the answer it makes."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import orjson
from starlette.responses import Response

import archive
from access import Forbidden, Unauthorized, Undecided
from access.audit import AuditUnavailable
from dicomweb import errors

# Failure reasons of PS3.18 table I.2-2; 0111 is the C-STORE status of PS3.7 C.4.2.1.4.
PROCESSING_FAILURE = 0x0110
DUPLICATE_INSTANCE = 0x0111
NOT_AUTHORIZED = 0x0124
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000


class Problem(NamedTuple):
    """How one kind of error is told: status, failure reason inside a STOW answer, what to do."""

    status: int
    reason: int = PROCESSING_FAILURE
    advice: str = ""


_AGAIN = "Send the same request again later; Retry-After says when."
_FILE = "Send a complete DICOM Part 10 file; `dcmdump` shows what is wrong with it."
_FIRST_STAYS = "The first copy stays. Give changed content a new SOP Instance UID, or delete first."
_QUERY = "Name attributes by tag or keyword; `known` lists those that can be matched, where told."
_FORM = "See the service's endpoints reference for the form of this request."

PROBLEMS: dict[type[Exception], Problem] = {
    # archive
    archive.NotDicom: Problem(400, CANNOT_UNDERSTAND, _FILE),
    archive.Truncated: Problem(400, CANNOT_UNDERSTAND, _FILE),
    archive.InvalidUid: Problem(400, CANNOT_UNDERSTAND, _FILE),
    archive.MissingAttribute: Problem(400, DOES_NOT_MATCH, _FILE),
    archive.TooComplex: Problem(400, CANNOT_UNDERSTAND, _FILE),
    archive.WrongStudy: Problem(409, DOES_NOT_MATCH, "Store to /studies, or to its own study."),
    archive.IdentityMismatch: Problem(409, DOES_NOT_MATCH),
    archive.ContentConflict: Problem(409, DUPLICATE_INSTANCE, _FIRST_STAYS),
    archive.PlacementConflict: Problem(409, DUPLICATE_INSTANCE, _FIRST_STAYS),
    archive.OutOfSpace: Problem(
        507, OUT_OF_RESOURCES, "Free disk space on the server, then send again."
    ),
    archive.ArchiveUnavailable: Problem(503, advice=_AGAIN),
    archive.InstanceNotFound: Problem(404, advice="Search with QIDO-RS for what is stored."),
    archive.FrameNotFound: Problem(
        404, advice="NumberOfFrames in the metadata says how many there are."
    ),
    archive.Corrupted: Problem(
        500, advice="Tell the administrator; restore the file from its sender or a backup."
    ),
    archive.QueryError: Problem(400, advice=_QUERY),
    # access
    Unauthorized: Problem(401, advice="Send a bearer token of this server, or log in."),
    Forbidden: Problem(403, advice="Ask for a token with the scope or the study that is named."),
    AuditUnavailable: Problem(503, advice=_AGAIN),
    Undecided: Problem(503, advice=_AGAIN),
    # this door
    errors.BadRequest: Problem(400, advice=_FORM),
    errors.MalformedMultipart: Problem(400, CANNOT_UNDERSTAND, _FORM),
    errors.PayloadTooLarge: Problem(413, OUT_OF_RESOURCES, "Send less in one request."),
    errors.UnsupportedMediaType: Problem(415, CANNOT_UNDERSTAND, _FORM),
    errors.RequestTimeout: Problem(
        408, advice="Send the whole request again, without long pauses."
    ),
    errors.NotFound: Problem(404),
    errors.TransactionInUse: Problem(409, advice="Choose a new Transaction UID."),
    errors.RefusedInstance: Problem(403, NOT_AUTHORIZED),
    errors.NotGranted: Problem(403, NOT_AUTHORIZED, "Store studies of the token's own patient."),
    errors.NotDecided: Problem(503, advice=_AGAIN),
    errors.NotAcceptable: Problem(406, advice="Accept one of the types in `offered`, or */*."),
    errors.NotRenderable: Problem(406),
}

INTERNAL = Problem(500)


def problem_of(error: Exception) -> Problem:
    """The entry for an error; the nearest class in the table counts."""
    for kind in type(error).__mro__:
        if kind in PROBLEMS:
            return PROBLEMS[kind]
    return INTERNAL


def problem_response(error: Exception) -> Response:
    """The error as `application/problem+json` (RFC 9457), with what to do about it."""
    problem = problem_of(error)
    headers = {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = error.challenge
    if problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = "5"
    if problem.status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE):
        headers["Connection"] = "close"  # what is left of the body is not waited for
    # An unexpected error's text was written for a log, not for a client.
    told = str(error) if problem is not INTERNAL else "The server failed; its log has the cause."
    extra = getattr(error, "extra", {})
    return problem_document(
        problem.status, told, advice=problem.advice, headers=headers, extra=extra
    )


def problem_document(
    status: int,
    detail: str,
    *,
    advice: str = "",
    headers: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Response:
    """A problem document; `advice` and `extra` are extension members."""
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if advice:
        document["advice"] = advice
    return Response(
        orjson.dumps({**document, **(extra or {})}),
        status_code=status,
        media_type="application/problem+json",
        headers={
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            **(headers or {}),
        },
    )
