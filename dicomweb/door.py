"""What every route shares: who asks, whether they may, the audit record, the way errors leave."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Literal, TypeVar

import anyio
import anyio.to_thread
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from access import (
    AccessError,
    AuditEventKind,
    AuditRecord,
    AuditSpool,
    Caller,
    Forbidden,
    Unauthorized,
)
from archive import Archive, ArchiveError, InstanceKey
from dicomweb.commitments import Commitments
from dicomweb.config import DicomwebConfig
from dicomweb.decoder_pool import Decoders
from dicomweb.errors import BadRequest, DicomwebError
from dicomweb.media import MediaRange, parse_accept
from dicomweb.problems import problem_response
from dicomweb.studies_allowed import RESOURCE, OpenOrShut, StudyAccess

log = structlog.get_logger(__name__)
Result = TypeVar("Result")
Interaction = Literal["c", "r", "u", "d", "s"]
Outcome = Literal["success", "minor", "serious", "major"]

_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*", re.ASCII)
_BULK_PATH = re.compile(r"[0-9A-Fa-f]{8}(/[1-9][0-9]{0,8}/[0-9A-Fa-f]{8}){0,64}", re.ASCII)
_UIDS_IN_PATHS = ("study", "series", "instance", "workitem", "transaction")
_EVENTS = {
    "c": (AuditEventKind.STORE, "C"),
    "r": (AuditEventKind.RETRIEVE, "R"),
    "u": (AuditEventKind.UPDATE, "U"),
    "d": (AuditEventKind.DELETE, "D"),
    "s": (AuditEventKind.QUERY, "E"),
}


@dataclass(frozen=True)
class Door:
    """The service's parts, handed to each handler."""

    archive: Archive
    authenticate: Callable[[Request], Awaitable[Caller]]
    audit: AuditSpool
    config: DicomwebConfig
    decoders: Decoders
    access: StudyAccess = field(default_factory=OpenOrShut)
    commitments: Commitments = field(default_factory=Commitments)

    def base_url(self, request: Request) -> str:
        """Service root as the client reaches it, without a trailing slash."""
        if self.config.base_url is not None:
            return self.config.base_url.rstrip("/")
        root = str(request.scope.get("root_path", ""))
        return f"{request.url.scheme}://{request.url.netloc}{root}".rstrip("/")


@dataclass(frozen=True)
class Visit:
    """One request: the caller behind it and what the path names."""

    door: Door
    request: Request
    caller: Caller
    study: str | None = None
    series: str | None = None
    instance: str | None = None

    @property
    def archive(self) -> Archive:
        """The store behind the door."""
        return self.door.archive

    @property
    def key(self) -> InstanceKey:
        """The instance that the path names."""
        return InstanceKey(self.study or "", self.series or "", self.instance or "")

    def is_limited(self, letter: Interaction) -> bool:
        """Whether the caller reaches only some studies with this letter."""
        return not self.caller.may_on_all(RESOURCE, letter)

    async def check_study(self, study: str, letter: Interaction) -> None:
        """Raise Forbidden unless the caller may do this to the study, stored here or not."""
        if not self.caller.may_see_study(study):
            raise Forbidden("the token is limited to other studies")
        if self.is_limited(letter) and not await self.door.access.may(self.caller, study, letter):
            raise Forbidden("the token does not grant this study")

    async def studies(self, letter: Interaction) -> frozenset[str] | None:
        """The only studies that the caller reaches with this letter; None for all."""
        own = self.caller.studies
        if not self.is_limited(letter):
            return own
        found = await self.door.access.visible(self.caller, letter)
        if found is None or own is None:
            return own if found is None else found
        return found & own

    @property
    def accept(self) -> list[MediaRange]:
        """What the client takes: the accept query parameter goes before the header."""
        # In a query a plus sign that is not escaped is a space.
        asked = [
            one.replace("dicom ", "dicom+") for one in self.request.query_params.getlist("accept")
        ]
        return parse_accept(",".join(asked) or ",".join(self.request.headers.getlist("accept")))


