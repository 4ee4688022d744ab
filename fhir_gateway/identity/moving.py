"""What hangs on a study follows it to another patient: reports, findings, pictures, Tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import structlog

from records import Records, VersionConflict
from records.results import findings_of

Resource = dict[str, Any]

ATTEMPTS = 5
# How each type names its patient.
ELEMENTS = {
    "BodyStructure": "patient",
    "DiagnosticReport": "subject",
    "DocumentReference": "subject",
    "Media": "subject",
    "Observation": "subject",
    "Procedure": "subject",
    "Task": "for",
}

log = structlog.get_logger(__name__)


async def follow_study(records: Records, study: Resource) -> int:
    """Bring everything about a study to the study's patient; returns how many were moved.

    Withdrawn results are moved too: they are about the same person as the pictures.
    """
    subject = str(study["subject"]["reference"])
    moved = 0
    async for resource in _about(records, study):
        moved += await move(records, resource, subject)
    if moved:
        log.info("identity.moved", study=study["id"], resources=moved)
    return moved


async def move(records: Records, resource: Resource, subject: str) -> int:
    """Let a resource be about `Patient/ID`; returns 0 where it is already."""
    name = ELEMENTS[resource["resourceType"]]
    for _ in range(ATTEMPTS):
        if resource.get(name, {}).get("reference") == subject:
            return 0
        try:
            await records.update({**resource, name: {"reference": subject}})
        except VersionConflict:
            resource = await records.read(resource["resourceType"], resource["id"])
            continue
        return 1
    raise VersionConflict("a result changes faster than it can be read")


async def _about(records: Records, study: Resource) -> AsyncIterator[Resource]:
    reference = f"ImagingStudy/{study['id']}"
    for task in await records.search("Task", {"focus": reference}):
        yield task
    reports = await records.search("DiagnosticReport", {"imaging-study": reference})
    for report in reports:
        yield report
        for found in await documents_of(records, f"DiagnosticReport/{report['id']}"):
            yield found
    async for finding in findings_of(records, reports, ELEMENTS):
        yield finding


async def documents_of(records: Records, reference: str) -> list[Resource]:
    """DocumentReferences that stand for files of a report."""
    return await records.search("DocumentReference", {"related": reference})
