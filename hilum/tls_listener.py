"""The web process over TLS: the same application on a port of its own.

The plain port stays: our other processes and HAPI's hooks use it, on the loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from hilum.sections import Http
from hilum.settings import SettingsError

_START_S = 30


class _Beside(uvicorn.Server):
    """A server beside the one that the process runs; signals are that one's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def context_of(http: Http) -> ssl.SSLContext:
    """TLS 1.2 and 1.3 with our certificate (RFC 9325).

    Raises SettingsError: the certificate or its key is missing or does not fit.
    """
    if http.tls_certificate is None or http.tls_key is None:
        raise SettingsError("http.tls_port needs http.tls_certificate and http.tls_key")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(http.tls_certificate, http.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"http.tls_certificate or http.tls_key: {error}") from error
    return context


@contextlib.asynccontextmanager
async def listening(app: ASGIApp, http: Http, **options: Any) -> AsyncIterator[None]:
    """Serve the application over TLS while the block runs, if the settings ask for it.

    Args:
        app: whose lifespan is somebody else's to run.
        http: the settings.
        options: further ones of uvicorn, the same as those of the plain port.
    """
    if http.tls_port is None:
        yield
        return
    context = context_of(http)
    config = uvicorn.Config(
        app, lifespan="off", ssl_context_factory=lambda *_: context, log_config=None, **options
    )
    host = http.tls_host or http.host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, http.tls_port), family=family) as door:
        server = _Beside(config)
        running = asyncio.create_task(server.serve([door]))
        async with asyncio.timeout(_START_S):
            while not server.started and not running.done():
                await asyncio.sleep(0.01)
        try:
            yield
        finally:
            server.should_exit = True
            await running
