"""The worker's jobs: consider a study, run a Task, sweep up what hooks and dead workers left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial

import procrastinate
import structlog
from procrastinate.exceptions import UniqueViolation
from procrastinate.jobs import Status

from inference import task as tasks
from inference.config import InferenceConfig
from inference.errors import InferenceError, NoModelApplies, SourceError, StudyChanged
from inference.fhir_results import Resource, Result, transaction
from inference.hook import CONSIDER, QUEUE, RUN, SWEEP, defer_job, defer_run, defer_sweep
from inference.models import Model, load_model
from inference.pipeline import Findings, find
from inference.rejection import rejection
from inference.runs import Run
from inference.segment import Segmenter
from inference.source import Source
from inference.supersede import Outdated, end_outdated, outdated
from records.client import Records
from records.errors import NotFound, RecordsError, RecordsUnavailable, VersionConflict

RESCUE = "inference.rescue"
COMPLETIONS = 3  # tries of the last transaction while drafts that it supersedes still change
JOB_RETRIES = 7  # with waits that double from `retry_wait_s`: about four minutes
log = structlog.get_logger(__name__)


class Engine:
    """The model of a process, read and loaded when first used, then kept."""

    def __init__(self, config: InferenceConfig) -> None:
        self._config = config
        self.turn = asyncio.Semaphore(1)  # one run at a time uses the cores and the memory

    @cached_property
    def model(self) -> Model:
        """The bundle."""
        return load_model(self._config.model)

    @cached_property
    def segmenter(self) -> Segmenter:
        """The bundle loaded into ONNX Runtime."""
        return Segmenter(self.model, self._config.threads)


@dataclass(frozen=True, slots=True)
class Deps:
    """What a job works with. `defer_run` queues a run for a Task id."""

    config: InferenceConfig
    records: Records
    engine: Engine
    defer_run: Callable[[str], Awaitable[None]]


async def consider(deps: Deps, imaging_study_id: str) -> Resource | None:
    """Write the Task that a study asks for, and queue it. Returns the Task, if any.

    Unfinished Tasks for an earlier state of the study end. Asking twice, or after our own results
    have joined the study, changes nothing.
    """
    try:
        study: Resource = await deps.records.read("ImagingStudy", imaging_study_id)
    except NotFound:
        return None
    identifier = tasks.identifier_for(study, deps.engine.model)
    if identifier is None:
        return None
    task = await tasks.request(deps.records, study, deps.engine.model, identifier)
    await end_outdated(deps.records, study["id"], deps.engine.model)
    if tasks.is_final(task):
        return task
    if not tasks.series_of_modality(study, "MR"):
        return await _end(deps, task, "rejected", "no model applies: the study has no MR series")
    await deps.defer_run(task["id"])
    return task


async def run(deps: Deps, task_id: str) -> Resource | None:
    """Carry out a Task. Returns it as it ended; None where another worker has it.

    Raises:
        SourceError: pixels could not be had; the job is to be tried again.
        RecordsError: FHIR could not be had; likewise.
    """
    task: Resource = await deps.records.read("Task", task_id)
    if tasks.is_final(task):
        return task
    study = await deps.records.read("ImagingStudy", task["focus"]["reference"].split("/")[-1])
    this_run = tasks.run_of(task, study)
    if tasks.identifier_for(study, deps.engine.model) != this_run.identifier:
        return await _end(deps, task, "cancelled", "the study or the model has changed since")
    if tasks.attempts(task) >= deps.config.max_attempts:
        return await _end(deps, task, "failed", "the worker stopped in every attempt")
    try:
        task = await tasks.claim(deps.records, task)
    except VersionConflict:
        return None
    return await _attempt(deps, task, study, this_run)


async def _attempt(deps: Deps, task: Resource, study: Resource, this_run: Run) -> Resource | None:
    last = tasks.attempts(task) >= deps.config.max_attempts
    source = Source(deps.config.dicomweb_url, deps.config.token(), deps.config.dicomweb_timeout_s)
    series = tasks.series_of_modality(study, "MR")
    try:
        findings = await asyncio.to_thread(find, this_run, series, source, deps.engine.segmenter)
        await _check_unchanged(deps, task)
        earlier = await outdated(deps.records, task, deps.engine.model)
        await asyncio.to_thread(_store, source, this_run, findings, earlier, deps.engine.model)
    except RecordsError:  # the job is tried again
        raise
    except StudyChanged as error:
        return await _end(deps, task, "cancelled", str(error))
    except NoModelApplies as error:
        return await _end(deps, task, "rejected", f"no model applies: {error}")
    except SourceError as error:
        if not last:
            raise
        return await _end(deps, task, "failed", str(error))
    except InferenceError as error:  # the same input would give the same error again
        return await _end(deps, task, "failed", f"{type(error).__name__}: {error}")
    except Exception as error:
        log.exception("run_broke", run=this_run.identifier, study=this_run.study_uid)
        if not last:
            raise
        # Not its text: an unforeseen error may quote patient data.
        return await _end(deps, task, "failed", f"unexpected {type(error).__name__}")
    return await _complete(deps, task, study, this_run, findings)


def _store(source: Source, run: Run, findings: Findings, earlier: Outdated, model: Model) -> None:
    """Store the results, and the note that rejects those of earlier runs."""
    rejected = [
        found
        for identifier, uids in earlier.objects
        for name, uid in zip(("SEG series", "SR series"), uids, strict=False)
        if (found := source.find_instance(run.study_uid, _series(identifier, name, run), uid))
    ]
    notes = [rejection(rejected, model, run)] if rejected else []
    source.store(run.study_uid, [*findings.unstored, *notes])


def _series(identifier: str, name: str, run: Run) -> str:
    return replace(run, identifier=identifier).uid(name)


async def _check_unchanged(deps: Deps, task: Resource) -> None:
    """Look again before anything is stored: the archive keeps what it is given for ever.

    Raises:
        StudyChanged: the study has grown meanwhile, or the Task is no longer ours.
    """
    current = await deps.records.read("Task", task["id"])
    if current["meta"]["versionId"] != task["meta"]["versionId"]:
        raise StudyChanged("the Task has been ended or taken over")
    study = await deps.records.read("ImagingStudy", task["focus"]["reference"].split("/")[-1])
    if tasks.identifier_for(study, deps.engine.model) != tasks.identifier_of(task):
        raise StudyChanged("the study has changed since")


async def _complete(
    deps: Deps, task: Resource, study: Resource, this_run: Run, findings: Findings
) -> Resource | None:
    result = Result(
        run=this_run,
        model=deps.engine.model,
        task=tasks.prepare_completion(task),
        study=study,
        organization=deps.config.organization,
        measurements=findings.measurements,
        images=findings.images,
        seg_uid=findings.seg_uid,
        sr_uid=findings.sr_uid,
        inputs=findings.inputs,
        lesions=findings.lesions,
    )
    if not await _write(deps, result):
        log.warning("run_taken_over", run=this_run.identifier)
        return None
    log.info("run_completed", run=this_run.identifier, study=this_run.study_uid)
    completed: Resource = await deps.records.read("Task", task["id"])
    return completed


async def _write(deps: Deps, result: Result) -> bool:
    """Carry out the last transaction. Returns False where somebody else has the Task by now."""
    for last in (False,) * (COMPLETIONS - 1) + (True,):
        earlier = await outdated(deps.records, result.task, result.model)
        superseding = replace(result, superseded=earlier.resources)
        try:
            await deps.records.transaction(transaction(superseding))
        except VersionConflict:
            current = await deps.records.read("Task", result.task["id"])
            if current["meta"]["versionId"] != result.task["meta"]["versionId"]:
                return False
            if last:
                raise
        else:
            return True
    raise AssertionError("unreachable: the last try returns or raises")


async def _end(deps: Deps, task: Resource, status: str, reason: str) -> Resource | None:
    log.info("run_ended", task=task["id"], status=status, reason=reason)
    try:
        return await tasks.end(deps.records, task, status, reason)
    except VersionConflict:
        return None


async def sweep(deps: Deps, window_s: int) -> int:
    """Find studies without a Task and Tasks without a worker. Returns how many were taken up.

    A hook call that waits while the FHIR server is killed is lost, so this is what makes a run
    certain; the hook only makes it quick.
    """
    now = datetime.now(UTC)
    since = tasks.instant(now - timedelta(seconds=window_s))
    # Only the ids are kept: the studies of a week are more than the memory of a process.
    wanted = {
        identifier: str(study["id"])
        async for study in deps.records.pages("ImagingStudy", {"_lastUpdated": f"gt{since}"})
        if (identifier := tasks.identifier_for(study, deps.engine.model))
    }
    known = await tasks.existing_identifiers(deps.records, wanted)
    missing = [study for identifier, study in wanted.items() if identifier not in known]
    for study in missing:
        try:
            await consider(deps, study)
        except RecordsUnavailable:
            raise
        except RecordsError as error:  # the others must not wait for this one
            log.error("study_not_considered", study=study, error=_kind(error))
    stuck = await tasks.unfinished(deps.records, now - timedelta(seconds=deps.config.stuck_s))
    for task in stuck:
        await deps.defer_run(task["id"])
    if missing or stuck:
        log.info("swept", studies=len(missing), tasks=len(stuck))
    return len(missing) + len(stuck)


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


def register(app: procrastinate.App, config: InferenceConfig) -> None:
    """Put the jobs on an App. Nothing connects or loads before the first job runs."""
    engine = Engine(config)

    def deps(records: Records) -> Deps:
        return Deps(config, records, engine, partial(defer_run, app))

    def records() -> Records:
        return Records(config.records_url, config.records_credentials)

    @app.task(name=CONSIDER, queue=QUEUE)
    async def consider_job(imaging_study_id: str, tries: int = 0) -> None:
        retried = again(app, config, CONSIDER, tries, imaging_study_id=imaging_study_id)
        async with retried, records() as opened:
            await consider(deps(opened), imaging_study_id)

    @app.task(name=RUN, queue=QUEUE)
    async def run_job(task_id: str, tries: int = 0) -> None:
        retried = again(app, config, RUN, tries, task_id=task_id)
        async with retried, engine.turn, records() as opened:
            await run(deps(opened), task_id)

    _register_sweeps(app, config, deps, records)


def _register_sweeps(
    app: procrastinate.App,
    config: InferenceConfig,
    deps: Callable[[Records], Deps],
    records: Callable[[], Records],
) -> None:
    swept = False  # until a sweep has succeeded each looks as far back as the first is to

    @app.periodic(cron="* * * * *")
    @app.task(name=SWEEP, queue=QUEUE, queueing_lock=SWEEP)
    async def sweep_job(timestamp: int, window_s: int | None = None) -> None:
        nonlocal swept
        del timestamp
        usual_s = config.sweep_window_s if swept else config.startup_window_s
        try:
            async with records() as opened:
                await sweep(deps(opened), window_s or usual_s)
        except RecordsUnavailable as error:  # the next sweep is a minute away
            log.warning("sweep_put_off", error=str(error))
        else:
            swept = True

    @app.periodic(cron="* * * * * */10")
    @app.task(name=RESCUE, queue=QUEUE, queueing_lock=RESCUE)
    async def rescue_job(timestamp: int) -> None:
        del timestamp
        await rescue(app, config.stalled_s)


@asynccontextmanager
async def again(
    app: procrastinate.App, config: InferenceConfig, job: str, tries: int, **arguments: str
) -> AsyncIterator[None]:
    """Queue the same job anew, later, when the body fails; after enough tries let it fail.

    Procrastinate's own retry is not used: it puts the running job back, which collides with the
    queueing lock where a sweep has queued the same job meanwhile.
    """
    try:
        yield
    except Exception as error:
        # Boundary of a job: whatever it was, a failed job is taken up again by the sweep.
        if tries >= JOB_RETRIES:
            raise
        wait_s = config.retry_wait_s * 2**tries
        log.warning("job_tried_again", job=job, tries=tries, wait_s=wait_s, error=_kind(error))
        lock = f"{job}/{next(iter(arguments.values()))}"
        await defer_job(
            app,
            job,
            lock=lock if job == RUN else None,
            queueing_lock=lock,
            wait_s=wait_s,
            tries=tries + 1,
            **arguments,
        )


def _kind(error: Exception) -> str:
    return type(error).__name__


async def at_start(app: procrastinate.App, config: InferenceConfig) -> None:
    """What a worker does when it starts: rescue and sweep far back."""
    await rescue(app, config.stalled_s)
    await defer_sweep(app, window_s=config.startup_window_s)
