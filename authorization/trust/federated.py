"""`/login/federated`: signing in at another provider, and signing out there again."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import anyio.to_thread
import psycopg
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from access.audit import AuditEventKind, AuditRecord, AuditSpool, AuditUnavailable
from access.browser import Cookie, local
from access.caller import Caller
from access.errors import AccessError
from access.http import address_of
from access.sessions import Elsewhere, Sessions
from access.users import User, UserError, Users
from authorization.errors import RequestGone
from authorization.pages.rendering import go, onward, page
from authorization.pages.situation import STEPS
from authorization.requests import Requests
from authorization.trust.provider import (
    Identity,
    Provider,
    ProviderAway,
    ProviderError,
    user_of,
)

log = structlog.get_logger(__name__)

START, BACK, OUT = "/login/federated", "/login/federated/back", "/login/federated/out"
_OPEN_S = 10 * 60
_LONGEST_TARGET = 2_000
_AWAY = "the database is away; please try again in a moment"


@dataclass(frozen=True)
class Federated:
    """The routes, and what they work on."""

    provider: Provider
    users: Users
    sessions: Sessions
    requests: Requests
    cookie: Cookie
    audit: AuditSpool

    def routes(self) -> list[BaseRoute]:
        """The routes, at the root of the site."""
        return [
            Route(START, self.start, methods=["GET"]),
            Route(BACK, self.back, methods=["GET"]),
            Route(OUT, self.signed_out, methods=["GET"]),
        ]

    async def start(self, request: Request) -> Response:
        """Send the browser to the provider; it keeps what the answer is held against."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
        target = local(request.query_params.get("next", "/"))
        if len(target) > _LONGEST_TARGET:
            target = "/"
        try:
            again, max_age = await self._wanted(request, target)
            url = await self.provider.authorize_url(
                state, nonce, challenge.decode().rstrip("="), again, max_age
            )
        except ProviderError as error:
            return _stopped(503, str(error))
        except psycopg.Error as error:
            log.error("nobody signed in", error=type(error).__name__)
            return _stopped(503, _AWAY)
        kept = ".".join((state, nonce, verifier, _packed(target)))
        return self._keeping(go(url), kept)

    async def _wanted(self, request: Request, target: str) -> tuple[bool, int | None]:
        """What the app that the sign-in is for asks of it: a new one, and how old it may be."""
        if not target.startswith(f"{STEPS}/"):
            return "again" in request.query_params, None
        request_id = target.removeprefix(f"{STEPS}/")
        try:
            asked = await anyio.to_thread.run_sync(self.requests.find, request_id, request)
        except RequestGone:
            return False, None
        # With a max_age the provider has to say when the person signed in.
        return asked.wants_login, 0 if asked.wants_login else asked.max_age

    async def farewell(self, id_token: str) -> Response | None:
        """The page that leads to the provider to sign out there, too; None: none does.

        Args:
            id_token: of the session, which has ended here.
        """
        state = secrets.token_urlsafe(32)
        try:
            url = await self.provider.sign_out_url(id_token, state)
        except ProviderError as error:
            log.warning("not signed out at the provider", why=str(error))
            return None
        if url is None:
            return None
        return self._keeping(onward(url, self.provider.config.label), state)

    async def signed_out(self, request: Request) -> Response:
        """Say that it is done, if the browser comes with what it was sent to the provider with."""
        kept, state = request.cookies.get(self._name, ""), request.query_params.get("state", "")
        if not kept or not hmac.compare_digest(kept.encode(), state.encode()):
            return go("/login")
        text = f"You are signed out here and with {self.provider.config.label}."
        response = page("stopped.html", title="You are signed out", text=text)
        response.delete_cookie(self._name, path="/", secure=self.cookie.secure)
        return response

    def _keeping(self, response: Response, kept: str) -> Response:
        """Let the browser keep what it has to come back with."""
        # Lax: the way back comes from another site.
        response.set_cookie(
            self._name,
            kept,
            path="/",
            httponly=True,
            samesite="lax",
            secure=self.cookie.secure,
            max_age=_OPEN_S,
        )
        return response

    async def back(self, request: Request) -> Response:
        """Check the answer, begin a session, go where the user wanted to."""
        try:
            return await self._judged(request)
        except AuditUnavailable:
            log.error("nobody signed in", error="the audit trail cannot be written")
            return _stopped(503, "that cannot be done now; please try again in a moment")

    async def _judged(self, request: Request) -> Response:
        kept = request.cookies.get(self._name, "").split(".")
        given = request.query_params
        if len(kept) != 4 or not hmac.compare_digest(
            kept[0].encode(), given.get("state", "").encode()
        ):
            return await self._refused(request, 400, "this sign-in is not one of this browser")
        if given.get("iss", self.provider.config.issuer) != self.provider.config.issuer:
            return await self._refused(request, 400, "another provider answered")
        if "error" in given or "code" not in given:
            return await self._refused(request, 403, "the provider did not sign you in")
        try:
            identity = await self.provider.identity(given["code"], kept[2], kept[1])
            before = self.cookie.read(request)
            user, token = await anyio.to_thread.run_sync(lambda: self._enter(identity, before))
        except ProviderAway as error:
            return await self._refused(request, 503, str(error))
        except (ProviderError, AccessError) as error:
            return await self._refused(request, 403, str(error))
        except psycopg.Error as error:
            log.error("nobody signed in", error=type(error).__name__)
            return _stopped(503, _AWAY)
        self._record(user.caller(client="browser", address=address_of(request)), "success", "")
        response = go(local(_unpacked(kept[3])))
        self.cookie.give(response, token)
        response.delete_cookie(self._name, path="/", secure=self.cookie.secure)
        return response

    def _enter(self, identity: Identity, before: str | None) -> tuple[User, str]:
        """The user, and the token of their session. Raises ProviderError, UserError."""
        origin = f"{self.provider.config.issuer} {identity.claims['sub']}"
        try:
            user = user_of(self.provider.config, identity.claims)
            known = self.users.sign_in_from(origin, user)
        except (ProviderError, UserError):
            # Whom the provider lets in no more keeps nothing that was given before.
            self.users.shut_out(origin)
            raise
        elsewhere = Elsewhere(identity.id_token, identity.signed_in_at)
        return known, self.sessions.open(known, before, elsewhere)

    async def _refused(self, request: Request, status: int, why: str) -> Response:
        caller = Caller("unknown user", "user", client="browser", address=address_of(request))
        self._record(caller, "minor", why)
        response = _stopped(status, why)
        response.delete_cookie(self._name, path="/", secure=self.cookie.secure)
        return response

    def _record(self, caller: Caller, outcome: Literal["success", "minor"], why: str) -> None:
        detail = f"signed in at another provider{f': {why}' if why else ''}"
        self.audit.record(
            AuditRecord(
                action="E",
                event=AuditEventKind.LOGIN,
                outcome=outcome,
                caller=caller,
                at=datetime.now(UTC),
                detail=detail,
            )
        )

    @property
    def _name(self) -> str:
        return f"{self.cookie.name}-federated"


def _packed(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _unpacked(text: str) -> str:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except ValueError:
        return "/"


def _stopped(status: int, text: str) -> Response:
    sentence = f"{text[:1].upper()}{text[1:]}."
    return page("stopped.html", status, title="You are not signed in", text=sentence)
