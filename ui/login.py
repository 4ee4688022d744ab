"""Signing in and out, by a form that works without scripts."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import parse_qs, quote

import anyio
import anyio.to_thread
import psycopg
import structlog
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from access.audit import AuditEventKind, AuditRecord, AuditSpool, AuditUnavailable
from access.browser import Cookie, local, session_of
from access.caller import Caller
from access.http import address_of
from access.sessions import Session, Sessions
from access.users import LoginRefused, TooManyAttempts, User, UserError, Users, normal
from ui.pages import FORM_HEADERS, render

log = structlog.get_logger(__name__)

LOGIN, LOGOUT = "/login", "/logout"
_FORM_BYTES = 16 * 1024
_NONCE = "-form"
_STALE = "This form was open for too long, or was not ours. Please try again."
_AWAY = "That cannot be done now. Please try again in a moment."


def login_url(request: Request) -> str:
    """Where to sign in, and come back to this page."""
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return f"{LOGIN}?next={quote(here, safe='')}"


@dataclass(frozen=True)
class Login:
    """The forms, and what they work on."""

    users: Users
    sessions: Sessions
    cookie: Cookie
    audit: AuditSpool
    # Of the threads that check passwords: a crowd here must not hold up the other doors.
    turns: anyio.CapacityLimiter
    # What the link to the other identity provider says; None: there is none.
    elsewhere: str | None = None
    # From the id_token of a session that has ended to the page that signs out there, too.
    farewell: Callable[[str], Awaitable[Response | None]] | None = None

    def routes(self) -> list[BaseRoute]:
        """The routes, at the root of the site."""
        return [
            Route(LOGIN, self.show, methods=["GET"]),
            Route(LOGIN, self.sign_in, methods=["POST"]),
            Route(LOGOUT, self.ask, methods=["GET"]),
            Route(LOGOUT, self.sign_out, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """The form; who is signed in already goes on, unless another account is wanted."""
        target = local(request.query_params.get("next", "/"))
        again = "again" in request.query_params
        if session_of(request) is not None and not again:
            return _go(target)
        return await self._form(target, "", again=again)

    async def sign_in(self, request: Request) -> Response:
        """Check name and password, begin a session, go where the user wanted to."""
        form = await _fields(request)
        target, again = local(form.get("next", "/")), "again" in form
        nonce = request.cookies.get(self.cookie.name + _NONCE, "")
        ours = nonce and secrets.compare_digest(nonce.encode(), form.get("form", "").encode())
        if not ours or not self.cookie.is_same_origin(request):
            return await self._form(target, _STALE, 403, again)
        name = normal(form.get("username", ""))
        before = self.cookie.read(request)

        def enter() -> str:
            try:
                user = self.users.authenticate(name, form.get("password", ""))
            except (LoginRefused, TooManyAttempts) as error:
                self._record_failure(request, name, error)
                raise
            token = self.sessions.open(user, before)
            self._record(_caller(request, name), "success", "signed in")
            return token

        try:
            token = await anyio.to_thread.run_sync(enter, limiter=self.turns)
        except (LoginRefused, TooManyAttempts) as error:
            status = 429 if isinstance(error, TooManyAttempts) else 401
            return await self._form(target, f"{str(error).capitalize()}.", status, again)
        except (psycopg.Error, AuditUnavailable) as error:
            log.error("nobody signed in", error=type(error).__name__)
            return await self._form(target, _AWAY, 503, again)
        response = _go(target)
        self.cookie.give(response, token)
        response.delete_cookie(self.cookie.name + _NONCE, path="/", secure=self.cookie.secure)
        return response

    async def ask(self, request: Request) -> Response:
        """A button to sign out with: a link alone must not do it."""
        session = session_of(request)
        if session is None:
            return _go("/")
        return _logout(session)

    async def sign_out(self, request: Request) -> Response:
        """End the session; then that at the other identity provider, if it offers so."""
        session, token = session_of(request), self.cookie.read(request)
        if session is None or token is None:
            return _go(LOGIN)
        form = await _fields(request)
        if not session.owns(form.get("csrf", "")) or not self.cookie.is_same_origin(request):
            return _logout(session, _STALE, 403)
        caller = _caller(request, session.user.username)

        def leave() -> str | None:
            id_token = self.sessions.close(token)
            self._record(caller, "success", "signed out", AuditEventKind.LOGOUT)
            return id_token

        try:
            id_token = await anyio.to_thread.run_sync(leave)
        except (psycopg.Error, AuditUnavailable) as error:
            log.error("sign-out not finished", error=type(error).__name__)
            return _logout(session, _AWAY, 503)
        response = _go(LOGIN)
        if id_token is not None and self.farewell is not None:
            response = await self.farewell(id_token) or response
        self.cookie.take(response)
        # The viewer keeps filters of its study list, which may hold names.
        response.headers["Clear-Site-Data"] = '"storage"'
        return response

    async def _form(
        self, target: str, problem: str, status: int = 200, again: bool = False
    ) -> Response:
        nonce = secrets.token_urlsafe(32)
        page = render(
            "login.html",
            target=target,
            problem=problem,
            nonce=nonce,
            again=again,
            elsewhere=self.elsewhere,
            empty=await anyio.to_thread.run_sync(self._is_empty),
        )
        response = HTMLResponse(page, status_code=status, headers=FORM_HEADERS)
        response.set_cookie(
            self.cookie.name + _NONCE,
            nonce,
            path="/",
            httponly=True,
            samesite="strict",
            secure=self.cookie.secure,
        )
        return response

    def _is_empty(self) -> bool:
        try:
            return self.users.is_empty()
        except psycopg.Error as error:
            log.error("users not read", error=type(error).__name__)
            return False

    def _record_failure(self, request: Request, name: str, error: Exception) -> None:
        # What is no username may be a password in the wrong field: it is not written down.
        try:
            who = self.users.find(name).username
        except UserError:
            who = "unknown user"
        self._record(_caller(request, who), "minor", str(error))

    def _record(
        self,
        caller: Caller,
        outcome: Literal["success", "minor"],
        detail: str,
        event: AuditEventKind = AuditEventKind.LOGIN,
    ) -> None:
        self.audit.record(
            AuditRecord(
                action="E",
                event=event,
                outcome=outcome,
                caller=caller,
                at=datetime.now(UTC),
                detail=detail,
            )
        )


def make(
    users: Users,
    sessions: Sessions,
    cookie: Cookie,
    audit: AuditSpool,
    elsewhere: str | None = None,
) -> Login:
    """The forms of a site; `elsewhere` names the other identity provider, if there is one."""
    return Login(users, sessions, cookie, audit, anyio.CapacityLimiter(4), elsewhere)


def signed_in(request: Request) -> User | None:
    """Who is signed in, for pages that show it."""
    session = session_of(request)
    return session.user if session else None


def _caller(request: Request, name: str) -> Caller:
    return Caller(name, "user", client="browser", address=address_of(request))


def _logout(session: Session, problem: str = "", status: int = 200) -> Response:
    page = render("logout.html", user=session.user, csrf=session.csrf, problem=problem)
    return HTMLResponse(page, status_code=status, headers=FORM_HEADERS)


def _go(target: str) -> Response:
    return RedirectResponse(target, status_code=303, headers={"Cache-Control": "no-store"})


async def _fields(request: Request) -> dict[str, str]:
    """The fields of a form, none of which comes twice; empty when it is no such form."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _FORM_BYTES:
            return {}
    try:
        found = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=20)
    except (UnicodeDecodeError, ValueError):
        return {}
    return {name: values[0] for name, values in found.items() if len(values) == 1}
