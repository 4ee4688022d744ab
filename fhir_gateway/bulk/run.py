"""The work on one job, from its plan to its last file.

A job's position is kept with each finished file, so that another process goes on there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

from fhir_gateway.bulk.endings import (
    write_associated,
    write_deleted,
    write_notes,
    write_organized,
)
from fhir_gateway.bulk.jobs import Job, Jobs
from fhir_gateway.bulk.paging import between
from fhir_gateway.bulk.plan import Plan, make_plan, passes, upper_bound
from fhir_gateway.bulk.sink import Position
from fhir_gateway.bulk.store import Store, StoreRefused
from fhir_gateway.bulk.types import STAGE, TypeRows
from fhir_gateway.bulk.work import Work


async def _write_types(work: Work, begin: Position) -> None:
    await TypeRows(work).write(begin)


# In this order; a stage tells how far it is by "at" in the position, and 0 is its beginning.
STAGES: Mapping[str, Callable[[Work, Position], Awaitable[None]]] = {
    STAGE: _write_types,
    "associated": write_associated,
    "organized": write_organized,
    "deleted": write_deleted,
    "notes": write_notes,
}


async def planned(job: Job, jobs: Jobs, store: Store, registry: Store) -> Plan:
    """The job's plan, made when the job has none yet."""
    if job.plan is not None:
        return Plan.from_json(job.plan)
    plan = await make_plan(job.request, job.caller, store, registry)
    expected = await _expected(job, plan, store) if plan.members is None else None
    await jobs.begin(job, datetime.fromisoformat(plan.at), plan.as_json(), expected)
    return plan


async def _expected(job: Job, plan: Plan, store: Store) -> int:
    """How many resources there are to write, for the progress that clients see."""
    upper = upper_bound(job.request, plan)
    total = 0
    for kind in plan.types:
        for one in passes(kind, job.request, plan, job.caller):
            try:
                total += await store.count(kind, one.pairs + between(one.since, upper))
            except StoreRefused:
                continue  # it will be noted when its rows are asked for
    return total


async def run(work: Work) -> None:
    """Do all that is still to be done.

    Raises:
        StoreAway, JobLost, NoRoom, Incomplete: the job cannot go on, or not by us.
    """
    begin: Position = work.job.position or {"stage": STAGE, "at": 0}
    names = list(STAGES)
    for name in names[names.index(begin["stage"]) :]:
        await STAGES[name](work, begin if name == begin["stage"] else {"stage": name, "at": 0})
