"""Refusals and failures of the FHIR door, as OperationOutcome."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

FHIR_JSON = "application/fhir+json"
FHIR_JSON_UTF8 = "application/fhir+json; charset=utf-8"

# HTTP status -> IssueType (http://hl7.org/fhir/issue-type).
ISSUE_TYPES = {
    400: "invalid",
    401: "login",
    403: "forbidden",
    404: "not-found",
    405: "not-supported",
    406: "not-supported",
    409: "conflict",
    412: "conflict",
    413: "too-long",
    415: "not-supported",
    429: "throttled",
    502: "transient",
    503: "transient",
}


class Refusal(Exception):
    """A request that is answered with an OperationOutcome instead of what it asked for.

    The text goes to the client: it quotes nothing that the client did not send.
    """

    def __init__(
        self, status: int, text: str, *, code: str | None = None, headers: Mapping[str, str] = {}
    ) -> None:
        super().__init__(text)
        self.status = status
        self.code = code or ISSUE_TYPES.get(status, "processing")
        self.headers = dict(headers)

    @property
    def outcome(self) -> dict[str, Any]:
        """As an OperationOutcome."""
        issue = {"severity": "error", "code": self.code, "diagnostics": str(self)}
        return {"resourceType": "OperationOutcome", "issue": [issue]}

    @property
    def response(self) -> Response:
        """As an HTTP response."""
        return fhir_response(self.outcome, self.status, self.headers)


def fhir_response(
    resource: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A FHIR resource as an HTTP response that no cache keeps."""
    body = orjson.dumps(resource)
    sent = {"Cache-Control": "no-store"} | dict(headers or {})
    return Response(body, status, headers=sent, media_type=FHIR_JSON_UTF8)
