"""A session at the doors: its cookie, and what a request by cookie may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import anyio.to_thread
import psycopg
import structlog
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from access.caller import Caller
from access.errors import Forbidden, Unauthorized
from access.http import address_of
from access.sessions import Session, Sessions

log = structlog.get_logger(__name__)

_SCOPE_KEY = "hilum.session"
_SAFE = ("GET", "HEAD")
_IN_URLS = ":/%#?=@[]!$&'()*+,;"
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Cookie:
    """The session cookie of a site, by the URL under which browsers reach it."""

    site: str

    @property
    def secure(self) -> bool:
        """Whether browsers reach us over TLS."""
        return urlsplit(self.site).scheme == "https"

    @property
    def name(self) -> str:
        """Its name. `__Host-`: this host only, over TLS only, whatever a neighbour tries."""
        # Cookies know no ports: two of us on one machine must not sign each other out.
        port = urlsplit(self.site).port
        return "__Host-hilum" if self.secure else f"hilum-{port or 80}"

    def read(self, connection: HTTPConnection) -> str | None:
        """The session's token, if the browser sent one."""
        return connection.cookies.get(self.name)

    def give(self, response: Response, token: str) -> None:
        """Let the browser keep a session until it is closed."""
        response.set_cookie(
            self.name, token, path="/", httponly=True, samesite="lax", secure=self.secure
        )

    def take(self, response: Response) -> None:
        """Let the browser forget it."""
        response.delete_cookie(
            self.name, path="/", httponly=True, samesite="lax", secure=self.secure
        )

    def is_same_origin(self, connection: HTTPConnection) -> bool:
        """Whether a page of ours sent this request: no other may change anything by cookie."""
        told = connection.headers.get("sec-fetch-site")
        if told is not None and told != "same-origin":
            return False
        origin = connection.headers.get("origin")
        if origin is None:
            return told == "same-origin"
        # A proxy in front may give us another host than the browser has, or pass it on.
        ours = (_origin(self.site), _origin(f"{urlsplit(self.site).scheme}://{_host(connection)}"))
        return _origin(origin) in ours


class WithSession:
    """Puts the session of a request's cookie into its scope, for `session_of`."""

    def __init__(self, app: ASGIApp, sessions: Sessions, cookie: Cookie) -> None:
        self._app = app
        self._sessions = sessions
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Look it up off the event loop, then go on."""
        if scope["type"] in ("http", "websocket"):
            connection = HTTPConnection(scope)
            token = self._cookie.read(connection)
            # A token in the header says who asks; a cookie beside it changes nothing.
            if token and "authorization" not in connection.headers:
                scope = {**scope, _SCOPE_KEY: await self._find(token)}
        await self._app(scope, receive, send)

    async def _find(self, token: str) -> Session | None:
        try:
            return await anyio.to_thread.run_sync(self._sessions.find, token)
        except psycopg.Error as error:
            log.error("sessions not read", error=type(error).__name__)
            return None


def local(target: str) -> str:
    """The target if it is a page of this site, else the first page: no detour to elsewhere."""
    is_path = target.startswith("/") and not target.startswith("//")
    if not is_path or not target.isprintable() or "\\" in target:
        return "/"
    # What a header cannot hold is written as browsers write it; a percent sign stays one.
    return quote(target, safe=_IN_URLS)


def session_of(connection: HTTPConnection) -> Session | None:
    """The session that a request came with."""
    found: Any = connection.scope.get(_SCOPE_KEY)
    return found if isinstance(found, Session) else None


def caller_by_session(request: Request, cookie: Cookie) -> Caller:
    """The user behind a request that carries a session.

    Raises:
        Unauthorized: there is none.
        Forbidden: it would change something and no page of ours sent it.
    """
    session = session_of(request)
    if session is None:
        raise Unauthorized("a bearer token or a session is required")
    # A WebSocket has no method, and talks both ways.
    if request.scope.get("method") not in _SAFE and not cookie.is_same_origin(request):
        raise Forbidden("changes by session come from this site's own pages only")
    return session.user.caller(address=address_of(request), client="browser")


def _origin(url: str) -> tuple[str, str, int | None]:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return "", "", None


def _host(connection: HTTPConnection) -> str:
    return connection.headers.get("host", "")
