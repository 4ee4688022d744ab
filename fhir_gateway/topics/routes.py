"""The routes of Subscription, which stand before those of the other types."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from fhir_gateway.topics.door import SubscriptionDoor


def add_routes(app: FastAPI, door: SubscriptionDoor) -> None:
    """Add them to the FHIR door."""

    @app.api_route("/Subscription", methods=["GET", "HEAD", "POST"])
    async def on_type(request: Request) -> Response:
        """Create one, or search one's own."""
        return await door.on_type(request)

    @app.api_route("/Subscription/$status", methods=["GET", "POST"])
    async def statuses(request: Request) -> Response:
        """$status of one's own."""
        return await door.status(request)

    @app.api_route("/Subscription/{identity}/$status", methods=["GET", "POST"])
    async def status(request: Request, identity: str) -> Response:
        """$status of one."""
        return await door.status(request, identity)

    @app.api_route("/Subscription/{identity}/$events", methods=["GET", "POST"])
    async def events(request: Request, identity: str) -> Response:
        """$events of one."""
        return await door.events(request, identity)

    @app.api_route("/Subscription/{identity}", methods=["GET", "HEAD", "PUT", "DELETE"])
    async def on_instance(request: Request, identity: str) -> Response:
        """Read, replace or remove one."""
        return await door.on_instance(request, identity)
