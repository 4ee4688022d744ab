"""Error to HTTP status and STOW failure reason: the only such table, and the answer it makes."""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple

import orjson
from starlette.responses import Response

import archive
from access import Forbidden, Unauthorized
from access.audit import AuditUnavailable
from dicomweb import errors

# Failure reasons of PS3.18 table I.2-2; 0111 is the C-STORE status of PS3.7 C.4.2.1.4.
PROCESSING_FAILURE = 0x0110
DUPLICATE_INSTANCE = 0x0111
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000


class Problem(NamedTuple):
    """How one kind of error is told: HTTP status, and failure reason inside a STOW answer."""

    status: int
    reason: int = PROCESSING_FAILURE


PROBLEMS: dict[type[Exception], Problem] = {
    # archive
    archive.NotDicom: Problem(400, CANNOT_UNDERSTAND),
    archive.Truncated: Problem(400, CANNOT_UNDERSTAND),
    archive.InvalidUid: Problem(400, CANNOT_UNDERSTAND),
    archive.MissingAttribute: Problem(400, DOES_NOT_MATCH),
    archive.TooComplex: Problem(400, CANNOT_UNDERSTAND),
    archive.WrongStudy: Problem(409, DOES_NOT_MATCH),
    archive.IdentityMismatch: Problem(409, DOES_NOT_MATCH),
    archive.ContentConflict: Problem(409, DUPLICATE_INSTANCE),
    archive.PlacementConflict: Problem(409, DUPLICATE_INSTANCE),
    archive.OutOfSpace: Problem(507, OUT_OF_RESOURCES),
    archive.ArchiveUnavailable: Problem(503),
    archive.InstanceNotFound: Problem(404),
    archive.FrameNotFound: Problem(404),
    archive.QueryError: Problem(400),
    # access
    Unauthorized: Problem(401),
    Forbidden: Problem(403),
    AuditUnavailable: Problem(503),
    # this door
    errors.BadRequest: Problem(400),
    errors.MalformedMultipart: Problem(400, CANNOT_UNDERSTAND),
    errors.PayloadTooLarge: Problem(413, OUT_OF_RESOURCES),
    errors.UnsupportedMediaType: Problem(415, CANNOT_UNDERSTAND),
    errors.NotAcceptable: Problem(406),
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
    """The error as `application/problem+json` (RFC 9457)."""
    status = problem_of(error).status
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = error.challenge
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = "5"
    told = status != HTTPStatus.INTERNAL_SERVER_ERROR
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        # An unexpected error's text was written for a log, not for a client.
        "detail": str(error) if told else "The server failed; its log has the cause.",
    }
    return Response(
        orjson.dumps(document),
        status_code=status,
        media_type="application/problem+json",
        headers=headers,
    )
