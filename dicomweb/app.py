"""The DICOMweb service: its routes, and what surrounds them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from access import AuditSpool, Caller
from archive import Archive
from dicomweb import frames, metadata, rendered, retrieve, search, store
from dicomweb.config import DicomwebConfig
from dicomweb.decoder_pool import Decoders
from dicomweb.door import Door, Handler, Interaction, endpoint
from dicomweb.problems import problem_response

log = structlog.get_logger(__name__)

STUDY = "/studies/{study}"
SERIES = STUDY + "/series/{series}"
INSTANCE = SERIES + "/instances/{instance}"
FRAMES = INSTANCE + "/frames/{numbers}"

READS: tuple[tuple[str, Interaction, Handler], ...] = (
    ("/studies", "s", search.search_studies),
    ("/series", "s", search.search_series),
    ("/instances", "s", search.search_instances),
    (STUDY + "/series", "s", search.search_series),
    (STUDY + "/instances", "s", search.search_instances),
    (SERIES + "/instances", "s", search.search_instances),
    (STUDY, "r", retrieve.retrieve_study),
    (STUDY + "/metadata", "r", metadata.study_metadata),
    (STUDY + "/thumbnail", "r", rendered.thumbnail),
    (SERIES, "r", retrieve.retrieve_series),
    (SERIES + "/metadata", "r", metadata.series_metadata),
    (SERIES + "/thumbnail", "r", rendered.thumbnail),
    (INSTANCE, "r", retrieve.retrieve_instance),
    (INSTANCE + "/metadata", "r", metadata.instance_metadata),
    (INSTANCE + "/thumbnail", "r", rendered.thumbnail),
    (INSTANCE + "/rendered", "r", rendered.rendered_instance),
    (INSTANCE + "/bulkdata/{path:path}", "r", retrieve.retrieve_bulkdata),
    (FRAMES, "r", frames.retrieve_frames),
    (FRAMES + "/rendered", "r", rendered.rendered_frame),
    (FRAMES + "/thumbnail", "r", rendered.thumbnail),
)
WRITES: tuple[str, ...] = ("/studies", STUDY)


def create_app(
    archive: Archive,
    authenticate: Callable[[Request], Caller],
    audit: AuditSpool,
    config: DicomwebConfig | None = None,
) -> Starlette:
    """The application to mount at /dicomweb.

    Args:
        archive: the open archive; its lifetime is the caller's business.
        authenticate: gives the caller behind a request, or raises Unauthorized.
        audit: where each store, search, retrieve and denial is recorded.
        config: limits; the defaults suit one machine.
    """
    config = config or DicomwebConfig()
    decoders = Decoders(config.pixels)
    door = Door(archive, authenticate, audit, config, decoders)
    routes = [
        Route(path, endpoint(door, interaction, handler), methods=["GET"])
        for path, interaction, handler in READS
    ]
    routes += [Route(path, endpoint(door, "c", store.store), methods=["POST"]) for path in WRITES]
    cors = Middleware(
        CORSMiddleware,
        allow_origins=config.cors_origins,
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Accept", "Content-Type", "If-None-Match"],
        expose_headers=["ETag", "Warning", "Content-Location"],
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        decoders.close()

    return Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[cors] if config.cors_origins else [],
        exception_handlers={HTTPException: _unrouted, Exception: _failed},
    )


def _unrouted(_request: Request, error: Exception) -> Response:
    """No such resource or method, told in the form of every other problem."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    document = {"type": "about:blank", "title": error.detail, "status": error.status_code}
    return JSONResponse(
        document,
        error.status_code,
        headers={**(error.headers or {}), "X-Content-Type-Options": "nosniff"},
        media_type="application/problem+json",
    )


def _failed(request: Request, error: Exception) -> Response:
    """A bug: the log has its cause, the client a clean answer."""
    log.error("dicomweb_failed", path=request.url.path, exc_info=error)
    return problem_response(error)
