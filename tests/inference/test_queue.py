"""The hook and the jobs on a real queue: what is lost, repeated, put off or given up."""

import asyncio
from dataclasses import replace

import httpx
import procrastinate
import pytest
from fastapi import FastAPI

from inference import jobs
from inference.errors import SourceError
from inference.hook import CONSIDER, SECRET_HEADER, SWEEP, defer_job, defer_sweep, router
from tests.inference.conftest import HOOK_SECRET
from tests.inference.stack import queue_database

pytestmark = pytest.mark.stack


@pytest.fixture
async def queue(postgres):
    app = procrastinate.App(
        connector=procrastinate.PsycopgConnector(conninfo=queue_database(postgres))
    )
    async with app.open_async():
        yield app


async def waiting(app):
    return [
        (job.task_name, job.task_kwargs)
        for job in await app.job_manager.list_jobs_async(status="todo")
    ]


async def test_the_hook_takes_only_its_secret_and_queues_a_study_once(queue):
    web = FastAPI()
    web.include_router(router(queue, HOOK_SECRET))
    transport = httpx.ASGITransport(app=web)
    async with httpx.AsyncClient(transport=transport, base_url="http://hook") as client:
        path, header = "/hooks/imagingstudy/ImagingStudy/42", {SECRET_HEADER: HOOK_SECRET}
        statuses = [
            (await client.put(path)).status_code,
            (await client.put(path, headers={SECRET_HEADER: "guess"})).status_code,
            (await client.put(path, headers=header)).status_code,
            (await client.put(path, headers=header)).status_code,
            (await client.post("/hooks/imagingstudy", headers=header)).status_code,
        ]

    queued = await waiting(queue)
    assert statuses == [401, 401, 202, 202, 202]
    assert [name for name, _ in queued] == [CONSIDER, SWEEP]
    assert queued[0][1] == {"imaging_study_id": "42"}


async def test_jobs_of_a_killed_worker_run_again_also_where_the_same_job_waits(queue):
    for task_id in ("alone", "doubled"):
        lock = f"{jobs.RUN}/{task_id}"
        await defer_job(queue, jobs.RUN, lock=lock, queueing_lock=lock, task_id=task_id)
    dead = await queue.job_manager.register_worker()
    for _ in range(2):
        await queue.job_manager.fetch_job(queues=None, worker_id=dead)
    lock = f"{jobs.RUN}/doubled"
    await defer_job(queue, jobs.RUN, lock=lock, queueing_lock=lock, task_id="doubled")

    alive = await jobs.rescue(queue, stalled_s=60)
    rescued = await jobs.rescue(queue, stalled_s=-1)

    doing = await queue.job_manager.list_jobs_async(status="doing")
    assert (alive, rescued) == (0, 2)
    assert not list(doing)
    assert sorted(kwargs["task_id"] for _, kwargs in await waiting(queue)) == ["alone", "doubled"]


async def test_a_sweep_while_the_store_is_away_is_put_off_and_is_no_failure(queue, config):
    jobs.register(queue, replace(config, records_url="http://127.0.0.1:9"))
    await defer_sweep(queue)

    worker = queue.run_worker_async(queues=["inference"], wait=False, install_signal_handlers=False)
    await asyncio.wait_for(worker, 60)

    sweeps = list(await queue.job_manager.list_jobs_async(task=SWEEP))
    assert sweeps
    assert {job.status for job in sweeps} <= {"succeeded", "todo"}


async def test_a_failing_job_is_queued_again_later_and_gives_up_in_the_end(queue, config):
    async def fail(tries):
        async with jobs.again(queue, config, jobs.RUN, tries, task_id="7"):
            raise SourceError("away")

    await fail(0)
    await fail(3)  # one waits already
    with pytest.raises(SourceError):
        await fail(jobs.JOB_RETRIES)

    assert await waiting(queue) == [(jobs.RUN, {"task_id": "7", "tries": 1})]
