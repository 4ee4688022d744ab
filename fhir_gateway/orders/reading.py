"""An imaging order as FHIR holds it: the ServiceRequest and all that a worklist needs beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fhir_gateway.identity.merging import surviving
from records import NotFound, Records, codes, identifiers

Resource = dict[str, Any]

OFFERED = frozenset({"active"})
INTENTS = frozenset({"order", "original-order", "filler-order", "instance-order", "reflex-order"})
BOOKED = frozenset({"pending", "booked", "arrived", "checked-in"})
PLACES = frozenset({"Location", "Device", "HealthcareService"})
PEOPLE = frozenset({"Practitioner", "PractitionerRole"})


@dataclass(frozen=True, slots=True)
class Visit:
    """One booking of an order: an Appointment, or the ServiceRequest itself where there is none.

    Attributes:
        booking: the Appointment, or the ServiceRequest.
        places: Location, Device and HealthcareService of it.
        people: names (HumanName lists) of who performs.
    """

    booking: Resource
    places: list[Resource] = field(default_factory=list)
    people: list[list[Resource]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Order:
    """All that is known of one order.

    Attributes:
        request: the ServiceRequest.
        patient: the Patient, or the one that has taken its place.
        requester: names of who ordered.
        reasons: texts of the Conditions that are its reason.
        location: names of where the patient is, as its Encounter says.
    """

    request: Resource
    patient: Resource
    encounter: Resource | None
    requester: list[Resource]
    reasons: list[Resource]
    visits: list[Visit]
    location: str = ""


def is_imaging(request: Resource) -> bool:
    """Whether a ServiceRequest orders imaging: its category says so (US Core)."""
    wanted = (codes.IMAGING_ORDER.system, codes.IMAGING_ORDER.code)
    return any(
        (coding.get("system"), coding.get("code")) == wanted
        for category in request.get("category", [])
        for coding in category.get("coding", [])
    )


def is_open(request: Resource) -> bool:
    """Whether it is to be done."""
    return (
        request.get("status") in OFFERED
        and request.get("intent") in INTENTS
        and not request.get("doNotPerform", False)
    )


async def read_order(records: Records, request: Resource) -> Order:
    """Gather what belongs to a ServiceRequest; what is named and not there is passed over.

    Raises:
        NotFound: the patient is not there.
    """
    patient = await surviving(records, request.get("subject", {}).get("reference", ""))
    encounter = await _read(records, request.get("encounter"), {"Encounter"})
    reasons = [
        await _read(records, one, {"Condition"}) for one in request.get("reasonReference", [])
    ]
    return Order(
        request=request,
        patient=patient,
        encounter=encounter,
        requester=await _names(records, request.get("requester")),
        reasons=[one["code"] for one in reasons if one and "code" in one],
        visits=await _visits(records, request),
        location=await _where(records, encounter),
    )


async def _visits(records: Records, request: Resource) -> list[Visit]:
    """Its appointments that are to come; without any appointment the time in the order itself."""
    found = await records.search("Appointment", {"based-on": f"ServiceRequest/{request['id']}"})
    if not found:
        return [await _own_visit(records, request)]
    booked = [one for one in found if one.get("status") in BOOKED]
    return [await _visit(records, one) for one in sorted(booked, key=_by_start)]


def _by_start(appointment: Resource) -> tuple[str, str]:
    return (str(appointment.get("start", "")), str(appointment["id"]))


async def _visit(records: Records, appointment: Resource) -> Visit:
    actors = [
        one.get("actor")
        for one in appointment.get("participant", [])
        if one.get("status") != "declined"
    ]
    return Visit(appointment, await _places(records, actors), await _people(records, actors))


async def _own_visit(records: Records, request: Resource) -> Visit:
    performers = request.get("performer", [])
    places = await _places(records, [*request.get("locationReference", []), *performers])
    return Visit(request, places, await _people(records, performers))


async def _places(records: Records, references: Iterable[Resource | None]) -> list[Resource]:
    found = [await _read(records, one, PLACES) for one in references]
    return [one for one in found if one is not None]


async def _people(records: Records, references: Iterable[Resource | None]) -> list[list[Resource]]:
    found = [await _names(records, one) for one in references if _type(one) in PEOPLE]
    return [names for names in found if names]


async def _names(records: Records, reference: Resource | None) -> list[Resource]:
    """The names of a person that a reference leads to, or its display."""
    found = await _read(records, reference, PEOPLE)
    if found is not None and found["resourceType"] == "PractitionerRole":
        found = await _read(records, found.get("practitioner"), PEOPLE)
    if found is not None and found.get("name"):
        return list(found["name"])
    display = (reference or {}).get("display")
    return [{"text": display}] if display else []


async def _where(records: Records, encounter: Resource | None) -> str:
    for stay in reversed((encounter or {}).get("location", [])):
        if stay.get("status", "active") != "active":
            continue
        place = await _read(records, stay.get("location"), {"Location"})
        name = (place or {}).get("name") or stay.get("location", {}).get("display")
        if name:
            return str(name)
    return ""


async def _read(
    records: Records, reference: Resource | None, kinds: Iterable[str]
) -> Resource | None:
    """A resource of our own store, if the reference leads to one of these types."""
    parts = str((reference or {}).get("reference", "")).split("/")
    if len(parts) < 2 or parts[-2] not in kinds or "://" in str(reference):
        return None
    try:
        return await records.read(parts[-2], parts[-1])
    except NotFound:
        return None


def _type(reference: Resource | None) -> str:
    text = str((reference or {}).get("reference", ""))
    return text.split("/")[-2] if "/" in text else str((reference or {}).get("type", ""))


def accession_of(request: Resource) -> Resource | None:
    """The accession number among a ServiceRequest's identifiers."""
    return identifier_of_type(request, codes.ACCESSION_TYPE)


def identifier_of_type(resource: Resource, kind: codes.Code) -> Resource | None:
    """The first identifier of a type."""
    for identifier in resource.get("identifier", []):
        for coding in identifier.get("type", {}).get("coding", []):
            same = (coding.get("system"), coding.get("code")) == (kind.system, kind.code)
            if same and identifier.get("value"):
                return dict(identifier)
    return None


def study_uid_of(request: Resource) -> str:
    """The Study Instance UID of an order: its own identifier, or one made of the order's id."""
    return identifiers.study_uid_of(request) or made_study_uid(str(request["id"]))


def made_study_uid(request_id: str) -> str:
    """A UID below 2.25 that always comes out the same for the same order (PS3.5 B.2)."""
    return identifiers.derived_uid("study of", request_id)
