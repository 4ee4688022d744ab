"""Runs that are ordered from outside: the Task of a study and a model, made, found or begun anew.

There is one Task for each model and state of a study, whoever asked for it: an order finds the
automatic run, and an order that comes after it is answered by its result.
"""

from __future__ import annotations

import structlog

from inference import task as tasks
from inference.models import Model
from inference.task import Resource
from records.client import Records
from records.errors import RecordsError, VersionConflict

# An order asks again for what did not succeed; a result that is there is not made twice.
BEGUN_ANEW = frozenset({"failed", "rejected", "cancelled"})
TRIES = 5
log = structlog.get_logger(__name__)


async def place(
    records: Records, study: Resource, model: Model, order: Resource
) -> Resource | None:
    """The Task that answers an order, or None where the study has nothing acquired.

    Doing it again changes nothing: an order that has reached the Task is among its identifiers.

    Args:
        study: the ImagingStudy.
        order: identifier (system and value) of the order.
    """
    identifier = tasks.identifier_for(study, model)
    if identifier is None:
        return None
    for _ in range(TRIES):
        task = await tasks.request(records, study, model, identifier, [order])
        if task["status"] not in BEGUN_ANEW or _names(task, order):
            return task
        try:
            return await tasks.reopen(records, task, order)
        except VersionConflict:
            continue
    raise RecordsError("the Task changes faster than it can be read")


async def cancel(records: Records, task_id: str, reason: str) -> Resource:
    """End a Task that has not ended yet, as cancelled. Returns it as it is then."""
    for _ in range(TRIES):
        task: Resource = await records.read("Task", task_id)
        if tasks.is_final(task):
            return task
        try:
            ended = await tasks.end(records, task, "cancelled", reason)
        except VersionConflict:
            continue
        log.info("run_ended", task=task_id, status="cancelled", reason=reason)
        return ended
    raise RecordsError("the Task changes faster than it can be read")


def _names(task: Resource, order: Resource) -> bool:
    return any(
        (one.get("system"), one.get("value")) == (order["system"], order["value"])
        for one in task["identifier"]
    )
