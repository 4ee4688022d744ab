"""What a study that has grown makes of its earlier runs: unfinished ones end, drafts give way."""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog

from inference import task as tasks
from inference.fhir_results import Resource
from inference.models import Model
from records import identifiers
from records.client import Records
from records.errors import NotFound, VersionConflict
from records.results import findings_of

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


@dataclass(frozen=True, slots=True)
class Outdated:
    """What earlier runs of a model have left on a study, and nobody has signed.

    Attributes:
        resources: preliminary reports, their Observations and the DocumentReferences of their
            files, as last read.
        objects: identifier of the run, and its SEG's and SR's SOP Instance UIDs.
    """

    resources: list[Resource] = field(default_factory=list)
    objects: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)


async def outdated(records: Records, task: Resource, model: Model) -> Outdated:
    """Results of other runs of the model on the study of a Task.

    A report that a person has signed or withdrawn is not among them, nor are its objects.
    """
    study_id = task["focus"]["reference"].split("/")[-1]
    found = Outdated()
    for other in await tasks.of_study(records, study_id, model, "completed"):
        if other["id"] == task["id"]:
            continue
        drafts = [
            draft
            for reference in _outputs(other, "report", "reference")
            if (draft := await _draft(records, reference)) is not None
        ]
        for draft in drafts:
            found.resources.extend(await _with_findings(records, draft))
        if drafts:
            uids = _outputs(other, "segmentation", "uid")
            uids += _outputs(other, "measurement-report", "uid")
            found.objects.append((tasks.identifier_of(other), tuple(uids)))
    return found


def _outputs(task: Resource, kind: str, what: str) -> list[str]:
    """References, or UIDs, among a Task's outputs of a kind."""
    values = [
        one["valueReference"] for one in task.get("output", []) if one["type"]["text"] == kind
    ]
    if what == "uid":
        return [identifiers.uid_of(str(value["identifier"]["value"])) for value in values]
    return [str(value["reference"]) for value in values]


async def _draft(records: Records, reference: str) -> Resource | None:
    """A report that is a draft still."""
    try:
        report: Resource = await records.read(*reference.split("/")[:2])
    except NotFound:
        return None
    return report if report["status"] == "preliminary" else None


async def _with_findings(records: Records, report: Resource) -> list[Resource]:
    """A draft with what it states and the documents that show it."""
    stated = findings_of(records, [report], {"Observation"})
    found = [report, *[one async for one in stated if one["status"] == "preliminary"]]
    related = {"related": f"DiagnosticReport/{report['id']}", "status": "current"}
    return found + await records.search("DocumentReference", related)
