"""The endpoint that FHIR Subscriptions on orders call. It only wakes those who follow the store.

A call is a wake-up, not the queue: one that is lost is made good by the next look.
"""

from __future__ import annotations

import hmac

from fastapi import APIRouter, Request, Response

from fhir_gateway.following import Waker

SECRET_HEADER = "X-Hilum-Hook"  # noqa: S105  (a header's name)


def router(dsn: str, secret: str) -> APIRouter:
    """The hook's routes.

    Args:
        dsn: PostgreSQL connection string of the followers.
        secret: that the Subscription sends in `X-Hilum-Hook`.
    """
    routes = APIRouter()
    waker = Waker(dsn)

    @routes.put("/hooks/orders/{path:path}")
    @routes.post("/hooks/orders")
    async def order_changed(request: Request, path: str = "") -> Response:
        """HAPI sends POST without a payload, PUT with one."""
        del path
        shown = request.headers.get(SECRET_HEADER, "")
        if not hmac.compare_digest(shown.encode(), secret.encode()):
            return Response(status_code=401)
        waker.wake()
        return Response(status_code=202)

    return routes
