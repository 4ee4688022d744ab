"""The DICOMweb service: its routes, and what surrounds them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from access import AuditSpool, Caller
from archive import Archive
from dicomweb.capabilities import capabilities
from dicomweb.config import DicomwebConfig
from dicomweb.decoder_pool import Decoders
from dicomweb.door import Door, Endpoint, Rule, endpoint
from dicomweb.errors import DicomwebError
from dicomweb.problems import problem_document, problem_response
from dicomweb.querytags import keep_indexed
from dicomweb.routes import RULES
from dicomweb.studies_allowed import OpenOrShut, StudyAccess
from dicomweb.workitem_channel import channel_route

log = structlog.get_logger(__name__)


def create_app(
    archive: Archive,
    authenticate: Callable[[Request], Awaitable[Caller]],
    audit: AuditSpool,
    config: DicomwebConfig | None = None,
    access: StudyAccess | None = None,
) -> Starlette:
    """The application to mount at /dicomweb.

    Args:
        archive: the open archive; its lifetime is the caller's business.
        authenticate: gives the caller behind a request, or raises Unauthorized.
        audit: where each store, search, retrieve and denial is recorded.
        config: limits; the defaults suit one machine.
        access: who may reach which study, for callers that do not reach all of them; without it
            those reach none.
    """
    config = config or DicomwebConfig()
    decoders = Decoders(config.pixels)
    door = Door(archive, authenticate, audit, config, decoders, access or OpenOrShut())

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        indexing = asyncio.create_task(keep_indexed(archive))
        yield
        indexing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await indexing
        decoders.close()

    app = Starlette(
        routes=[*_description(door), *resources(door, RULES), channel_route(door)],
        lifespan=lifespan,
        middleware=[_cors(config.cors_origins)] if config.cors_origins else [],
        exception_handlers={HTTPException: _unrouted, Exception: _failed},
    )
    # WADO-URI's own place is beside /dicomweb: whoever mounts this application adds the route.
    app.state.wado = next(iter(resources(door, [r for r in RULES if r.path == "/wado"])))
    return app


def _description(door: Door) -> list[Route]:
    """The capabilities, open to all as FHIR's own statement is."""

    async def describe(request: Request) -> Response:
        try:
            return capabilities(request, door.base_url(request), RULES)
        except DicomwebError as error:
            return problem_response(error)

    return [
        Route("/", describe, methods=["OPTIONS"]),
        Route("/capabilities", describe, methods=["GET", "OPTIONS"]),
    ]


def resources(door: Door, rules: Sequence[Rule]) -> list[Route]:
    """One route for each path, which sends every method to its own handler."""
    by_path: dict[str, dict[str, Endpoint]] = {}
    for rule in rules:
        by_path.setdefault(rule.path, {})[rule.method] = endpoint(door, rule)
    return [_resource(path, methods) for path, methods in by_path.items()]


def _resource(path: str, methods: dict[str, Endpoint]) -> Route:
    allowed = [*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"]

    async def serve(request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": ", ".join(allowed)})
        return await methods["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, serve, methods=allowed)


def _cors(origins: Sequence[str]) -> Middleware:
    """Browser apps of the registered origins, with a token or with the session cookie."""
    return Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_credentials=True,
        allow_methods=["GET", "HEAD", "POST", "PUT", "DELETE"],
        allow_headers=[
            "Authorization", "Accept", "Cache-Control", "Content-Type", "Content-Encoding",
            "If-None-Match", "If-Range", "Range",
        ],
        expose_headers=[
            "ETag", "Warning", "Content-Location", "Content-Length", "Content-Range",
            "Content-Disposition", "Accept-Ranges", "Location", "Retry-After",
        ],
    )  # fmt: skip


def _unrouted(_request: Request, error: Exception) -> Response:
    """No such resource or method, told in the form of every other problem."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    advice = "OPTIONS on the service root lists the resources and their methods."
    return problem_document(
        error.status_code, error.detail, advice=advice, headers=dict(error.headers or {})
    )


def _failed(request: Request, error: Exception) -> Response:
    """A bug outside the handlers: the log has its cause, the client a clean answer."""
    log.error("dicomweb_failed", path=request.url.path, exc_info=error)
    return problem_response(error)
