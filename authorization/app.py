"""The authorization server as an ASGI application, to be mounted at `/auth`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import psycopg
import structlog
from authlib.oauth2.rfc6749.errors import OAuth2Error
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from access.audit import AuditEventKind, AuditRecord, AuditSpool, AuditUnavailable
from access.browser import Cookie
from access.caller import Caller
from access.http import address_of
from access.sessions import Sessions
from access.tokens import TokenAuthority
from access.users import Users
from authorization import authorize
from authorization.approvals import Approval, Approvals
from authorization.client_assertions import Assertions
from authorization.clients import Clients
from authorization.config import AuthorizationConfig
from authorization.forms import BadForm, parameters, posted, texts
from authorization.grants import IssuingProtocol
from authorization.identity_keys import PUBLISHED_S, IdentityKeys
from authorization.issuing import Issuer
from authorization.key_fetch import KeySets
from authorization.pages.rendering import NEVER_STORED, go, stopped
from authorization.pages.situation import STEPS
from authorization.presented import Introspection, Revocation
from authorization.protocol import Answer, FormRequest
from authorization.requests import Requests
from authorization.table import Pool, make_pool

log = structlog.get_logger(__name__)

_THREADS = 8
_T = TypeVar("_T")
DENIED = AuditEventKind.DENIED


@dataclass(frozen=True)
class AuthorizationServer:
    """The endpoints, and what they work on."""

    config: AuthorizationConfig
    pool: Pool
    clients: Clients
    requests: Requests
    issuer: Issuer
    protocol: IssuingProtocol
    audit: AuditSpool
    # Of the threads that check secrets and signatures: a crowd here does not hold up other doors.
    turns: anyio.CapacityLimiter

    def routes(self) -> list[BaseRoute]:
        """The routes below `/auth`."""
        return [
            Route("/authorize", self.authorize, methods=["GET", "POST"]),
            Route("/token", self.token, methods=["POST"]),
            Route("/revoke", self.revoke, methods=["POST"]),
            Route("/introspect", self.introspect, methods=["POST"]),
            Route("/jwks", self.jwks, methods=["GET"]),
        ]

    async def authorize(self, request: Request) -> Response:
        """Judge an app's request; go on to the person, or back to the app, or nowhere."""
        try:
            return await self._authorized(request)
        except (psycopg.Error, AuditUnavailable) as error:
            log.error("authorization request not kept", error=type(error).__name__)
            return _stopped(503, "that cannot be done now; please try again in a moment")

    async def _authorized(self, request: Request) -> Response:
        try:
            encoded = await posted(request) if request.method == "POST" else _query(request)
            opened = await self._in_thread(
                lambda: authorize.judge(encoded, self.config, self.clients, self.requests)
            )
        except (authorize.Refused, BadForm) as error:
            self._record(request, None, DENIED, str(error))
            told = f"{error}. Nothing was sent to it; please tell whoever runs the app"
            return _stopped(400, told)
        except authorize.SentBack as error:
            self._record(request, _caller(None, error.client_id), DENIED, error.error)
            return go(error.location)
        response = go(f"{self.config.base_url}{STEPS}/{opened.request_id}")
        self.requests.bind(response, opened.request_id, opened.browser)
        return response

    async def token(self, request: Request) -> Response:
        """The token endpoint (RFC 6749 section 3.2)."""
        return await self._answer(request, self.protocol.create_token_response, "token")

    async def revoke(self, request: Request) -> Response:
        """The revocation endpoint (RFC 7009)."""
        return await self._answer(request, self._endpoint("revocation"), "revocation")

    async def introspect(self, request: Request) -> Response:
        """The introspection endpoint (RFC 7662)."""
        return await self._answer(request, self._endpoint("introspection"), "introspection")

    async def jwks(self, _: Request) -> Response:
        """The public keys of the id_tokens."""
        keys = await anyio.to_thread.run_sync(self.issuer.keys.public)
        anyone = {
            "Access-Control-Allow-Origin": "*",
            "Cache-Control": f"public, max-age={PUBLISHED_S}",
        }
        return JSONResponse(keys, headers=anyone)

    def _endpoint(self, name: str) -> Callable[[FormRequest], Answer]:
        return lambda form: self.protocol.create_endpoint_response(name, form)

    async def _answer(
        self, request: Request, endpoint: Callable[[FormRequest], Answer], what: str
    ) -> Response:
        """Read the form, let Authlib answer it off the event loop, write down what happened."""
        try:
            fields = texts(parameters(await posted(request)))
            form = FormRequest(
                self.config.token_url, fields, _headers(request), address_of(request)
            )
            answer: Answer = await self._in_thread(lambda: endpoint(form))
            self._record_answer(request, form, answer, what)
        except BadForm as error:
            return _json(400, {"error": "invalid_request", "error_description": str(error)})
        except OAuth2Error as error:  # our own address is not one that tokens may travel to
            return _json(error.status_code, dict(error.get_body()))
        except (psycopg.Error, AuditUnavailable) as error:
            log.error("no answer", endpoint=what, error=type(error).__name__)
            away = {"error": "temporarily_unavailable", "error_description": "try again later"}
            return _json(503, away, {"Retry-After": "5"})
        return _json(answer.status, answer.body, dict(answer.headers))

    def _record_answer(
        self, request: Request, form: FormRequest, answer: Answer, what: str
    ) -> None:
        """Write down what a client was given or refused."""
        client = form.client.get_client_id() if form.client is not None else None
        caller = _caller(form.approval, client)
        error = answer.body.get("error")
        if error is not None:
            self._record(request, caller, DENIED, f"{what}: {error}")
        elif what == "token":
            grant = form.form["grant_type"]
            # The token itself stays out of the trail; its id and what it grants do not.
            holder = self.issuer.authority.verify(str(answer.body["access_token"]))
            self._record(request, holder, AuditEventKind.TOKEN, f"token by {grant}")
        elif what == "revocation":
            self._record(request, caller, AuditEventKind.REVOKE, "revocation")

    def _record(
        self, request: Request, caller: Caller | None, event: AuditEventKind, detail: str
    ) -> None:
        who = caller or _caller(None, None)
        self.audit.record(
            AuditRecord(
                action="E",
                event=event,
                outcome="minor" if event is DENIED else "success",
                caller=replace(who, address=address_of(request)),
                at=datetime.now(UTC),
                patient=f"Patient/{who.patient}" if who.patient else None,
                detail=detail,
            )
        )

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        return await anyio.to_thread.run_sync(call, limiter=self.turns)


