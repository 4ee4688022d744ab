"""A worker process: inference and reports, from one queue."""

from __future__ import annotations

import asyncio
import contextlib

import httpx
import structlog

import inference.jobs
import reports.jobs
from access.internal_rights import INFERENCE, REPORTS
from hilum import marks, queue_schema, wiring
from hilum.processes import memory
from hilum.settings import Settings
from inference.config import InferenceConfig
from reports.config import ReportsConfig

log = structlog.get_logger(__name__)

QUEUES = ("inference", "reports")
CONCURRENCY = 4  # short jobs (consider, sweep, render) pass a long inference run
STOP_GRACE_S = 20.0
HEARTBEAT_S = 5.0
DEAD_AFTER_S = 15  # three heartbeats: then a worker's jobs are given to another


def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; a run in progress may finish, else it is taken up again."""
    queue_schema.ensure(wiring.database_url(settings), wiring.QUEUE_SCHEMA)
    asyncio.run(_work(settings))


async def _work(settings: Settings) -> None:
    app = wiring.queue_app(settings)
    queues = [name for name in QUEUES if name != "inference" or settings.inference.enabled]
    model_config, report_config = inference_config(settings), reports_config(settings)
    if settings.inference.enabled:
        inference.jobs.register(app, model_config)
    reports.jobs.register(app, report_config)
    await _wait_for_hapi(settings)
    async with app.open_async():
        if settings.inference.enabled:
            await inference.jobs.at_start(app, model_config)
        await reports.jobs.at_start(app, report_config)
        memory.settle()
        marks.say_ready(settings.data, "worker")
        log.info("worker ready", queues=queues)
        await app.run_worker_async(
            queues=queues,
            concurrency=CONCURRENCY,
            delete_jobs="successful",
            fetch_job_polling_interval=2.0,
            update_heartbeat_interval=HEARTBEAT_S,
            shutdown_graceful_timeout=STOP_GRACE_S,
        )


async def _wait_for_hapi(settings: Settings) -> None:
    """Wait for the FHIR store: without it every job would only fail and be tried again."""
    url = settings.hapi_url.removesuffix("/fhir") + "/health"
    async with httpx.AsyncClient(timeout=3.0, trust_env=False) as client:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if (await client.get(url)).status_code == httpx.codes.OK:
                    return
            await asyncio.sleep(0.2)


def inference_config(settings: Settings) -> InferenceConfig:
    """The inference worker's configuration."""
    secret = wiring.internal_secret(settings)
    return InferenceConfig(
        records_url=settings.hapi_url,
        records_credentials=wiring.grant_signer(settings).credentials(INFERENCE),
        dicomweb_url=f"{settings.local_url}/dicomweb",
        token=wiring.worker_token(settings, "inference"),
        hook_secret=secret,
        model=settings.inference.model,
        threads=settings.inference.threads,
        stalled_s=DEAD_AFTER_S,
        organization=settings.reports.institution,
    )


def reports_config(settings: Settings) -> ReportsConfig:
    """The report worker's configuration."""
    secret = wiring.internal_secret(settings)
    return ReportsConfig(
        records_url=settings.hapi_url,
        records_credentials=wiring.grant_signer(settings).credentials(REPORTS),
        dicomweb_url=f"{settings.local_url}/dicomweb",
        token=wiring.worker_token(settings, "reports"),
        hook_secret=secret,
        institution=settings.reports.institution,
        stalled_s=DEAD_AFTER_S,
    )