Handler = Callable[[Visit], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the routing table.

    Attributes:
        method: HTTP method; HEAD comes with GET.
        path: Below the service root, in Starlette's notation.
        interaction: The SMART letter that the caller's scopes must grant on `resource`.
        handler: Makes the answer.
        summary: What it does, for the capabilities document.
        resource: FHIR resource type whose scope opens this row.
        asks: The handler itself asks about each study that it touches; without this a caller
            that reaches only some studies is let in only where the path names one.
        other: A second letter that opens the row to such a caller; the handler tells them apart.
    """

    method: str
    path: str
    interaction: Interaction
    handler: Handler
    summary: str = ""
    resource: str = RESOURCE
    asks: bool = False
    other: Interaction | None = None


async def in_thread(call: Callable[..., Result], *arguments: object) -> Result:
    """Run a blocking archive call off the event loop."""
    return await anyio.to_thread.run_sync(lambda: call(*arguments))


def endpoint(door: Door, rule: Rule) -> Endpoint:
    """A route: authenticate, authorise, handle, record, answer."""

    async def serve(request: Request) -> Response:
        started = time.perf_counter()
        caller: Caller | None = None
        try:
            caller = await door.authenticate(request)
            visit = _visit(door, request, caller)
            await _authorise(visit, rule)
            response = await rule.handler(visit)
            await _record(door, request, rule, caller, _outcome(response.status_code))
        except ClientDisconnect:
            log.info("client_left", path=request.url.path)
            return Response(status_code=HTTPStatus.BAD_REQUEST)
        except (AccessError, ArchiveError, DicomwebError) as error:
            response = await _refuse(door, request, rule, caller, error)
        except Exception as error:
            log.error("dicomweb_failed", path=request.url.path, exc_info=error)
            response = await _refuse(door, request, rule, caller, error)
        _add_headers(response)
        log.info(
            "dicomweb",
            method=request.method,
            path=request.url.path,  # never the query: it may name a patient
            status=response.status_code,
            ms=round((time.perf_counter() - started) * 1000, 1),
        )
        return headers_of(response) if request.method == "HEAD" else response

    return serve


def _add_headers(response: Response) -> None:
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Cache-Control", "private, no-cache")
    response.headers.setdefault("Vary", "Accept, Authorization")


def headers_of(response: Response) -> Response:
    """The answer to HEAD: what GET would say, without reading the body from disk."""
    empty = Response(status_code=response.status_code, background=response.background)
    empty.raw_headers = response.raw_headers
    return empty


def _visit(door: Door, request: Request, caller: Caller) -> Visit:
    """Check every UID and path before anything is looked up with it."""
    parameters = request.path_params
    for name in _UIDS_IN_PATHS:
        uid = parameters.get(name)
        if uid is not None and not is_uid(uid):
            raise BadRequest(f"the {name} in the path is not a valid UID")
    path = parameters.get("path")
    if path is not None and not _BULK_PATH.fullmatch(path):
        raise BadRequest("the path of a bulk value is made of tags and item numbers")
    names = {name: parameters.get(name) for name in ("study", "series", "instance")}
    return Visit(door, request, caller, **names)


def is_uid(text: str) -> bool:
    """Whether the text is a UID by PS3.5 section 9.1."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


async def _authorise(visit: Visit, rule: Rule) -> None:
    caller, letter = visit.caller, rule.interaction
    if not caller.may(rule.resource, letter):
        if rule.other is None or not caller.may(rule.resource, rule.other):
            raise Forbidden(f"the token does not grant {rule.resource}.{letter}")
        letter = rule.other
    if visit.study is not None and not rule.asks:
        await visit.check_study(visit.study, letter)
    elif visit.study is not None and not caller.may_see_study(visit.study):
        raise Forbidden("the token is limited to other studies")
    elif not rule.asks and not caller.may_on_all(rule.resource, letter):
        raise Forbidden("a token that is limited to a patient or a filter is not for this")


async def _refuse(
    door: Door,
    request: Request,
    rule: Rule,
    caller: Caller | None,
    error: Exception,
) -> Response:
    response = problem_response(error)
    outcome = _outcome(response.status_code)
    known = isinstance(error, AccessError | ArchiveError | DicomwebError)
    # The text of anything else was not written for an audit trail: it may hold patient data.
    detail = f"{type(error).__name__}: {error}" if known else type(error).__name__
    if isinstance(error, Unauthorized | Forbidden):
        await _record(door, request, rule, caller, outcome, detail, denied=True)
        return response
    try:
        await _record(door, request, rule, caller, outcome, detail)
    except AccessError as unrecorded:
        return problem_response(unrecorded)
    return response


async def _record(
    door: Door,
    request: Request,
    rule: Rule,
    caller: Caller | None,
    outcome: Outcome,
    detail: str | None = None,
    *,
    denied: bool = False,
) -> None:
    event, action = _EVENTS[rule.interaction]
    if rule.resource != RESOURCE and event is AuditEventKind.STORE:
        event = AuditEventKind.UPDATE  # a work item is no stored object
    study = request.path_params.get("study")
    names = sorted(set(request.query_params.keys()))
    record = AuditRecord(
        action=action,  # type: ignore[arg-type]
        event=AuditEventKind.DENIED if denied else event,
        outcome=outcome,
        caller=caller,
        at=datetime.now(UTC),
        study=study if study is None else study[:64],
        patient=None if caller is None or not caller.patient else f"Patient/{caller.patient}",
        resource=request.url.path[:400],
        # Which attributes were asked for, not their values: those name patients.
        query="&".join(names)[:400] or None,
        detail=detail,
    )
    await in_thread(door.audit.record, record)


def _outcome(status: int) -> Outcome:
    if status < HTTPStatus.BAD_REQUEST:
        return "success"
    return "minor" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "serious"
