"""Rows that pages by `_lastUpdated` cannot bring: of what changed while the export ran.

An export shows the store at its transaction time. A resource that was changed or deleted
afterwards, before its page was read, has left the pages; one whose transaction began before and
ended after its page was read was not on them yet. The history has both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from fhir_gateway.bulk.compartment import belongs, patients_of
from fhir_gateway.bulk.files import Resource
from fhir_gateway.bulk.plan import Plan
from fhir_gateway.bulk.request import ExportRequest
from fhir_gateway.bulk.seen import SeenIds
from fhir_gateway.bulk.store import Store, Version, later, updated
from fhir_gateway.searching import Pairs

# The longest that a write may be under way: the gateway's own patience with the store, and more.
LONGEST_WRITE_S = 90.0


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
    is_younger: dict[str, bool] = {}
    async for versions in store.history(kind, window):
        for version in versions:  # the oldest in the window comes last and decides
            if version.id not in seen:
                is_younger[version.id] = _began_after(version, plan.at)
    for resource_id, younger in is_younger.items():
        then = None if younger else await store.as_of(kind, resource_id, plan.at)
        resource = then.resource if then is not None else None
        if (
            resource is not None
            and _wanted(resource, request, plan)
            and await _matches(kind, resource_id, filters, store)
        ):
            yield resource


def _began_after(oldest: Version, at: str) -> bool:
    """Whether a resource did not exist yet at a moment."""
    return oldest.number == 1 and oldest.resource is not None and updated(oldest.resource) > at


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


async def _matches(kind: str, resource_id: str, filters: list[Pairs], store: Store) -> bool:
    """Whether the resource passes one of the filters.

    The store searches the present only: with filters, a resource is judged by its present
    version, and one that was deleted meanwhile is left out.
    """
    if [] in filters:
        return True
    for pairs in filters:
        if await store.count(kind, [*pairs, ("_id", resource_id)]):
            return True
    return False


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
