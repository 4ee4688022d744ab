"""Hook, queue and worker, on a real queue: a wake-up renders, and a lost wake-up is made good."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import httpx
import procrastinate
import psycopg
import pytest
from fastapi import FastAPI

from access.internal_rights import REPORTS
from hilum.queue_schema import ensure
from reports import jobs
from reports.config import ReportsConfig
from reports.hook import RENDER, SECRET_HEADER, SWEEP, router
from tests.fixtures.stores import free_port
from tests.reports.example import observation
from tests.reports.filed import file_report

SECRET = "hook-credential"


@pytest.fixture(scope="session")
def queue_dsn(postgres):
    postgres.create_database("reports_queue")
    ensure(postgres.dsn("reports_queue"), "queue")
    return postgres.dsn("reports_queue")


@pytest.fixture
def config(hapi, archive):
    return ReportsConfig(
        records_url=hapi.config.base_url,
        records_credentials=hapi.config.grants.credentials(REPORTS),
        dicomweb_url=archive.base,
        token=archive.token_for,
        hook_secret=SECRET,
        retry_wait_s=0,
        max_tries=3,
    )


@pytest.fixture
async def queue(queue_dsn):
    with psycopg.connect(queue_dsn, autocommit=True) as connection:
        connection.execute("truncate queue.procrastinate_jobs cascade")
    connector = procrastinate.PsycopgConnector(
        conninfo=queue_dsn, kwargs={"options": "-c search_path=queue"}
    )
    async with procrastinate.App(connector=connector).open_async() as app:
        yield app


async def hook(queue, path, secret=SECRET, method="PUT"):
    web = FastAPI()
    web.include_router(router(queue, SECRET))
    transport = httpx.ASGITransport(app=web)
    async with httpx.AsyncClient(transport=transport, base_url="http://web") as client:
        return await client.request(method, path, headers={SECRET_HEADER: secret})


async def work(queue, config):
    jobs.register(queue, config)
    await asyncio.wait_for(
        queue.run_worker_async(queues=["reports"], wait=False, install_signal_handlers=False), 60
    )


async def jobs_of(queue, name=RENDER):
    return list(await queue.job_manager.list_jobs_async(task=name))


async def test_a_changed_report_is_queued_once_however_often_it_is_announced(queue):
    path = "/hooks/diagnosticreport/DiagnosticReport/r1"

    answers = [await hook(queue, path) for _ in range(3)]

    assert {a.status_code for a in answers} == {202}
    queued = await jobs_of(queue)
    assert [job.task_kwargs["report_id"] for job in queued] == ["r1"]


@pytest.mark.parametrize("secret", ["", "wrong", SECRET + "x"])
async def test_a_caller_without_the_secret_queues_nothing(queue, secret):
    answer = await hook(queue, "/hooks/diagnosticreport/DiagnosticReport/r1", secret)

    assert answer.status_code == 401
    assert await jobs_of(queue) == []


async def test_a_call_that_names_no_report_orders_a_sweep(queue):
    await hook(queue, "/hooks/diagnosticreport", method="POST")

    assert len(await jobs_of(queue, SWEEP)) == 1


async def test_a_worker_renders_what_the_hook_announced(queue, config, records, filed):
    await hook(queue, f"/hooks/diagnosticreport/DiagnosticReport/{filed.report_id}")

    await work(queue, config)

    report = await records.read("DiagnosticReport", filed.report_id)
    assert len(report["presentedForm"]) == 2


async def test_a_lost_announcement_is_made_good_by_the_sweep(queue, config, records, filed):
    await jobs.at_start(queue, config)

    await work(queue, config)

    report = await records.read("DiagnosticReport", filed.report_id)
    assert len(report["presentedForm"]) == 2


async def test_a_sweep_while_the_store_is_away_is_put_off_and_is_no_failure(queue, config):
    await hook(queue, "/hooks/diagnosticreport", method="POST")

    await work(queue, replace(config, records_url="http://127.0.0.1:9"))

    sweeps = await jobs_of(queue, SWEEP)
    assert sweeps
    assert {job.status for job in sweeps} <= {"succeeded", "todo"}


async def test_tries_are_bounded(queue, config, filed):
    broken = ReportsConfig(
        records_url=config.records_url,
        records_credentials=config.records_credentials,
        dicomweb_url=f"http://127.0.0.1:{free_port()}",
        token=config.token,
        hook_secret=SECRET,
        retry_wait_s=0,
        max_tries=3,
    )
    await hook(queue, f"/hooks/diagnosticreport/DiagnosticReport/{filed.report_id}")

    await work(queue, broken)

    # The sweep of a full minute may queue reports that other tests left, and this one once more.
    mine = [j for j in await jobs_of(queue) if j.task_kwargs["report_id"] == filed.report_id]
    tried = {(j.task_kwargs["tries"], j.status) for j in mine}
    assert tried == {(0, "succeeded"), (1, "succeeded"), (2, "failed")}


async def test_a_report_that_cannot_be_printed_is_refused_and_not_tried_again(
    queue, config, records
):
    impossible = observation("WT", 5, parts=1, short=10, long=5)
    filed = await file_report(records, [impossible])
    await hook(queue, f"/hooks/diagnosticreport/DiagnosticReport/{filed.report_id}")

    await work(queue, config)

    tried = [j for j in await jobs_of(queue) if j.task_kwargs["report_id"] == filed.report_id]
    assert {(j.task_kwargs["tries"], j.status) for j in tried} == {(0, "failed")}
    assert "presentedForm" not in await records.read("DiagnosticReport", filed.report_id)
