"""`/fhir`: each request is judged, passed to the FHIR store, looked at and audited."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import aiohttp
import orjson
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from access import (
    AuditEventKind,
    AuditSpool,
    Caller,
    Forbidden,
    Unauthorized,
    Undecided,
)
from access.audit import AuditUnavailable
from access.http import Verifier, caller_of
from access.rights import rights_of
from fhir_gateway import docref
from fhir_gateway.audit.door import DoorTrail
from fhir_gateway.audit.subjects import located, patients_in, resource_in
from fhir_gateway.bundles import COUNTED, PageLinks, check_types, judge_bundle, merge_batch
from fhir_gateway.config import MIB, GatewayConfig
from fhir_gateway.grammar import Interaction, Judge
from fhir_gateway.model import ModelSource
from fhir_gateway.outcome import FHIR_JSON_UTF8, Refusal, fhir_response
from fhir_gateway.quiet import keep_quiet, quiet_entries
from fhir_gateway.searching import encode_query
from fhir_gateway.upstream import Upstream, json_headers, store_away, stream
from records import RecordsError
from records.transport import RETRY_CONFLICT

FORM = "application/x-www-form-urlencoded"
FORM_UTF8 = f"{FORM}; charset=UTF-8"  # without the charset HAPI finds no non-ASCII value
MAX_FORM_BYTES = MIB
JSON_TYPES = frozenset({"application/fhir+json", "application/json", "application/json-patch+json"})
OVERRIDES = ("x-http-method-override", "x-http-method", "x-method-override")
READABLE_BUNDLE_BYTES = 64 * MIB
# A word of a stored resource becomes a header: a line's end in it would begin another header.
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(; ?[\w-]+=[\w.+-]+)*\Z", re.ASCII)

log = structlog.get_logger(__name__)


class Facade:
    """The FHIR door's request handling."""

    def __init__(
        self,
        config: GatewayConfig,
        verifier: Verifier,
        audit: AuditSpool,
        models: ModelSource,
        upstream: Upstream,
    ) -> None:
        self._config = config
        self._verifier = verifier
        self._trail = DoorTrail(audit)
        self._models = models
        self._upstream = upstream
        self._pages = PageLinks(config.hook_secret.encode(), config.fhir_base)

    async def handle(self, request: Request) -> Response:
        """Answer any request below the base that has no handler of its own."""
        return await self.guarded(request, lambda caller: self._answer(request, caller))

    async def guarded(
        self, request: Request, answer: Callable[[Caller], Awaitable[Response]]
    ) -> Response:
        """Answer an authenticated request; every refusal becomes an OperationOutcome."""
        caller = None
        try:
            caller = await self.authenticate(request)
            return await answer(caller)
        except Refusal as refusal:
            if refusal.status in (401, 403):
                await self.record_denial(request, caller, str(refusal))
            return refusal.response
        except RecordsError as error:
            log.warning("facade.store_away", error=str(error))
            return store_away().response
        except AuditUnavailable:
            log.error("facade.audit_unavailable")
            return Refusal(503, "the audit trail cannot be written").response

    async def authenticate(self, request: Request) -> Caller:
        """The caller, who must have a token without a limit to studies.

        Raises:
            Refusal: 401 or 403.
        """
        try:
            caller = await caller_of(request, self._verifier)
        except Unauthorized as error:
            headers = {"WWW-Authenticate": error.challenge}
            raise Refusal(401, str(error), headers=headers) from error
        except Forbidden as error:
            raise Refusal(403, str(error)) from error
        except Undecided as error:
            raise Refusal(503, str(error), headers={"Retry-After": "5"}) from error
        if caller.studies is not None:
            raise Refusal(403, "a token limited to studies is good for DICOMweb only")
        return caller

    async def _answer(self, request: Request, caller: Caller) -> Response:
        path, query = _path(request), request.url.query
        if any(name in request.headers for name in OVERRIDES):
            raise Refusal(400, "a request is what its method says")
        judge = Judge(caller, await self._models.model())
        if path == "" and request.method == "POST":
            return await self._bundle(request, caller, judge)
        if path == "" and "_getpages=" in query:
            return await self._page(request, caller, query)
        if path == "":
            raise Refusal(403, "the whole system is neither searched nor listed here")
        if path == docref.PATH and request.method in ("GET", "POST"):
            return await self._docref(request, caller, judge)
        form = None
        if request.method == "POST" and path.endswith("/_search") and _media_type(request) == FORM:
            form = await self._body(request, MAX_FORM_BYTES)
        interaction = judge.judge(
            request.method,
            path,
            query,
            form=form,
            if_none_exist=request.headers.get("if-none-exist"),
        )
        if interaction.resource_type == "Binary" and interaction.event is AuditEventKind.FHIR_READ:
            return await self._binary(request, caller, interaction)
        if interaction.bundle:
            return await self._searchset(request, caller, interaction)
        return await self._pass(request, caller, judge, interaction)

    async def _pass(
        self, request: Request, caller: Caller, judge: Judge, interaction: Interaction
    ) -> Response:
        """A read or a write of one resource, streamed both ways."""
        headers = json_headers(request.headers)
        body = None
        if request.method in ("POST", "PUT", "PATCH"):
            kind = _media_type(request)
            if kind not in JSON_TYPES and interaction.resource_type != "Binary":
                raise Refusal(415, "this server takes application/fhir+json")
            body = self._limited(request, self._config.max_body_bytes)
        if "if-none-exist" in headers:
            condition = headers["if-none-exist"]
            headers["if-none-exist"] = judge.condition(interaction.resource_type, condition)
        async with self._trail.even_unanswered(caller, interaction), AsyncExitStack() as opening:
            answer = await opening.enter_async_context(
                self._upstream.send(
                    interaction.method,
                    interaction.path,
                    interaction.query,
                    rights=rights_of(caller),
                    headers=headers,
                    body=body,
                    extra={} if "if-match" in headers else RETRY_CONFLICT,
                )
            )
            status = _mended_status(answer.status, "if-match" in headers)
            begun = await self._upstream.beginning(answer)
            found = resource_in(begun) or located(answer.headers.get("location"))
            await self._trail.record(caller, interaction, status, found)
            keep_quiet(caller, interaction.resource_type, status)
            stack = opening.pop_all()
        sent = self._upstream.public_headers(answer)
        if request.method == "HEAD" or answer.content.at_eof():
            await stack.aclose()
            return Response(b"" if request.method == "HEAD" else begun, status, headers=sent)
        return StreamingResponse(stream(answer, stack, begun), status, headers=sent)

    async def _searchset(
        self, request: Request, caller: Caller, interaction: Interaction
    ) -> Response:
        """A search, a history or $everything: the Bundle is read and looked at."""
        headers = json_headers(request.headers)
        method, body = interaction.method, None
        if interaction.form:
            # Everything goes into the body, so that no value reaches the store's access log.
            headers["content-type"] = FORM_UTF8
            body = interaction.query.replace("%20", "+").encode()
        else:
            headers.pop("content-type", None)
        query = "" if interaction.form else interaction.query
        rights = replace(rights_of(caller), counts=interaction.counts)
        async with self._upstream.send(
            method, interaction.path, query, rights=rights, headers=headers, body=body
        ) as answer:
            content = await self._upstream.read_all(answer, READABLE_BUNDLE_BYTES)
            bundle = resource_in(content) if answer.status == 200 else None
            seen = patients_in(bundle or {})
            await self._trail.record(caller, interaction, answer.status, patients=seen)
            searched = interaction.resource_type + (COUNTED if interaction.counts else "")
            return self._looked_at(answer, content, caller, searched)

    async def _docref(self, request: Request, caller: Caller, judge: Judge) -> Response:
        """US Core's $docref: a search for a patient's documents."""
        body = None
        if request.method == "POST":
            if _media_type(request) not in JSON_TYPES:
                raise Refusal(415, "this server takes application/fhir+json")
            body = await self._body(request, docref.MAX_BYTES)
        judge.need("DocumentReference", "s")
        search = docref.search_of(request.url.query, body)
        if search is None:  # we make no documents on demand
            return fhir_response({"resourceType": "Bundle", "type": "searchset", "total": 0})
        interaction = judge.judge("GET", "DocumentReference", encode_query(search))
        return await self._searchset(request, caller, interaction)

    async def _page(self, request: Request, caller: Caller, query: str) -> Response:
        """A further page of a search that this caller made."""
        if request.method not in ("GET", "HEAD"):
            raise Refusal(405, "pages are read")
        inner, searched = self._pages.opened(query, caller)
        rights = replace(rights_of(caller), counts=searched.endswith(COUNTED))
        async with self._upstream.send(
            "GET", "", inner, rights=rights, headers=json_headers(request.headers)
        ) as answer:
            content = await self._upstream.read_all(answer, READABLE_BUNDLE_BYTES)
            bundle = resource_in(content) if answer.status == 200 else None
            await self._trail.write(
                caller,
                "E",
                AuditEventKind.FHIR_SEARCH,
                answer.status,
                query=f"{searched.rstrip(COUNTED)}? (page)",
                patients=patients_in(bundle or {}),
            )
            return self._looked_at(answer, content, caller, searched)

    def _looked_at(
        self, answer: aiohttp.ClientResponse, content: bytes, caller: Caller, searched: str
    ) -> Response:
        headers = self._upstream.public_headers(answer)
        content = self._upstream.public_body(content)
        keep_quiet(caller, searched.rstrip(COUNTED), answer.status)
        if answer.status == 200:
            bundle = orjson.loads(content)
            check_types(bundle, rights_of(caller), frozenset({searched.rstrip(COUNTED)}))
            content = orjson.dumps(self._pages.signed(bundle, caller, searched))
        return Response(content, answer.status, headers=headers)

    async def _bundle(self, request: Request, caller: Caller, judge: Judge) -> Response:
        """A batch or a transaction."""
        if _media_type(request) not in JSON_TYPES:
            raise Refusal(415, "this server takes application/fhir+json")
        judged = judge_bundle(await self._body(request, self._config.max_body_bytes), judge)
        allowed = [interaction for _, interaction in judged.allowed]
        versioned = any("ifMatch" in e["request"] for e in judged.resource["entry"])
        for refusal in judged.refused.values():
            await self.record_denial(request, caller, str(refusal))
        async with (
            self._trail.even_unanswered(caller, *allowed),
            self._upstream.send(
                "POST",
                "",
                "",
                rights=rights_of(caller),
                headers=json_headers(request.headers),
                body=orjson.dumps(judged.resource),
            ) as answer,
        ):
            content = await self._upstream.read_all(answer, READABLE_BUNDLE_BYTES)
        status = _mended_status(answer.status, versioned)
        if status != 200:
            for interaction in allowed:
                await self.record(caller, interaction, status)
            for interaction in allowed:
                keep_quiet(caller, interaction.resource_type, status)
            return Response(content, status, headers=self._upstream.public_headers(answer))
        answered = orjson.loads(self._upstream.public_body(content))
        entries = zip(allowed, judged.resource["entry"], answered.get("entry", []), strict=True)
        for interaction, sent, entry in entries:
            await self._trail.record_entry(caller, interaction, sent, entry)
        merged = merge_batch(judged, quiet_entries(caller, answered))
        check_types(merged, rights_of(caller), frozenset(one.resource_type for one in allowed))
        return fhir_response(merged)

    async def _binary(self, request: Request, caller: Caller, interaction: Interaction) -> Response:
        """Read a Binary if the caller may read the type that its securityContext names.

        One without a context, such as an export file of the store, is for none but a caller
        who may read everything.
        """
        async with self._upstream.send(
            "GET", interaction.path, "", rights=rights_of(caller), headers=json_headers({})
        ) as answer:
            content = await self._upstream.read_all(answer, 2 * self._config.max_body_bytes)
            if answer.status != 200:
                await self.record(caller, interaction, answer.status)
                keep_quiet(caller, "Binary", answer.status)
                return Response(
                    content, answer.status, headers=self._upstream.public_headers(answer)
                )
            binary = orjson.loads(content)
            context = str(binary.get("securityContext", {}).get("reference", ""))
            kind = context.split("/", 1)[0] if context else "*"
            if not caller.may(kind, "r"):
                raise Refusal(403, "the security context of this Binary is not granted")
            await self.record(caller, interaction, 200)
            headers = self._upstream.public_headers(answer)
        accept = request.headers.get("accept", "*/*")
        if "fhir+json" in accept:
            return Response(content, headers={**headers, "content-type": FHIR_JSON_UTF8})
        headers |= {"x-content-type-options": "nosniff", "content-disposition": "attachment"}
        headers["content-type"] = media_type_of(binary)
        return Response(b64decode(binary.get("data", "")), headers=headers)

    async def _body(self, request: Request, limit: int) -> bytes:
        return b"".join([part async for part in self._limited(request, limit)])

    async def _limited(self, request: Request, limit: int) -> AsyncIterator[bytes]:
        """The request's body in pieces, refused once it passes the limit."""
        declared = request.headers.get("content-length", "0")
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Refusal(415, "send the body without compression")
        if not declared.isdigit() or int(declared) > limit:
            raise Refusal(413, f"the body is larger than {limit} bytes")
        size = 0
        try:
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise Refusal(413, f"the body is larger than {limit} bytes")
                if part:
                    yield part
        except ClientDisconnect as error:
            raise Refusal(400, "the client left before its body was complete") from error

    async def record(
        self,
        caller: Caller,
        interaction: Interaction,
        status: int,
        patients: tuple[str, ...] = (),
    ) -> None:
        """One audit record for one interaction."""
        await self._trail.record(caller, interaction, status, patients=patients)

    async def record_export(self, caller: Caller, what: str, job: str) -> None:
        """One audit record for an export, on disk before the export goes on."""
        await self._trail.record_export(caller, what, job)

    async def record_denial(self, request: Request, caller: Caller | None, why: str) -> None:
        """One audit record for a refusal."""
        await self._trail.record_denial(request, caller, why)


def _path(request: Request) -> str:
    """The path below the mount point, without the leading slash."""
    return str(request.path_params.get("path", "")).strip("/")


def media_type_of(binary: Mapping[str, Any]) -> str:
    """What a Binary says that it is, where that is a media type."""
    told = str(binary.get("contentType", ""))
    return told if _MEDIA_TYPE.match(told) else "application/octet-stream"


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").split(";", 1)[0].strip().lower()


def _mended_status(status: int, versioned: bool) -> int:
    """HAPI answers a stale If-Match with 409; FHIR says 412."""
    return 412 if status == 409 and versioned else status
