"""The endpoint that a FHIR Subscription on DiagnosticReport calls. It only puts a job in the queue.

A call is a wake-up, not the queue: one that is lost is made good by the sweep.
"""

from __future__ import annotations

import hmac
import re

import procrastinate
import structlog
from fastapi import APIRouter, Request, Response
from procrastinate.exceptions import AlreadyEnqueued

QUEUE = "reports"
RENDER = "reports.render"
SWEEP = "reports.sweep"
SECRET_HEADER = "X-Hilum-Hook"  # noqa: S105  (a header's name)
_REPORT = re.compile(r"(?:^|/)DiagnosticReport/([A-Za-z0-9\-.]{1,64})(?:/|$)")

log = structlog.get_logger(__name__)


def router(app: procrastinate.App, secret: str) -> APIRouter:
    """The hook's routes.

    Args:
        app: opened by the caller; the jobs need not be registered on it.
        secret: that the Subscription sends in `X-Hilum-Hook`.
    """
    routes = APIRouter()

    @routes.put("/hooks/diagnosticreport/{path:path}")
    @routes.post("/hooks/diagnosticreport")
    async def diagnostic_report_changed(request: Request, path: str = "") -> Response:
        """HAPI sends PUT .../DiagnosticReport/ID with a payload, POST without one."""
        shown = request.headers.get(SECRET_HEADER, "")
        if not hmac.compare_digest(shown.encode(), secret.encode()):
            return Response(status_code=401)
        found = _REPORT.search(path)
        if found:
            await defer_render(app, found.group(1))
        else:
            await defer_sweep(app)
        return Response(status_code=202)

    return routes


async def defer_render(
    app: procrastinate.App, report_id: str, *, tries: int = 0, wait_s: int = 0
) -> None:
    """Queue the rendering of a report: one waiting and one running at a time, however often."""
    lock = f"{RENDER}/{report_id}"
    delay = {"seconds": wait_s} if wait_s else None
    deferrer = app.configure_task(
        RENDER, queue=QUEUE, lock=lock, queueing_lock=lock, schedule_in=delay
    )
    try:
        await deferrer.defer_async(report_id=report_id, tries=tries)
    except AlreadyEnqueued:
        log.debug("already_queued", job=RENDER, report=report_id)


async def defer_sweep(app: procrastinate.App, *, window_s: int | None = None) -> None:
    """Queue a sweep over preliminary reports; a worker does so at its start."""
    deferrer = app.configure_task(SWEEP, queue=QUEUE, queueing_lock=SWEEP)
    try:
        await deferrer.defer_async(timestamp=0, window_s=window_s)
    except AlreadyEnqueued:
        log.debug("already_queued", job=SWEEP)
