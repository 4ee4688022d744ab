"""Which orders a study belongs to, and what follows from that for the study and its reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from fhir_gateway.identity.moving import findings_of
from fhir_gateway.orders import reading
from fhir_gateway.orders.table import ImagingOrders, KnownOrder
from records import Records, VersionConflict, identifiers

Resource = dict[str, Any]

ATTEMPTS = 3
LINKS = {"BodyStructure": (), "DiagnosticReport": ("basedOn", "encounter")}
WITHDRAWN = frozenset({"entered-in-error", "cancelled"})

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


async def carry_over(records: Records, study: Resource) -> int:
    """Give a study's reports and their findings the order and encounter of the study.

    What somebody else has linked stays; what was withdrawn is left as it is. Returns how many
    resources were changed.
    """
    params = {"imaging-study": f"ImagingStudy/{study['id']}"}
    reports = await records.search("DiagnosticReport", params)
    found = [one async for one in findings_of(records, reports)] if "encounter" in study else []
    return sum([await _linked(records, one, study) for one in (*reports, *found)])


async def _linked(records: Records, resource: Resource, study: Resource) -> int:
    for _ in range(ATTEMPTS):
        missing = _missing(resource, study)
        if resource.get("status") in WITHDRAWN or not missing:
            return 0
        try:
            await records.update({**resource, **missing})
        except VersionConflict:
            resource = await records.read(resource["resourceType"], resource["id"])
            continue
        log.info("orders.linked", resource=f"{resource['resourceType']}/{resource['id']}")
        return 1
    raise VersionConflict("a report changes faster than it can be read")


def _missing(resource: Resource, study: Resource) -> Resource:
    """Links of the study that the resource has not got, or has by number only."""
    names = LINKS.get(resource["resourceType"], ("encounter",))
    return {
        name: study[name]
        for name in names
        if name in study and _is_literal(study[name]) and not _is_literal(resource.get(name))
    }


def _is_literal(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return any(isinstance(one, dict) and "reference" in one for one in values)
