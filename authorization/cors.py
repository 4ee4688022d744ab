"""Which web pages may call us from a browser: those of registered apps, by their origin."""

from __future__ import annotations

import time

import anyio.to_thread
import psycopg
import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authorization.clients import Clients

log = structlog.get_logger(__name__)

# Where apps call from their pages.
DOORS = ("/auth/token", "/auth/revoke", "/auth/introspect", "/fhir", "/dicomweb", "/wado")
METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
_ASKED = "access-control-request-method"
_REMEMBER_S = 2.0
_PREFLIGHT_S = "60"


class Origins:
    """The origins of the enabled clients."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._known: frozenset[str] = frozenset()
        self._at = float("-inf")

    async def allow(self, origin: str) -> bool:
        """Whether pages of this origin may call."""
        if time.monotonic() - self._at >= _REMEMBER_S:
            try:
                self._known = await anyio.to_thread.run_sync(self._read)
            except psycopg.Error as error:
                log.error("origins not read", error=type(error).__name__)
            self._at = time.monotonic()
        return origin in self._known

    def _read(self) -> frozenset[str]:
        enabled = (client for client in self._clients.list() if not client.disabled)
        return frozenset(origin for client in enabled for origin in client.origins)


class RegisteredOrigins:
    """Middleware: answers preflights of registered origins, and lets their pages read answers.

    An app shows a token and no cookie, so nothing is allowed with credentials. The pages on
    which people sign in are for no other page to read.
    """

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add headers to answers; answer preflights; pass everything else on."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        origin = headers.get("origin")
        if origin is None or not scope["path"].startswith(DOORS):
            await self._app(scope, receive, send)
            return
        allowed = await self._origins.allow(origin)
        if allowed and scope["method"] == "OPTIONS" and _ASKED in headers:
            await _preflight(origin, headers)(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer.add_vary_header("Origin")
                if allowed and "access-control-allow-origin" not in answer:
                    answer["Access-Control-Allow-Origin"] = origin
                    answer["Access-Control-Expose-Headers"] = "*"
            await send(message)

        await self._app(scope, receive, sending)


def _preflight(origin: str, headers: Headers) -> Response:
    return Response(
        status_code=204,
        headers={
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": headers.get("access-control-request-headers", ""),
            "Access-Control-Max-Age": _PREFLIGHT_S,
            "Vary": "Origin, Access-Control-Request-Headers",
        },
    )
