"""What apps ask for, while a person signs in and answers; and how the answer goes back."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from starlette.requests import HTTPConnection
from starlette.responses import Response

from access.browser import Cookie
from access.users import User
from authorization.context import LaunchContext
from authorization.errors import NotGrantable, RequestGone
from authorization.forgetting import Forgetting
from authorization.narrowing import covers, narrowed_to_user
from authorization.table import Pool, Table

OPEN_S = 10 * 60
CODE_S = 60
_RANDOM_BYTES = 32
_COLUMNS = (
    b"request_id, client_id, redirect_uri, scope, state, nonce, launch, prompt, max_age,"
    b" code_challenge, browser_sha256, created_at, expires_at"
)


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """One open question of an app, which passed every check that needs no person.

    Attributes:
        scope: what was asked for and the client may have; space-separated.
        state: to be given back byte by byte.
        nonce: to be put into the id_token.
        launch: the `launch` parameter as it came, not judged yet.
        prompt: the `prompt` parameter of OpenID Connect, as it came.
        max_age: seconds before the request in which the user may have signed in; None: any.
        browser_sha256: of the secret that the asking browser holds.
    """

    request_id: str
    client_id: str
    redirect_uri: str
    scope: str
    state: bytes | None
    nonce: str | None
    launch: str | None
    prompt: str | None
    max_age: int | None
    code_challenge: str
    browser_sha256: bytes
    created_at: datetime
    expires_at: datetime

    @property
    def wants_login(self) -> bool:
        """Whether the user is to sign in, though they may be signed in."""
        return "login" in (self.prompt or "").split()

    @property
    def since(self) -> datetime | None:
        """The earliest sign-in that the app takes (OpenID Connect Core 3.1.2.1); None: any."""
        if self.wants_login:
            return self.created_at
        if self.max_age is None:
            return None
        return self.created_at - timedelta(seconds=self.max_age)


class Requests(Table):
    """The table of requests. Blocking: call it from a thread."""

    def __init__(self, database: str | Pool, cookie: Cookie) -> None:
        super().__init__(database)
        self._cookie = cookie
        self._forgetting = Forgetting()

    def open(
        self,
        *,
        client_id: str,
        redirect_uri: str,
        scope: str,
        code_challenge: str,
        state: bytes | None = None,
        nonce: str | None = None,
        launch: str | None = None,
        prompt: str | None = None,
        max_age: int | None = None,
    ) -> tuple[str, str]:
        """Keep a request that passed the checks; its id, and the secret for the browser."""
        request_id, browser = secrets.token_urlsafe(16), secrets.token_urlsafe(_RANDOM_BYTES)
        with self._open() as connection:
            self._forgetting.now_and_then(connection)
            connection.execute(
                b"insert into authorization_server.request (request_id, client_id, redirect_uri,"
                b" scope, state, nonce, launch, prompt, max_age, code_challenge, browser_sha256,"
                b" expires_at) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, now() + %s)",
                [
                    request_id,
                    client_id,
                    redirect_uri,
                    scope,
                    state,
                    nonce,
                    launch,
                    prompt,
                    max_age,
                    code_challenge,
                    digest(browser),
                    timedelta(seconds=OPEN_S),
                ],
            )
        return request_id, browser

    def find(self, request_id: str, connection: HTTPConnection) -> AuthorizationRequest:
        """The open request of this id, for the browser that brought it.

        Raises RequestGone: unknown, answered, too old, or another browser's.
        """
        found = self._find(request_id)
        browser = connection.cookies.get(self._cookie_name(request_id), "")
        if not hmac.compare_digest(found.browser_sha256, digest(browser)):
            raise RequestGone
        return found

    def approve(
        self,
        request_id: str,
        user: User,
        scope: str,
        context: LaunchContext,
        *,
        session: str | None = None,
        signed_in: datetime | None = None,
    ) -> str:
        """The person agreed; the URL that takes the browser back, with a code.

        Args:
            request_id: of a request that `find` gave for this browser.
            user: who is signed in and agreed.
            scope: what they agreed to, a part of what was asked for.
            context: what was chosen or launched.
            session: token of their browser session; online access ends with it.
            signed_in: when they proved who they are; None: nobody knows.

        Raises:
            RequestGone: answered already, or too old.
            NotGrantable: more than was asked or the user may, or a scope without its context.
        """
        request = self._find(request_id)
        _check(request, user, scope, context)
        code = secrets.token_urlsafe(_RANDOM_BYTES)
        with self._open() as connection:
            _close(connection, request_id)
            connection.execute(
                b"insert into authorization_server.approval (sid, client_id, username, fhir_user,"
                b" scope, context, nonce, redirect_uri, code_challenge, code_sha256,"
                b" code_expires_at, session_sha256, signed_in_at) values (%s, %s, %s, %s, %s, %s,"
                b" %s, %s, %s, %s, now() + %s, %s, %s)",
                [
                    secrets.token_urlsafe(16),
                    request.client_id,
                    user.username,
                    user.fhir_user,
                    scope,
                    Jsonb(context.as_json()),
                    request.nonce,
                    request.redirect_uri,
                    request.code_challenge,
                    digest(code),
                    timedelta(seconds=CODE_S),
                    digest(session) if session is not None else None,
                    signed_in,
                ],
            )
        return back(request.redirect_uri, {"code": code}, request.state)

    def deny(self, request_id: str, error: str, description: str) -> str:
        """The answer is no; the URL that takes the browser back. Raises RequestGone."""
        request = self._find(request_id)
        with self._open() as connection:
            _close(connection, request_id)
        return back(
            request.redirect_uri,
            {"error": error, "error_description": description},
            request.state,
        )

    def bind(self, response: Response, request_id: str, browser: str) -> None:
        """Let the browser keep the secret of its request."""
        response.set_cookie(
            self._cookie_name(request_id),
            browser,
            path="/",
            httponly=True,
            samesite="lax",
            secure=self._cookie.secure,
            max_age=OPEN_S,
        )

    def unbind(self, response: Response, request_id: str) -> None:
        """Let the browser forget it, once the request is answered."""
        response.delete_cookie(
            self._cookie_name(request_id),
            path="/",
            httponly=True,
            samesite="lax",
            secure=self._cookie.secure,
        )

    def _cookie_name(self, request_id: str) -> str:
        # One for each request: two apps may be opened at once.
        return f"{self._cookie.name}-request-{request_id}"

    def _find(self, request_id: str) -> AuthorizationRequest:
        if not request_id.isascii() or not request_id.isprintable():
            raise RequestGone
        with self._open() as connection, connection.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute(
                b"select " + _COLUMNS + b" from authorization_server.request"
                b" where request_id = %s and done_at is null and expires_at > now()",
                [request_id],
            ).fetchone()
        if row is None:
            raise RequestGone
        return AuthorizationRequest(**row)


def digest(secret: str) -> bytes:
    """What is kept of a secret that we made: it is long and random, so it needs no salt."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def back(redirect_uri: str, answer: dict[str, str], state: bytes | None) -> str:
    """A redirect URI with an answer; the state comes back byte by byte."""
    values: dict[str, str | bytes] = {**answer}
    if state is not None:
        values["state"] = state
    joint = "&" if "?" in redirect_uri else "?"
    return f"{redirect_uri}{joint}{urlencode(values, quote_via=quote, safe='')}"


def _close(connection: psycopg.Connection[Any], request_id: str) -> None:
    """Answer a request, once: of two answers at the same time one is late."""
    done = connection.execute(
        b"update authorization_server.request set done_at = now()"
        b" where request_id = %s and done_at is null and expires_at > now()",
        [request_id],
    )
    if not done.rowcount:
        raise RequestGone


def _check(request: AuthorizationRequest, user: User, scope: str, context: LaunchContext) -> None:
    granted = scope.split()
    if not covers(request.scope, scope) or not covers(narrowed_to_user(scope, user), scope):
        raise NotGrantable("more than was asked for, or than this user may")
    if any(one.startswith("system/") for one in granted):
        raise NotGrantable("a person cannot grant system scopes")
    needs_patient = any(one.startswith("patient/") or one == "launch/patient" for one in granted)
    if needs_patient and context.patient is None:
        raise NotGrantable("a patient is to be chosen")
    if user.patient is not None and context.patient not in (None, user.patient):
        raise NotGrantable("a patient opens their own record only")
    if "launch/encounter" in granted and context.encounter is None:
        raise NotGrantable("an encounter is to be chosen")
