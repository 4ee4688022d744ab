"""What a study that has grown makes of its earlier runs: unfinished ones end, drafts give way."""

from __future__ import annotations

import structlog

from inference import task as tasks
from inference.fhir_results import Resource
from inference.models import Model
from records.client import Records
from records.errors import NotFound, VersionConflict

REASON = "superseded: the study has changed"
log = structlog.get_logger(__name__)


async def end_outdated(records: Records, study_id: str, model: Model) -> None:
    """Cancel the unfinished Tasks of a model that stand for an earlier state of the study."""
    found = await tasks.of_study(records, study_id, model, "requested,in-progress")
    if not found:
        return
    # Read after the search: each Task found stands for this state or an earlier one.
    study: Resource = await records.read("ImagingStudy", study_id)
    wanted = tasks.identifier_for(study, model)
    for task in found:
        if tasks.identifier_of(task) != wanted:
            await _cancel(records, task)


async def _cancel(records: Records, task: Resource) -> None:
    try:
        await tasks.end(records, task, "cancelled", REASON)
    except VersionConflict:
        current: Resource = await records.read("Task", task["id"])
        if tasks.is_final(current):
            return
        try:
            await tasks.end(records, current, "cancelled", REASON)
        except VersionConflict:  # its worker is at it, and looks at the study before it stores
            log.warning("run_not_cancelled", task=task["id"])
            return
    log.info("run_ended", task=task["id"], status="cancelled", reason=REASON)


async def outdated_drafts(records: Records, task: Resource, model: Model) -> list[Resource]:
    """Preliminary reports of other runs of the model on the study of a Task.

    A report that a person has signed or withdrawn is not among them.
    """
    study_id = task["focus"]["reference"].split("/")[-1]
    completed = await tasks.of_study(records, study_id, model, "completed")
    references = {
        str(output["valueReference"]["reference"])
        for other in completed
        if other["id"] != task["id"]
        for output in other.get("output", [])
        if output["type"]["text"] == "report"
    }
    drafts: list[Resource] = []
    for reference in sorted(references):
        try:
            report: Resource = await records.read(*reference.split("/")[:2])
        except NotFound:
            continue
        if report["status"] == "preliminary":
            drafts.append(report)
    return drafts
