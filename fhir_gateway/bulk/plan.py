"""Which questions bring the rows of an export: for each type some passes, one after another.

A plan is fixed when the work begins and kept in the job's row, so that a restart goes on with
the very same questions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from access import Caller
from fhir_gateway.bulk.compartment import COMPARTMENT, patient_id
from fhir_gateway.bulk.files import Resource
from fhir_gateway.bulk.parameters import written
from fhir_gateway.bulk.request import ExportRequest
from fhir_gateway.bulk.rules import rules_of
from fhir_gateway.bulk.store import BEGINNING, Store, StoreRefused, later
from fhir_gateway.outcome import Refusal
from fhir_gateway.searching import Pairs, parse_query

CHUNK = 50
MAX_MEMBERS = 100_000
MAX_DEPTH = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """What a job writes.

    Attributes:
        at: transaction time: the export shows the store as it was then.
        members: patients that it is limited to; None: no limit.
        late: those of them that joined the group after `_since`: theirs is written in full.
        types: types of which there is anything, in the request's order.
        targets: types in the compartment whose Provenance comes with them.
    """

    at: str
    members: tuple[str, ...] | None
    late: frozenset[str]
    types: tuple[str, ...]
    targets: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For the job's row; the time has a column of its own."""
        return {
            "at": self.at,
            "members": self.members,
            "late": sorted(self.late),
            "types": self.types,
            "targets": self.targets,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """From the job's row."""
        members = stored["members"]
        return cls(
            stored["at"],
            None if members is None else tuple(members),
            frozenset(stored["late"]),
            tuple(stored["types"]),
            tuple(stored["targets"]),
        )


@dataclass(frozen=True, slots=True)
class Pass:
    """One question: its parameters, and from when on changes count (this instant included)."""

    pairs: Pairs
    since: str


def upper_bound(request: ExportRequest, plan: Plan) -> tuple[str, str]:
    """Prefix and instant up to which changes count."""
    if request.until is not None and request.until <= plan.at:
        return "lt", request.until
    return "le", plan.at


def passes(kind: str, request: ExportRequest, plan: Plan, caller: Caller) -> list[Pass]:
    """The questions that bring the rows of a type. A row may come by several of them."""
    since = BEGINNING if request.since is None else later(request.since, 0.001)
    return [
        Pass([*limit, *pairs], BEGINNING if late else since)
        for limit, late in _limits(kind, plan)
        for pairs in filters_of(kind, request, caller)
    ]


def filters_of(kind: str, request: ExportRequest, caller: Caller) -> list[Pairs]:
    """Searches of which a resource of a type must match one; an empty one lets all pass."""
    return [
        [*parse_query(search), *rule]
        for search in request.filters.get(kind, ("",))
        for rule in sorted(rules_of(caller, kind))
    ]


def _limits(kind: str, plan: Plan) -> Iterator[tuple[Pairs, bool]]:
    """Parameters that limit a type to the members, and whether these are late ones."""
    if plan.members is None:
        yield [], False
        return
    late = [one for one in plan.members if one in plan.late]
    others = [one for one in plan.members if one not in plan.late]
    for members, is_late in ((others, False), (late, True)):
        for start in range(0, len(members), CHUNK):
            for pairs in _of_patients(kind, members[start : start + CHUNK], plan):
                yield pairs, is_late


def _of_patients(kind: str, ids: Sequence[str], plan: Plan) -> Iterator[Pairs]:
    references = ",".join(f"Patient/{one}" for one in ids)
    if kind == "Patient":
        yield [("_id", ",".join(ids))]
        return
    for parameter in COMPARTMENT[kind]:
        yield [(parameter, references)]
    if kind == "Provenance":  # of what is in the compartment, not of patients alone
        for target in plan.targets:
            for parameter in COMPARTMENT[target]:
                yield [(f"target:{target}.{parameter}", references)]


async def make_plan(request: ExportRequest, caller: Caller, store: Store, registry: Store) -> Plan:
    """Look at the store and decide what is written.

    Args:
        store: the store as the client may see it.
        registry: the store as we see it, for the members of a group: a client needs no grant
            on Group to export one that it was given.
    """
    at = await registry.now()
    members, late = await group_members(request, registry, at)
    if request.level == "patient" and request.patients is not None:
        members = request.patients
    targets: tuple[str, ...] = ()
    if members is not None and "Provenance" in request.types:
        # A search by what is referred to tells about that too, so it must be granted whole.
        whole = [kind for kind in sorted(COMPARTMENT) if caller.may_on_all(kind, "s")]
        targets = await _present_types([k for k in whole if k != "Provenance"], store)
    return Plan(at, members, late, await _present_types(request.types, store), targets)


async def _present_types(types: Iterable[str], store: Store) -> tuple[str, ...]:
    """Those of some types of which there is anything."""
    found = []
    for kind in types:
        try:
            if await store.count(kind, []):
                found.append(kind)
        except StoreRefused:
            found.append(kind)  # what is wrong with it is noted when its rows are asked for
    return tuple(found)


async def group_members(
    request: ExportRequest, registry: Store, at: str
) -> tuple[tuple[str, ...] | None, frozenset[str]]:
    """Members of the request's group, and those who were none of it at `_since`."""
    if request.group is None:
        return None, frozenset()
    now = await _members_at(registry, request.group, at)
    chosen = [one for one in now if request.patients is None or one in request.patients]
    if request.since is None:
        return tuple(chosen), frozenset()
    before = set(await _members_at(registry, request.group, request.since))
    return tuple(chosen), frozenset(one for one in chosen if one not in before)


async def _members_at(registry: Store, group: str, moment: str) -> list[str]:
    """Patients of a group as it was at a moment, those of groups in it included."""
    found: dict[str, None] = {}
    looked_at = {group}
    waiting = [(group, 0)]
    while waiting:
        one, depth = waiting.pop()
        version = await registry.as_of("Group", one, moment)
        resource = version.resource if version else None
        for reference in _present(resource, moment) if resource else ():
            inner = reference.partition("Group/")[2]
            if (patient := patient_id(reference)) is not None:
                found[patient] = None
            elif inner and inner not in looked_at and depth < MAX_DEPTH:
                looked_at.add(inner)
                waiting.append((inner, depth + 1))
    if len(found) > MAX_MEMBERS:
        raise Refusal(413, f"the group has more than {MAX_MEMBERS} patients")
    return list(found)


def _present(group: Resource, moment: str) -> Iterator[str]:
    """References to the members that are in the group at a moment."""
    for member in group.get("member", []):
        end = member.get("period", {}).get("end")
        if not member.get("inactive") and (end is None or not _before(end, moment)):
            yield str(member.get("entity", {}).get("reference", ""))


def _before(date: str, moment: str) -> bool:
    """Whether a FHIR date or time, its last moment meant, lies before a moment."""
    if "T" not in date:
        return date < moment[: len(date)]
    return written(datetime.fromisoformat(date)) < moment
