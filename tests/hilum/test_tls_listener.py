"""The web process over TLS: which versions it speaks, and what it says of a wrong certificate."""

from __future__ import annotations

import contextlib
import socket
import ssl
import warnings

import anyio.to_thread
import httpx
import pytest
from starlette.applications import Starlette

from authorization import discovery
from authorization.config import AuthorizationConfig
from hilum.sections import Http
from hilum.settings import SettingsError
from hilum.tls_listener import context_of, listening
from tests.dimse.certificates import Authority
from tests.fixtures.stores import free_port


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@contextlib.asynccontextmanager
async def serving(authority, tmp_path):
    """The discovery documents over TLS; gives the port."""
    pair, port = authority.issue("hilum", "127.0.0.1", "localhost"), free_port()
    http = Http(tls_port=port, tls_certificate=pair.certificate, tls_key=pair.key)
    config = AuthorizationConfig("", f"https://localhost:{port}", tmp_path)
    app = Starlette(routes=discovery.routes(config))
    async with listening(app, http, access_log=False):
        yield port


def spoken(port, bundle, version):
    """The TLS version that is agreed on when the client offers only this one."""
    context = ssl.create_default_context(cafile=bundle)
    # Modern libraries do not offer old versions unless they are told to.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):
        context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as wrapped,
    ):
        return wrapped.version()


async def test_tls_1_2_and_1_3_are_spoken_and_1_1_is_refused(authority, tmp_path):
    async with serving(authority, tmp_path) as port:

        def speak(version):
            return spoken(port, authority.bundle, version)

        run = anyio.to_thread.run_sync
        assert await run(speak, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
        assert await run(speak, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
        for old in (ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await run(speak, old)


async def test_the_discovery_documents_come_over_tls_with_https_addresses(authority, tmp_path):
    context = ssl.create_default_context(cafile=authority.bundle)
    async with (
        serving(authority, tmp_path) as port,
        httpx.AsyncClient(verify=context, trust_env=False) as client,
    ):
        url = f"https://localhost:{port}/fhir/.well-known/smart-configuration"
        answer = await client.get(url)

    assert answer.status_code == 200
    assert answer.json()["token_endpoint"].startswith("https://localhost")


def test_a_missing_or_foreign_key_is_named(authority, tmp_path):
    one, other = authority.issue("one", "localhost"), authority.issue("other", "localhost")

    for changes in (
        {},
        {"tls_certificate": one.certificate},
        {"tls_certificate": one.certificate, "tls_key": other.key},
        {"tls_certificate": tmp_path / "no.pem", "tls_key": one.key},
    ):
        with pytest.raises(SettingsError, match=r"http\.tls"):
            context_of(Http(tls_port=1, **changes))
