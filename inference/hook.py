"""The endpoint that a FHIR Subscription on ImagingStudy calls. It only puts a job in the queue.

A call is a wake-up, not the queue: one that is lost is made good by the sweep.
"""

from __future__ import annotations

import hmac
import re

import procrastinate
import structlog
from fastapi import APIRouter, Request, Response
from procrastinate.exceptions import AlreadyEnqueued

QUEUE = "inference"
CONSIDER = "inference.consider"
RUN = "inference.run"
SWEEP = "inference.sweep"
SECRET_HEADER = "X-Hilum-Hook"  # noqa: S105  (a header's name)
_STUDY = re.compile(r"(?:^|/)ImagingStudy/([A-Za-z0-9\-.]{1,64})(?:/|$)")

log = structlog.get_logger(__name__)


def router(app: procrastinate.App, secret: str) -> APIRouter:
    """The hook's routes.

    Args:
        app: opened by the caller; the jobs need not be registered on it.
        secret: that the Subscription sends in `X-Hilum-Hook`.
    """
    routes = APIRouter()

    @routes.put("/hooks/imagingstudy/{path:path}")
    @routes.post("/hooks/imagingstudy")
    async def imaging_study_changed(request: Request, path: str = "") -> Response:
        """HAPI sends PUT .../ImagingStudy/ID with a payload, POST without one."""
        shown = request.headers.get(SECRET_HEADER, "")
        if not hmac.compare_digest(shown.encode(), secret.encode()):
            return Response(status_code=401)
        found = _STUDY.search(path)
        if found:
            await defer_consider(app, found.group(1))
        else:
            await defer_sweep(app)
        return Response(status_code=202)

    return routes


async def defer_consider(app: procrastinate.App, imaging_study_id: str) -> None:
    """Queue the question whether a study needs a run; once, however often it is asked."""
    lock = f"{CONSIDER}/{imaging_study_id}"
    await defer_job(app, CONSIDER, queueing_lock=lock, imaging_study_id=imaging_study_id)


async def defer_sweep(app: procrastinate.App, *, window_s: int | None = None) -> None:
    """Queue a sweep over studies and Tasks; a worker does so at its start."""
    await defer_job(app, SWEEP, queueing_lock=SWEEP, timestamp=0, window_s=window_s)


async def defer_run(app: procrastinate.App, task_id: str) -> None:
    """Queue the run of a Task; one waits and one runs at a time, however often it is asked."""
    # `lock`: one at a time per Task; `queueing_lock`: one waiting per Task.
    lock = f"{RUN}/{task_id}"
    await defer_job(app, RUN, lock=lock, queueing_lock=lock, task_id=task_id)


async def defer_job(
    app: procrastinate.App,
    job: str,
    *,
    queueing_lock: str,
    lock: str | None = None,
    wait_s: int = 0,
    **arguments: str | int | None,
) -> None:
    """Queue a job, unless one with the same queueing lock waits already."""
    delay = {"seconds": wait_s} if wait_s else None
    deferrer = app.configure_task(
        job, queue=QUEUE, lock=lock, queueing_lock=queueing_lock, schedule_in=delay
    )
    try:
        await deferrer.defer_async(**arguments)
    except AlreadyEnqueued:
        log.debug("already_queued", job=job, lock=queueing_lock)
