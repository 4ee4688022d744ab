"""The FHIR door as an ASGI application, to be mounted at `/fhir`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from access import AuditSpool, TokenAuthority
from access.http import OwnTokens, Verifier
from access.internal_rights import NOTHING
from fhir_gateway.bulk.door import BulkDoor, is_group_id
from fhir_gateway.bulk.jobs import Jobs
from fhir_gateway.bulk.service import BulkService
from fhir_gateway.config import GatewayConfig
from fhir_gateway.conformance import capability_statement
from fhir_gateway.facade import Facade
from fhir_gateway.model import ModelSource
from fhir_gateway.outcome import Refusal, fhir_response
from fhir_gateway.schema import make_pool, migrate
from fhir_gateway.study_access import NotesChanges
from fhir_gateway.topics.door import SubscriptionDoor
from fhir_gateway.topics.routes import add_routes
from fhir_gateway.topics.store import Subscriptions
from fhir_gateway.upstream import Upstream, store_away
from records import Records, RecordsError

EXPOSED_HEADERS = (
    "ETag",
    "Location",
    "Content-Location",
    "Last-Modified",
    "Retry-After",
    "X-Progress",
)
ALL_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


def create_app(
    config: GatewayConfig,
    authority: TokenAuthority,
    audit: AuditSpool,
    verifier: Verifier | None = None,
) -> FastAPI:
    """The door; its connections are opened by its lifespan.

    Args:
        config: of the door.
        authority: who signs our tokens.
        audit: where it is written down.
        verifier: tells whom tokens speak for. Default: ours alone count.
    """
    records = Records(
        config.records_url, config.grants.credentials(NOTHING), timeout_s=15.0, attempts=2
    )
    models = ModelSource(records)
    upstream = Upstream(config)
    pool = make_pool(config.dsn)
    facade = Facade(config, verifier or OwnTokens(authority), audit, models, upstream)
    jobs = Jobs(pool)
    exports = BulkService(config.exports, upstream, jobs)
    bulk = BulkDoor(config.exports, facade, models, upstream, jobs, exports)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await pool.open(wait=True)
        await migrate(pool)
        try:
            async with exports.running():
                yield
        finally:
            await upstream.close()
            await records.close()
            await pool.close()

    app = FastAPI(
        title="Hilum FHIR", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None
    )
    app.add_middleware(NotesChanges, pool=pool)
    _add_cors(app, config)
    _add_metadata(app, config, models)
    _add_export(app, facade, bulk)
    add_routes(app, SubscriptionDoor(config, facade, models, Subscriptions(pool), upstream))
    # A plain route: FastAPI's own looks at parameters that this one does not have.
    app.router.routes.append(Route("/{path:path}", facade.handle, methods=ALL_METHODS))
    return app


def mount(root: FastAPI, fhir: FastAPI, path: str = "/fhir") -> None:
    """Mount the door, the base URL without a trailing slash included.

    Clients post transactions to `[base]`; a mount alone would answer with a redirect.
    """

    class AtBase:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await root(
                {**scope, "path": f"{path}/", "raw_path": f"{path}/".encode()}, receive, send
            )

    root.router.routes.append(Route(path, AtBase(), methods=None))
    root.mount(path, fhir)


def _add_cors(app: FastAPI, config: GatewayConfig) -> None:
    if config.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(config.cors_origins),
            allow_methods=ALL_METHODS,
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
        )


def _add_metadata(app: FastAPI, config: GatewayConfig, models: ModelSource) -> None:
    @app.get("/metadata")
    async def metadata() -> Response:
        """The CapabilityStatement, for anyone from anywhere."""
        headers = {"Access-Control-Allow-Origin": "*", "Cache-Control": "public, max-age=60"}
        try:
            statement = capability_statement(await models.capability(), config)
        except RecordsError:
            return store_away().response
        return fhir_response(statement, headers=headers)


def _add_export(app: FastAPI, facade: Facade, bulk: BulkDoor) -> None:
    async def kick_off(request: Request, level: str) -> Response:
        return await facade.guarded(request, lambda c: bulk.kick_off(request, c, level))

    @app.api_route("/$export", methods=["GET", "POST"])
    async def system_export(request: Request) -> Response:
        """Everything that the token grants."""
        return await kick_off(request, "")

    @app.api_route("/Patient/$export", methods=["GET", "POST"])
    async def patient_export(request: Request) -> Response:
        """Everything about patients."""
        return await kick_off(request, "Patient")

    @app.api_route("/Group/{group}/$export", methods=["GET", "POST"])
    async def group_export(request: Request, group: str) -> Response:
        """Everything about the patients of a group."""
        if not is_group_id(group):
            return Refusal(404, "no such group").response
        return await kick_off(request, f"Group/{group}")

    @app.get("/export/{job}")
    async def status(request: Request, job: str) -> Response:
        """How far an export is; its manifest when it is complete."""
        return await facade.guarded(request, lambda c: bulk.status(request, c, job))

    @app.delete("/export/{job}")
    async def remove(request: Request, job: str) -> Response:
        """Cancel an export or give up its files."""
        return await facade.guarded(request, lambda c: bulk.remove(c, job))

    @app.get("/export/{job}/{name}")
    async def file(request: Request, job: str, name: str) -> Response:
        """One file of an export."""
        return await facade.guarded(request, lambda c: bulk.file(request, c, job, name))
