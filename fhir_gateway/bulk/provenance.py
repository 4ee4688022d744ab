"""Provenance in an export: of what is in the compartments, or of each resource that is exported.

Source: Bulk Data Access, includeAssociatedData; and that an export of patients holds the
Provenance of all that is in their compartments, unless `_type` leaves it out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import Any

from fhir_gateway.bulk.compartment import COMPARTMENT_TYPES, patients_of
from fhir_gateway.bulk.files import Resource
from fhir_gateway.bulk.request import Associated
from fhir_gateway.bulk.store import Store, StoreRefused, updated

TARGETS = 50


async def in_compartments(rows: list[Resource], store: Store) -> list[Resource]:
    """The Provenance of some rows that is about something of any patient's."""
    by_type: dict[str, set[str]] = {}
    for row in rows:
        for kind, resource_id in targets_of(row):
            if kind in COMPARTMENT_TYPES:
                by_type.setdefault(kind, set()).add(resource_id)
    inside: set[tuple[str, str]] = set()
    for kind, ids in by_type.items():
        try:
            found = await store.search(kind, [("_id", ",".join(sorted(ids)))])
        except StoreRefused as refused:
            if refused.status != 403:
                raise
            continue  # what the client may not see does not bring its Provenance
        inside |= {(kind, str(one["id"])) for one in found if patients_of(one)}
    return [row for row in rows if any(target in inside for target in targets_of(row))]


async def of_exported(
    references: Iterable[str], which: Associated, at: str, store: Store
) -> AsyncIterator[list[Resource]]:
    """Provenance whose target is one of the references; one may come more than once.

    Args:
        which: "latest" for the newest of each target only.
    """
    for targets in _batched(references, TARGETS):
        pairs = [("target", ",".join(targets)), ("_lastUpdated", f"le{at}")]
        found = await store.search("Provenance", pairs)
        yield found if which == "relevant" else _newest(found, set(targets))


def _newest(found: list[Resource], targets: set[str]) -> list[Resource]:
    newest: dict[str, Resource] = {}
    for one in found:
        for kind, resource_id in targets_of(one):
            target = f"{kind}/{resource_id}"
            if target in targets and (target not in newest or _age(one) > _age(newest[target])):
                newest[target] = one
    return list({one["id"]: one for one in newest.values()}.values())


def _age(provenance: Resource) -> tuple[str, str]:
    return str(provenance.get("recorded", "")), updated(provenance)


def targets_of(provenance: Resource) -> Iterator[tuple[str, str]]:
    """Type and id of what a Provenance is about, whatever form the references have."""
    for target in provenance.get("target", []):
        parts = str(target.get("reference", "")).split("/_history/")[0].rsplit("/", 2)
        if len(parts) >= 2:
            yield parts[-2], parts[-1]


def _batched(items: Iterable[str], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
