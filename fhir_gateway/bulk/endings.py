"""The later stages of an export: Provenance of what was written, blocks, deletions, notes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from fhir_gateway.bulk import organize
from fhir_gateway.bulk.files import Resource
from fhir_gateway.bulk.provenance import of_exported
from fhir_gateway.bulk.sink import Position
from fhir_gateway.bulk.snapshot import deletions
from fhir_gateway.bulk.store import StoreRefused
from fhir_gateway.bulk.work import Work

BUNDLE_ENTRIES = 100


async def write_associated(work: Work, begin: Position) -> None:
    """Provenance of each resource that was written."""
    which = work.request.associated
    if not which:
        return
    work.doing = "Provenance"
    seen = await work.seen("Provenance")
    for file in list(work.sink.files):
        if file.role != work.role or file.resource_type == "Provenance":
            continue
        if file.number <= begin["at"]:
            continue
        here = {"stage": "associated", "at": file.number - 1}
        references = (f"{file.resource_type}/{one}" for one in work.folder.ids(file))
        try:
            async for rows in of_exported(references, which, work.plan.at, work.store):
                await work.write("Provenance", rows, seen, here)
        except StoreRefused as error:
            await work.note(f"Provenance of {file.resource_type} is incomplete: {error}")
    await work.sink.finish({"stage": "organized", "at": 0})


async def write_organized(work: Work, begin: Position) -> None:
    """One block for each patient instead of one type for each file."""
    if not work.request.organized:
        return
    work.doing = "blocks of patients"
    files = [file for file in work.sink.files if file.role == "work"]
    members = None if work.plan.members is None else frozenset(work.plan.members)
    buckets = organize.bucket_count(files)
    await asyncio.to_thread(organize.spread, work.folder, files, buckets, members)
    resources = work.sink.written
    first = begin.get("block", 0)
    for bucket in range(begin["at"], buckets):
        here = {"stage": "organized", "at": bucket}
        blocks = await asyncio.to_thread(list, organize.blocks(work.folder, bucket))
        for number, block in enumerate(blocks[first:], first + 1):
            await work.sink.write(block, "output", "Patient", here | {"block": number})
        first = 0
        await work.sink.finish(here | {"at": bucket + 1})
    work.sink.written = resources
    ended = {"stage": "deleted", "at": 0}
    await work.sink.finish(ended, drop=[file.number for file in files])
    await asyncio.to_thread(work.folder.prepare, work.sink.files)


async def write_deleted(work: Work, begin: Position) -> None:
    """What was deleted since, as transaction Bundles."""
    if work.request.since is None:
        return
    work.doing = "deletions"
    await work.drop("deleted", begin)
    by_patient = work.request.level != "system" or work.job.caller.limited
    for kind in work.request.types:
        found: list[str] = []
        try:
            async for reference in deletions(
                kind, work.request, work.plan, work.store, by_patient=by_patient
            ):
                found.append(reference)
        except StoreRefused as error:
            await work.note(f"deletions of {kind} are incomplete: {error}")
        await work.sink.write(list(_bundles(found)), "deleted", "Bundle", begin)
    await work.sink.finish({"stage": "notes", "at": 0})


async def write_notes(work: Work, begin: Position) -> None:
    """What was left aside or went wrong, as the error file."""
    await work.drop("error", begin)
    lines = [_outcome("warning", "not-supported", note) for note in work.request.notes]
    lines += [_outcome("error", "incomplete", issue) for issue in work.issues]
    await work.sink.write(lines, "error", "OperationOutcome", begin)
    await work.sink.finish(begin)


def _bundles(references: list[str]) -> Iterator[Resource]:
    for start in range(0, len(references), BUNDLE_ENTRIES):
        part = references[start : start + BUNDLE_ENTRIES]
        yield {
            "resourceType": "Bundle",
            "type": "transaction",
            "entry": [{"request": {"method": "DELETE", "url": one}} for one in part],
        }


def _outcome(severity: str, code: str, text: str) -> Resource:
    issue = {"severity": severity, "code": code, "diagnostics": text}
    return {"resourceType": "OperationOutcome", "issue": [issue]}