def create_server(
    config: AuthorizationConfig,
    authority: TokenAuthority,
    users: Users,
    sessions: Sessions,
    cookie: Cookie,
    audit: AuditSpool,
    beginning: Callable[[str], object] | None = None,
) -> AuthorizationServer:
    """The server on its tables; nothing listens yet, and its `pool` is to be closed in the end.

    `beginning`: see `Clients`.
    """
    pool = make_pool(config.dsn, _THREADS)
    clients = Clients(pool, beginning)
    keys = IdentityKeys(config.keys, config.key_s)
    issuer = Issuer(config, authority, Approvals(pool), users, sessions, keys)
    assertions = Assertions(pool, config.token_url, KeySets(config.key_hosts))
    protocol = IssuingProtocol(issuer, clients, assertions)
    protocol.register_endpoint(Revocation)
    protocol.register_endpoint(Introspection)
    requests = Requests(pool, cookie)
    turns = anyio.CapacityLimiter(_THREADS)
    return AuthorizationServer(config, pool, clients, requests, issuer, protocol, audit, turns)


def create_app(server: AuthorizationServer, more: Iterable[BaseRoute] = ()) -> Starlette:
    """The application, to be mounted at `/auth`.

    Args:
        server: what `create_server` made.
        more: routes of the pages on which people sign in and consent.
    """
    return Starlette(routes=[*server.routes(), *more])


def _caller(approval: Approval | None, client_id: str | None) -> Caller:
    """Who stands behind a request, for the audit trail."""
    if approval is None:
        return Caller(client_id or "unknown client", "system", client=client_id)
    return Caller(
        approval.username,
        "user",
        client=client_id,
        patient=approval.context.patient,
        encounter=approval.context.encounter,
        fhir_user=approval.fhir_user,
        session=approval.sid,
    )


def _headers(request: Request) -> dict[str, str]:
    """Headers by name as Authlib looks for them."""
    return {name.title(): value for name, value in request.headers.items()}


def _query(request: Request) -> bytes:
    return bytes(request.scope.get("query_string", b""))


def _json(status: int, body: Any, headers: dict[str, str] | None = None) -> Response:
    kept = {n: v for n, v in (headers or {}).items() if n.lower() != "content-type"}
    return JSONResponse(dict(body), status_code=status, headers={**kept, **NEVER_STORED})


def _stopped(status: int, text: str) -> Response:
    return stopped(status, "This app cannot be opened", text)
