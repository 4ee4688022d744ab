"""Task: the FHIR record of one run, and the only place where its states are changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from inference.models import Model
from inference.runs import Run, run_identifier
from records import identifiers
from records.client import Records

Resource = dict[str, Any]

FINAL = frozenset({"completed", "failed", "rejected", "cancelled", "entered-in-error"})
DERIVED_MODALITIES = frozenset({"SEG", "SR", "PR", "KO", "DOC", "RWV", "REG", "PMAP", "RTSTRUCT"})
RUN_SYSTEM = identifiers.INFERENCE_RUN
ATTEMPTS = "attempts"
REASON_LENGTH = 300


def acquired_uids(study: Resource) -> list[str]:
    """SOP Instance UIDs of the acquired instances of an ImagingStudy; derived series left out."""
    return [
        instance["uid"]
        for series in study.get("series", [])
        if _modality(series) not in DERIVED_MODALITIES
        for instance in series.get("instance", [])
    ]


def series_of_modality(study: Resource, modality: str) -> list[str]:
    """Series Instance UIDs of one modality."""
    return [one["uid"] for one in study.get("series", []) if _modality(one) == modality]


def _modality(series: Resource) -> str | None:
    """Its code; others than the gateway may write a modality without one."""
    code: str | None = series.get("modality", {}).get("code")
    return code


def study_uid(study: Resource) -> str:
    """The Study Instance UID of an ImagingStudy.

    Raises:
        ValueError: it has none; the gateway never writes such a one.
    """
    uid = identifiers.study_uid_of(study)
    if not uid:
        raise ValueError(f"ImagingStudy/{study.get('id')} has no Study Instance UID")
    return uid


def identifier_for(study: Resource, model: Model) -> str | None:
    """The identifier of the run that this study asks for.

    None where nothing was acquired, and for a study that no archive has: one without a UID.
    """
    acquired = acquired_uids(study) if identifiers.study_uid_of(study) else []
    return run_identifier(model.label, acquired) if acquired else None


def run_of(task: Resource, study: Resource) -> Run:
    """The run that a Task stands for; dated by the Task, not by the clock."""
    return Run(identifier_of(task), study_uid(study), datetime.fromisoformat(task["authoredOn"]))


def is_final(task: Resource) -> bool:
    """Whether the Task has ended, in whatever way."""
    return task["status"] in FINAL


def attempts(task: Resource) -> int:
    """How often a worker has claimed the Task."""
    return next(
        (int(i["valueInteger"]) for i in task.get("input", []) if i["type"]["text"] == ATTEMPTS),
        0,
    )


def new_task(
    study: Resource, model: Model, identifier: str, also: Sequence[Resource] = ()
) -> Resource:
    """A requested Task for a study; `also` are further identifiers, as of an order."""
    now = _now()
    return {
        "resourceType": "Task",
        "identifier": [{"system": RUN_SYSTEM, "value": identifier}, *also],
        "status": "requested",
        "intent": "order",
        "code": {"text": "Segment and measure brain lesions"},
        "description": model.description,
        "focus": {"reference": f"ImagingStudy/{study['id']}"},
        "for": study["subject"],
        "authoredOn": now,
        "lastModified": now,
        "input": [
            {"type": {"text": "model"}, "valueString": model.label},
            {"type": {"text": "model-digest"}, "valueString": f"sha256:{model.digest}"},
            {"type": {"text": ATTEMPTS}, "valueInteger": 0},
        ],
    }


async def request(
    records: Records,
    study: Resource,
    model: Model,
    identifier: str,
    also: Sequence[Resource] = (),
) -> Resource:
    """The Task of a run: created, or the one that is there already, as it is."""
    query = identifiers.by_identifier(RUN_SYSTEM, identifier)
    new = new_task(study, model, identifier, also)
    task: Resource = await records.create(new, if_none_exist=query)
    return task


async def reopen(records: Records, task: Resource, order: Resource) -> Resource:
    """Begin an ended run anew, for an order. Its results keep their names, so none comes twice.

    Raises:
        VersionConflict: somebody else has changed it.
    """
    fresh = {
        k: v for k, v in task.items() if k not in ("statusReason", "executionPeriod", "output")
    }
    fresh |= {"status": "requested", "lastModified": _now()}
    fresh["identifier"] = [*task["identifier"], order]
    updated: Resource = await records.update(_with_attempts(fresh, 0), if_match=True)
    return updated


async def claim(records: Records, task: Resource) -> Resource:
    """Take the Task for one attempt.

    Raises:
        VersionConflict: another worker was quicker.
    """
    claimed = _with_attempts(task, attempts(task) + 1)
    claimed |= {"status": "in-progress", "lastModified": _now()}
    claimed.setdefault("executionPeriod", {"start": _now()})
    updated: Resource = await records.update(claimed, if_match=True)
    return updated


async def end(records: Records, task: Resource, status: str, reason: str) -> Resource:
    """End a Task without a result: failed, rejected or cancelled, with the reason.

    Raises:
        VersionConflict: another worker has changed it.
    """
    ended = task | {
        "status": status,
        "statusReason": {"text": reason[:REASON_LENGTH]},
        "lastModified": _now(),
    }
    ended["executionPeriod"] = task.get("executionPeriod", {}) | {"end": _now()}
    updated: Resource = await records.update(ended, if_match=True)
    return updated


def prepare_completion(task: Resource) -> Resource:
    """The Task as the final transaction takes it: ended now."""
    now = _now()
    period = task.get("executionPeriod", {}) | {"end": now}
    return task | {"lastModified": now, "executionPeriod": period}


async def existing_identifiers(records: Records, identifiers: Iterable[str]) -> set[str]:
    """Which of the run identifiers have a Task."""
    wanted = sorted(set(identifiers))
    found: set[str] = set()
    for start in range(0, len(wanted), 20):
        tokens = ",".join(f"{RUN_SYSTEM}|{value}" for value in wanted[start : start + 20])
        tasks = await records.search("Task", {"identifier": tokens, "_elements": "identifier"})
        found.update(identifier_of(task) for task in tasks)
    return found


async def of_study(records: Records, study_id: str, model: Model, status: str) -> list[Resource]:
    """Tasks of a model on an ImagingStudy that are in one of the statuses, comma-separated."""
    params = {
        "focus": f"ImagingStudy/{study_id}",
        "identifier": f"{RUN_SYSTEM}|",
        "status": status,
    }
    found: list[Resource] = await records.search("Task", params)
    return [task for task in found if _model_of(task) == model.label]


async def unfinished(records: Records, before: datetime) -> list[Resource]:
    """Tasks of ours that have not ended and have not been touched since `before`."""
    params = {
        "identifier": f"{RUN_SYSTEM}|",
        "status": "requested,in-progress",
        "_lastUpdated": f"lt{instant(before)}",
        "_elements": "identifier,status",
    }
    tasks: list[Resource] = await records.search("Task", params)
    return tasks


def instant(at: datetime) -> str:
    """A full timestamp for a search: a bare date would be read as the whole day."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def identifier_of(task: Resource) -> str:
    """The identifier of the run that a Task stands for."""
    return next(str(i["value"]) for i in task["identifier"] if i.get("system") == RUN_SYSTEM)


def _model_of(task: Resource) -> str | None:
    return next(
        (str(i["valueString"]) for i in task.get("input", []) if i["type"]["text"] == "model"), None
    )


def _with_attempts(task: Resource, count: int) -> Resource:
    inputs: list[dict[str, Any]] = [
        entry for entry in task.get("input", []) if entry["type"]["text"] != ATTEMPTS
    ]
    return task | {"input": [*inputs, {"type": {"text": ATTEMPTS}, "valueInteger": count}]}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
