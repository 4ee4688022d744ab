"""The worker's jobs: render a report, sweep up what hooks and dead workers left."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import procrastinate
import structlog
from procrastinate.exceptions import UniqueViolation
from procrastinate.jobs import Status

from records import Records, identifiers
from records.errors import NotFound, RecordsUnavailable
from reports.config import ReportsConfig
from reports.errors import FindingsError
from reports.hook import QUEUE, RENDER, SWEEP, defer_render, defer_sweep
from reports.publish import Deps, is_current, render
from reports.signing import HTML, SIGNED
from reports.store import DicomwebStore

RESCUE = "reports.rescue"
log = structlog.get_logger(__name__)


async def missing(records: Records, window_s: int) -> list[str]:
    """Ids of reports of the last `window_s` seconds whose files are not there.

    Of a preliminary one that is its rendition, of a signed one its text as HTML.

    A hook call that waits while the FHIR server is killed is lost, so this is what makes a
    rendition certain; the hook only makes it quick.
    """
    since = datetime.now(UTC) - timedelta(seconds=window_s)
    # Page by page: the reports of a week are not held at once.
    found = records.pages(
        "DiagnosticReport",
        {
            "status": ",".join(["preliminary", *sorted(SIGNED)]),
            "identifier": f"{identifiers.REPORT}|",
            "_lastUpdated": f"gt{since.isoformat(timespec='milliseconds')}",
            "_elements": "identifier,presentedForm,status",
        },
    )
    return [report["id"] async for report in found if not _has_files(report)]


def _has_files(report: dict[str, Any]) -> bool:
    if report["status"] not in SIGNED:
        return is_current(report)
    return any(form.get("contentType") == HTML for form in report.get("presentedForm", []))


async def rescue(app: procrastinate.App, stalled_s: int) -> int:
    """Put the jobs of dead workers back into the queue. Returns how many."""
    stalled = list(
        await app.job_manager.get_stalled_jobs(queue=QUEUE, seconds_since_heartbeat=stalled_s)
    )
    for job in stalled:
        log.warning("job_rescued", job=job.id, task=job.task_name, attempts=job.attempts)
        try:
            await app.job_manager.retry_job(job)
        except UniqueViolation:
            # The same job waits already. The dead one must go, or its lock would hold that up.
            await app.job_manager.finish_job(job, Status.FAILED, delete_job=False)
    return len(stalled)


async def attempt(
    app: procrastinate.App, config: ReportsConfig, deps: Deps, report_id: str, tries: int
) -> None:
    """Render once; on a failure that may pass, queue the next try and end this job well.

    Procrastinate's own retry is not used: it puts the running job back, which collides with the
    queueing lock where a hook has queued the same report meanwhile.
    """
    try:
        await render(deps, report_id)
    except (FindingsError, NotFound) as error:
        # The same data would fail again. A change of the report wakes the hook.
        log.error("report_refused", report=report_id, error=type(error).__name__, why=str(error))
        raise
    except Exception as error:
        # Boundary of a job: whatever it was, later tries and the sweep take the report up again.
        if tries + 1 >= config.max_tries:
            raise
        wait_s = config.retry_wait_s * 2**tries
        kind = type(error).__name__
        log.warning("render_again", report=report_id, tries=tries, wait_s=wait_s, error=kind)
        await defer_render(app, report_id, tries=tries + 1, wait_s=wait_s)


def register(app: procrastinate.App, config: ReportsConfig) -> None:
    """Put the jobs on an App. Nothing connects before the first job runs."""
    swept = False  # until a sweep has succeeded each looks as far back as the first is to
    store = DicomwebStore(config.dicomweb_url, config.token, config.dicomweb_timeout_s)

    def records() -> Records:
        return Records(config.records_url, config.records_credentials)

    @app.task(name=RENDER, queue=QUEUE)
    async def render_job(report_id: str, tries: int = 0) -> None:
        async with records() as opened:
            deps = Deps(opened, store, config.institution)
            await attempt(app, config, deps, report_id, tries)

    @app.periodic(cron="* * * * *")
    @app.task(name=SWEEP, queue=QUEUE, queueing_lock=SWEEP)
    async def sweep_job(timestamp: int, window_s: int | None = None) -> None:
        nonlocal swept
        del timestamp
        usual_s = config.sweep_window_s if swept else config.startup_window_s
        try:
            async with records() as opened:
                found = await missing(opened, window_s or usual_s)
        except RecordsUnavailable as error:  # the next sweep is a minute away
            log.warning("sweep_put_off", error=str(error))
            return
        swept = True
        for report_id in found:
            await defer_render(app, report_id)
        if found:
            log.info("swept", reports=len(found))

    @app.periodic(cron="* * * * * */10")
    @app.task(name=RESCUE, queue=QUEUE, queueing_lock=RESCUE)
    async def rescue_job(timestamp: int) -> None:
        del timestamp
        await rescue(app, config.stalled_s)


async def at_start(app: procrastinate.App, config: ReportsConfig) -> None:
    """What a worker does when it starts: rescue and sweep far back."""
    await rescue(app, config.stalled_s)
    await defer_sweep(app, window_s=config.startup_window_s)
