"""Rows that pages by `_lastUpdated` cannot bring: of what changed while the export ran.

An export shows the store at its transaction time. A resource that was changed or deleted
afterwards, before its page was read, has left the pages; one whose transaction began before and
ended after its page was read was not on them yet. The history has both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from fhir_gateway.bulk.compartment import belongs, patients_of
from fhir_gateway.bulk.files import Resource
from fhir_gateway.bulk.plan import Plan
from fhir_gateway.bulk.request import ExportRequest
from fhir_gateway.bulk.seen import SeenIds
from fhir_gateway.bulk.store import Store, Version, later, updated
from fhir_gateway.searching import Pairs

# The longest that a write may be under way: the gateway's own patience with the store, and more.
LONGEST_WRITE_S = 90.0
IDS_AT_ONCE = 100


async def missed(
    kind: str,
    filters: list[Pairs],
    request: ExportRequest,
    plan: Plan,
    store: Store,
    seen: SeenIds,
) -> AsyncIterator[Resource]:
    """Resources of a type as they were at the transaction time, and that are not in `seen`."""
    window = [("_since", later(plan.at, -LONGEST_WRITE_S))]
    changed: dict[str, bool] = {}  # True: the version of that moment is known to be wanted
    async for versions in store.history(kind, window):
        for version in versions:  # newest first
            if version.id in seen or changed.get(version.id):
                continue
            resource = version.resource
            if resource is None or (updated(resource) > plan.at and version.number > 1):
                changed[version.id] = False  # what was before it is asked below
            elif updated(resource) <= plan.at and _wanted(resource, request, plan):
                changed[version.id] = True
            else:
                changed.pop(version.id, None)  # made later, or not of this export
    for resource_id in await _matching(kind, list(changed), filters, store):
        then = await store.as_of(kind, resource_id, plan.at)
        before = then.resource if then is not None else None
        if before is not None and _wanted(before, request, plan):
            yield before


def _wanted(resource: Resource, request: ExportRequest, plan: Plan) -> bool:
    """Whether a version lies within the job's times and patients."""
    patients = patients_of(resource)
    if plan.members is not None and not belongs(resource, frozenset(plan.members)):
        return False
    if request.level != "system" and not patients:
        return False
    moment = updated(resource)
    if request.until is not None and moment >= request.until:
        return False
    late = bool(patients & plan.late)
    return late or request.since is None or moment > request.since


async def _matching(kind: str, ids: list[str], filters: list[Pairs], store: Store) -> Iterable[str]:
    """Those resources that pass one of the filters.

    The store searches the present only: with filters, a resource is judged by its present
    version, and one that was deleted meanwhile is left out.
    """
    if [] in filters:
        return ids
    found: dict[str, None] = {}
    for start in range(0, len(ids), IDS_AT_ONCE):
        asked = ("_id", ",".join(ids[start : start + IDS_AT_ONCE]))
        for pairs in filters:
            rows = await store.search(kind, [*pairs, asked, ("_elements", "id")])
            found |= dict.fromkeys(str(row["id"]) for row in rows)
    return found


async def deletions(
    kind: str, request: ExportRequest, plan: Plan, store: Store, *, by_patient: bool
) -> AsyncIterator[str]:
    """References to resources of a type that existed and were gone at the transaction time.

    Args:
        by_patient: only those whose last version the client could have had; it is looked up.
    """
    if request.since is None or not store.sees_all(kind):
        return  # whether a resource that is gone was covered by a filter, nobody can say
    upper = plan.at if request.until is None else min(plan.at, later(request.until, -0.001))
    seen = SeenIds()
    window = [("_at", f"gt{request.since}"), ("_at", f"le{upper}")]
    async for versions in store.history(kind, window):
        for version, newest in zip(versions, seen.add(v.id for v in versions), strict=True):
            if not newest or not version.deleted:
                continue
            if by_patient and not await _was_theirs(version, request, plan, store):
                continue
            yield f"{version.kind}/{version.id}"


async def _was_theirs(version: Version, request: ExportRequest, plan: Plan, store: Store) -> bool:
    before = await store.version(version.kind, version.id, version.number - 1)
    if before is None:
        return False
    patients = patients_of(before)
    if plan.members is not None:
        return bool(patients & set(plan.members))
    return request.level == "system" or bool(patients)
