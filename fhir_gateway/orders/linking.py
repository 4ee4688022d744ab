"""Which orders a study belongs to, and what follows from that for the study and its reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from fhir_gateway.identity.moving import documents_of
from fhir_gateway.orders import reading
from fhir_gateway.orders.table import ImagingOrders, KnownOrder
from records import Records, VersionConflict, identifiers
from records.results import findings_of

Resource = dict[str, Any]

ATTEMPTS = 3
LINKS = {"DiagnosticReport": ("basedOn", "encounter")}  # of all others the encounter alone
STATED = frozenset({"Media", "Observation"})
WITHDRAWN = frozenset({"entered-in-error", "cancelled", "superseded"})

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """What a study says about its order.

    Attributes:
        accession: ImagingStudy.identifier of the accession number, if it has one.
    """

    uid: str
    accession: Resource | None


class OrderLinks:
    """Finds the orders of a study."""

    def __init__(self, records: Records, orders: ImagingOrders) -> None:
        self._records = records
        self._orders = orders

    async def candidates(self, study: StudyFacts) -> list[KnownOrder]:
        """Orders that a study may belong to, the surest first.

        The Study Instance UID that modalities were given decides; else the accession number with
        its issuer. A study that names no issuer has its number compared with every issuer's:
        whoever uses the answer must then see that the patient is the same.
        """
        found = await self._orders.of_study(study.uid)
        if found or study.accession is None:
            return found
        system, value = study.accession["system"], study.accession["value"]
        same = await self._orders.of_accession(value)
        exact = [order for order in same if order.accession_system == system]
        if exact:
            return exact
        if system == identifiers.accession_system(None):
            return same
        return await self._unfollowed(system, value)

    async def _unfollowed(self, system: str, value: str) -> list[KnownOrder]:
        """Orders that no category marks as imaging, by accession number and issuer."""
        params = {"identifier": identifiers.token(system, value)}
        found = await self._records.search("ServiceRequest", params)
        return [
            KnownOrder(
                service_request=request["id"],
                study_uid=reading.study_uid_of(request),
                patient=str(request.get("subject", {}).get("reference", "")),
                patient_id="",
                encounter=request.get("encounter", {}).get("reference"),
                accession_system=system,
                accession=value,
                open=reading.is_open(request),
            )
            for request in found
            if request.get("status") != "entered-in-error"
        ]


def based_on(orders: Sequence[KnownOrder], accession: Resource | None) -> list[Resource]:
    """`basedOn` of a study: the orders, or as long as there is none the number alone."""
    if not orders:
        return [{"type": "ServiceRequest", "identifier": accession}] if accession else []
    named = {"identifier": accession} if accession else {}
    return [
        {"reference": order.reference, "type": "ServiceRequest", **named}
        for order in sorted(orders, key=lambda one: one.service_request)
    ]


def encounter_of(orders: Sequence[KnownOrder]) -> Resource | None:
    """The one encounter of all orders; None where they disagree or name none."""
    found = {order.encounter for order in orders if order.encounter}
    return {"reference": found.pop(), "type": "Encounter"} if len(found) == 1 else None


async def carry_over(records: Records, study: Resource, before: Resource) -> int:
    """Give a study's reports, their findings and files the order and encounter it gets.

    A link that is not the one which the study had before is somebody else's and stays; what was
    withdrawn is left as it is. Returns how many resources were changed.
    """
    params = {"imaging-study": f"ImagingStudy/{study['id']}"}
    reports = await records.search("DiagnosticReport", params)
    found = [one async for one in findings_of(records, reports, STATED)]
    changed = sum([await _linked(records, one, study, before) for one in (*reports, *found)])
    # After the reports: a file written meanwhile would have met another version of its report.
    for report in reports:
        files = await documents_of(records, f"DiagnosticReport/{report['id']}")
        changed += sum([await _linked(records, one, study, before) for one in files])
    return changed


async def _linked(records: Records, resource: Resource, study: Resource, before: Resource) -> int:
    for _ in range(ATTEMPTS):
        linked = _as_the_study(resource, study, before)
        if resource.get("status") in WITHDRAWN or linked == resource:
            return 0
        try:
            await records.update(linked)
        except VersionConflict:
            resource = await records.read(resource["resourceType"], resource["id"])
            continue
        log.info("orders.linked", resource=f"{resource['resourceType']}/{resource['id']}")
        return 1
    raise VersionConflict("a report changes faster than it can be read")


def _as_the_study(resource: Resource, study: Resource, before: Resource) -> Resource:
    """The resource with the study's links; one that the study has lost goes, number or not."""
    if resource["resourceType"] == "DocumentReference":
        ours, was = _listed(study), _listed(before)
        context = _linked_as(resource.get("context", {}), ("encounter",), ours, was)
        others = {name: value for name, value in resource.items() if name != "context"}
        return others | ({"context": context} if context else {})
    names = LINKS.get(resource["resourceType"], ("encounter",))
    return _linked_as(resource, names, study, before)


def _listed(study: Resource) -> Resource:
    """A study's encounter as a document has it: one of several that there may be."""
    return {"encounter": [study["encounter"]]} if "encounter" in study else {}


def _linked_as(
    element: Resource, names: Sequence[str], study: Resource, before: Resource
) -> Resource:
    linked = dict(element)
    for name in names:
        ours, now = study.get(name), element.get(name)
        if (literal(now) and now != before.get(name)) or not (literal(ours) or literal(now)):
            continue
        linked.pop(name, None)
        linked |= {name: ours} if ours else {}
    return linked


def literal(value: Any) -> list[Resource]:
    """The literal references of an element."""
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, dict) and "reference" in one]


def linked_by_others(value: Any) -> bool:
    """Whether somebody else has linked it: our own links say their type, and follow the orders."""
    return any("type" not in one for one in literal(value))
