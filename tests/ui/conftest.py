"""One server with DICOMweb, the viewer and the landing page, and one headless Chromium."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from access import AuditSpool, TokenAuthority
from access.browser import Cookie, WithSession, caller_by_session, session_of
from access.http import OwnTokens, caller_of
from access.sessions import Sessions
from access.users import User, Users
from archive import Archive, ArchiveConfig
from dicomweb.app import create_app
from tests.dicomweb.server import Server, serving
from tests.fixtures.stores import ROOT
from ui import landing, login, ohif

BUNDLE = ROOT / "build" / "ohif"
ANNA = User("anna", "Dr Anna Muster", "radiologist")
PASSWORD = "correct horse battery"


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
        users = Users(config.dsn)
        users.add(ANNA, PASSWORD)
        users.add(User("root", "", "administrator"), PASSWORD)
        sessions = Sessions(config.dsn)
        stack.callback(sessions.shut)
        cookie = Cookie("http://127.0.0.1")

        async def authenticate(request):
            if session_of(request) is not None:
                return caller_by_session(request, cookie)
            return await caller_of(request, OwnTokens(authority))

        inner = create_app(archive, authenticate, audit)

        async def health():
            return [
                landing.Component("HAPI FHIR", "up", "R4, PostgreSQL"),
                landing.Component("DIMSE", "down", "<b>not started</b>"),
            ]

        routes = [
            Mount("/dicomweb", inner),
            Mount("/ohif", ohif.create_app(BUNDLE, "/dicomweb", login.login_url)),
            Mount("/missing", ohif.create_app(None, "/dicomweb")),
            *login.make(users, sessions, cookie, audit).routes(),
            Mount("/", landing.create_app(health, version="1.2.3")),
        ]
        app = Starlette(routes=routes, lifespan=inner.router.lifespan_context)
        app.add_middleware(WithSession, sessions=sessions, cookie=cookie)
        root = stack.enter_context(serving(app))
        server = Server(archive, authority, folder / "audit", f"{root}/dicomweb")
        server.headers = {"Authorization": f"Bearer {server.token_for()}"}
        yield server


@pytest.fixture(scope="session")
def root(site):
    """URL of the site without a trailing slash."""
    return site.base.removesuffix("/dicomweb")
