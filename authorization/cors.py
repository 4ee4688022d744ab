"""Which web pages may call us from a browser: those of registered apps, by their origin."""

from __future__ import annotations

import time
from collections.abc import Iterable

import anyio.to_thread
import psycopg
import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authorization.clients import Clients

log = structlog.get_logger(__name__)

_REMEMBER_S = 2.0
_PREFLIGHT_S = "60"


class Origins:
    """The origins of the enabled clients, and further ones by the settings."""

    def __init__(self, clients: Clients, more: Iterable[str] = ()) -> None:
        self._clients = clients
        self._more = frozenset(more)
        self._known: frozenset[str] = frozenset()
        self._at = float("-inf")

    async def allow(self, origin: str) -> bool:
        """Whether pages of this origin may call."""
        if origin in self._more:
            return True
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
    """Middleware: answers preflights of registered origins, and lets their pages read answers."""

    def __init__(
        self,
        app: ASGIApp,
        origins: Origins,
        *,
        methods: Iterable[str] = ("GET", "POST"),
        exposed: Iterable[str] = (),
    ) -> None:
        self._app = app
        self._origins = origins
        self._methods = ", ".join(methods)
        self._exposed = ", ".join(exposed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on; only headers are added, and preflights answered."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        origin = headers.get("origin")
        if origin is None:
            await self._app(scope, receive, send)
            return
        allowed = await self._origins.allow(origin)
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await self._preflight(origin if allowed else None, headers)(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer.add_vary_header("Origin")
                if allowed and "access-control-allow-origin" not in answer:
                    answer["Access-Control-Allow-Origin"] = origin
                    if self._exposed:
                        answer["Access-Control-Expose-Headers"] = self._exposed
            await send(message)

        await self._app(scope, receive, sending)

    def _preflight(self, origin: str | None, headers: Headers) -> Response:
        if origin is None:
            return Response(status_code=403, headers={"Vary": "Origin"})
        asked = headers.get("access-control-request-headers", "")
        return Response(
            status_code=204,
            headers={
                "Access-Control-Allow-Origin": origin,
                "Access-Control-Allow-Methods": self._methods,
                "Access-Control-Allow-Headers": asked,
                "Access-Control-Max-Age": _PREFLIGHT_S,
                "Vary": "Origin",
            },
        )
