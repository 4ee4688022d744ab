"""One server with DICOMweb, the viewer and the landing page, and one headless Chromium."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from access import AuditSpool, TokenAuthority
from access.http import caller_of
from archive import Archive, ArchiveConfig
from dicomweb.app import create_app
from tests.dicomweb.server import Server, serving
from tests.fixtures.stores import ROOT
from ui import landing, ohif

BUNDLE = ROOT / "build" / "ohif"


@pytest.fixture(scope="session")
def site(postgres, tmp_path_factory):
    """Everything a browser sees, on one port; `base` is the DICOMweb root."""
    folder = tmp_path_factory.mktemp("ui")
    postgres.create_database("ui_tests")
    config = ArchiveConfig(folder / "archive", postgres.dsn("ui_tests"), durable=False)
    with Archive.open(config) as archive, ExitStack() as stack:
        authority = TokenAuthority.load_or_create(folder / "keys", issuer="t", audience="t")
        audit = AuditSpool(folder / "audit", "test")
        stack.callback(audit.close)
        inner = create_app(archive, lambda r: caller_of(r, authority), audit)

        async def health():
            return [
                landing.Component("HAPI FHIR", "up", "R4, PostgreSQL"),
                landing.Component("DIMSE", "down", "<b>not started</b>"),
            ]

        routes = [
            Mount("/dicomweb", inner),
            Mount("/ohif", ohif.create_app(BUNDLE, "/dicomweb")),
            Mount("/missing", ohif.create_app(None, "/dicomweb")),
            Mount("/", landing.create_app(health, version="1.2.3")),
        ]
        app = Starlette(routes=routes, lifespan=inner.router.lifespan_context)
        root = stack.enter_context(serving(app))
        server = Server(archive, authority, folder / "audit", f"{root}/dicomweb")
        server.headers = {"Authorization": f"Bearer {server.token_for()}"}
        yield server


@pytest.fixture(scope="session")
def root(site):
    """URL of the site without a trailing slash."""
    return site.base.removesuffix("/dicomweb")
