"""The web process: FHIR, DICOMweb, viewer and hooks on one port, and the gateway's services."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import httpx
import procrastinate
import structlog
import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

import authorization.app
import authorization.discovery
import authorization.pages.site
import dicomweb.app
import fhir_gateway.app
import fhir_gateway.orders.hook
import fhir_gateway.study_access
import inference.hook
import reports.hook
import ui.landing
import ui.login
import ui.ohif
from access.audit import AuditSpool
from access.browser import Cookie, WithSession, caller_by_session, session_of
from access.caller import Caller
from access.http import Verifier, caller_of
from access.revocation import Revocations
from access.tokens import TokenAuthority
from access.users import Users
from archive import Archive
from authorization.app import AuthorizationServer
from authorization.cors import Origins, RegisteredOrigins
from authorization.ending import Endings
from authorization.trust.provider import Provider
from fhir_gateway.leavings import Leavings
from fhir_gateway.services import Services
from hilum import queue_schema, trusting, wiring
from hilum.health import Health
from hilum.ordering import ordering
from hilum.processes import memory
from hilum.settings import Settings
from hilum.tls_listener import context_of, listening
from ui.landing import Component
from ui.login import Login

log = structlog.get_logger(__name__)

OPTIONS: dict[str, Any] = {
    "access_log": False,  # its lines hold query strings: names, tokens
    "server_header": False,
    "timeout_graceful_shutdown": 20,
    # Large bodies are read and written in big pieces; one process keeps a crash simple.
    "h11_max_incomplete_event_size": 64 * 1024,
}


def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    if settings.http.tls_port is not None:
        context_of(settings.http)  # what is wrong with the certificate is said at once
    queue_schema.ensure(wiring.database_url(settings), wiring.QUEUE_SCHEMA)
    archive = Archive.open(wiring.archive_config(settings))
    try:
        with archive.sweeper():
            uvicorn.run(
                build(settings, archive),
                host=settings.http.host,
                port=settings.http.port,
                log_config=None,
                **OPTIONS,
            )
    finally:
        archive.close()


def build(settings: Settings, archive: Archive) -> FastAPI:
    """The application with every door mounted."""
    revocations = Revocations(wiring.database_url(settings))
    authority = wiring.token_authority(settings, revocations)
    audit = wiring.audit_spool(settings, "web")
    queue = wiring.queue_app(settings)
    gateway = wiring.gateway_config(settings)
    services = Services(gateway, archive, gateway.audit_folder, ordering(settings, queue))
    health = Health(settings, services)
    login = _login(settings, audit, Endings(wiring.database_url(settings), revocations))
    apps = _apps(settings, authority, login)
    ours = _ourselves(settings, lambda: app)
    verifier = trusting.verifier(settings, authority, ours)
    fhir = fhir_gateway.app.create_app(gateway, authority, audit, verifier)
    access = fhir_gateway.study_access.make(gateway, archive)
    authenticate = _authenticator(verifier, login.cookie)
    limits = wiring.dicomweb_config(settings)
    pixels = dicomweb.app.create_app(archive, authenticate, audit, limits, access)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # Starlette runs no lifespan of a mounted application: that is for us to do.
        with wiring.on_record(audit), closing(revocations), closing(apps.pool):
            async with (
                contextlib.aclosing(health),
                queue.open_async(),
                access.opened(),
                fhir.router.lifespan_context(fhir),
                pixels.router.lifespan_context(pixels),
                _in_background(services),
                listening(app, settings.http, **OPTIONS),
            ):
                yield
            login.sessions.shut()

    app = FastAPI(title="Hilum", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    _add_hooks(app, settings, queue)
    login = _add_authorization(app, settings, apps, login, ours)
    fhir_gateway.app.mount(app, fhir)
    app.router.routes.extend([Mount("/dicomweb", pixels), pixels.state.wado])
    _add_pages(app, settings, health, login)
    return app


def _add_hooks(app: FastAPI, settings: Settings, queue: procrastinate.App) -> None:
    """Where HAPI tells us of what has changed."""
    secret = wiring.internal_secret(settings)
    app.include_router(inference.hook.router(queue, secret))
    app.include_router(reports.hook.router(queue, secret))
    app.include_router(fhir_gateway.orders.hook.router(wiring.database_url(settings), secret))


def _apps(settings: Settings, authority: TokenAuthority, login: Login) -> AuthorizationServer:
    """The authorization server; its people are those of the login page."""
    config = wiring.authorization_config(settings)
    before = Leavings(config.dsn)
    return authorization.app.create_server(
        config,
        authority,
        login.users,
        login.sessions,
        login.cookie,
        login.audit,
        before.of_client,
    )


def _login(settings: Settings, audit: AuditSpool, endings: Endings) -> Login:
    """The login page, which also leads to the other identity provider if there is one."""
    dsn = wiring.database_url(settings)
    users = Users(dsn, endings.of_user, Leavings(dsn).of_user)
    sessions, cookie = wiring.sessions(settings, endings), Cookie(settings.base_url)
    provider = trusting.federation_config(settings)
    label = provider.label if provider else None
    return ui.login.make(users, sessions, cookie, audit, label)


def _add_authorization(
    app: FastAPI,
    settings: Settings,
    apps: AuthorizationServer,
    login: Login,
    http: httpx.AsyncClient,
) -> Login:
    """The authorization server, its discovery and its pages; to stand before the FHIR door.

    Returns:
        The login page, which signs out at the other identity provider, too, if there is one.
    """
    app.router.routes.extend(authorization.discovery.routes(apps.config))
    looks = settings.authorization.style
    pages = authorization.pages.site.make(apps, login.users, login.cookie, http, looks)
    app.mount("/auth", authorization.app.create_app(apps, pages.steps))
    app.router.routes.extend(pages.administration)
    provider = trusting.federation_config(settings)
    if provider is not None:
        federated = pages.federated(Provider(provider), login.sessions)
        app.router.routes.extend(federated.routes())
        login = replace(login, farewell=federated.farewell)
    app.add_middleware(RegisteredOrigins, origins=Origins(apps.clients))
    return login


def _ourselves(settings: Settings, application: Callable[[], FastAPI]) -> httpx.AsyncClient:
    """Reaches our own doors without a network: for what is looked up in somebody's name."""

    async def doors(scope: Scope, receive: Receive, send: Send) -> None:
        await application()(scope, receive, send)

    transport = httpx.ASGITransport(app=doors, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=settings.base_url)


def _add_pages(app: FastAPI, settings: Settings, health: Health, login: Login) -> None:
    """What people and probes see: health, viewer, login and first page, by session."""
    _add_health(app, health)
    app.mount("/ohif", ui.ohif.create_app(settings.ohif, "/dicomweb", ui.login.login_url))
    app.router.routes.extend(login.routes())
    app.mount("/", _first_page(settings, health))
    app.add_middleware(WithSession, sessions=login.sessions, cookie=login.cookie)


def _authenticator(verifier: Verifier, cookie: Cookie) -> Callable[[Request], Awaitable[Caller]]:
    """The caller behind a request to DICOMweb: by session, else by token."""

    async def authenticate(request: Request) -> Caller:
        if session_of(request) is not None:
            return caller_by_session(request, cookie)
        return await caller_of(request, verifier)

    return authenticate


@contextlib.asynccontextmanager
async def _in_background(services: Services) -> AsyncIterator[None]:
    stop = asyncio.Event()
    running = asyncio.create_task(services.run(stop))
    memory.settle()
    try:
        yield
    finally:
        stop.set()
        await running


def _first_page(settings: Settings, health: Health) -> Starlette:
    async def components() -> list[Component]:
        states = await health.states()
        return [
            Component("FHIR store (HAPI)", "up" if states["hapi"] else "starting"),
            Component("Profiles and subscriptions", "up" if states["seeded"] else "starting"),
        ]

    part = settings.dimse
    dimse = f"{part.ae_title}@{part.host}:{part.port}"
    doors = [
        replace(door, address=dimse) if door.name == "DIMSE" else door for door in ui.landing.DOORS
    ]
    return ui.landing.create_app(components, version=version("hilum"), doors=doors)


def _add_health(app: FastAPI, health: Health) -> None:
    @app.get("/health/live")
    async def live() -> JSONResponse:
        """The process answers."""
        return JSONResponse({"status": "live"})

    @app.get("/health/ready")
    async def ready() -> JSONResponse:
        """HAPI answers and the gateway has seeded what it needs there."""
        states = await health.states()
        good = all(states.values())
        return JSONResponse({"ready": good, **states}, status_code=200 if good else 503)
