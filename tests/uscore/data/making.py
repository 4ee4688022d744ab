"""How the example resources are written down shortly: references, codes, ids, narrative."""

from __future__ import annotations

from typing import Any

PREFIX = "uscore-"
PROFILES = "http://hl7.org/fhir/us/core/StructureDefinition/"
EXTENSIONS = PROFILES
SYSTEM = "https://hilum.dev/fhir/sid/example"
LOINC = "http://loinc.org"
SCT = "http://snomed.info/sct"
UCUM = "http://unitsofmeasure.org"
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"
OBSERVATION_CATEGORY = f"{TERMINOLOGY}observation-category"
US_CORE_CATEGORY = "http://hl7.org/fhir/us/core/CodeSystem/us-core-category"
DATA_ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
ABSENT_EXTENSION = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
Json = dict[str, Any]


def resource(kind: str, name: str, profile: str | None = None, /, **content: Any) -> Json:
    """A resource with an id of ours, its US Core profile and a narrative."""
    made: Json = {"resourceType": kind, "id": PREFIX + name}
    if profile is not None:
        made["meta"] = {"profile": [PROFILES + profile]}
    made["text"] = {
        "status": "generated",
        "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{kind} of the example data</div>',
    }
    return made | content


def to(path: str) -> Json:
    """A reference to one of ours: `Patient/amelia`."""
    kind, name = path.split("/")
    return {"reference": f"{kind}/{PREFIX}{name}"}


def coding(system: str, code: str, display: str | None = None) -> Json:
    """A Coding."""
    return {"system": system, "code": code} | ({"display": display} if display else {})


def concept(system: str, code: str, display: str | None = None, text: str | None = None) -> Json:
    """A CodeableConcept of one coding."""
    shown = text or display
    return {"coding": [coding(system, code, display)]} | ({"text": shown} if shown else {})


def identifier(
    value: str, system: str = SYSTEM, assigner: str | None = "Organization/main"
) -> Json:
    """An identifier that an organization gave."""
    made: Json = {"system": system, "value": value}
    return made | ({"assigner": to(assigner)} if assigner else {})


def npi(value: str) -> Json:
    """A national provider identifier."""
    return identifier(value, "http://hl7.org/fhir/sid/us-npi", assigner=None)


def category(code: str, system: str = OBSERVATION_CATEGORY) -> Json:
    """A category of an observation."""
    return concept(system, code)


def period(start: str, end: str) -> Json:
    """A Period."""
    return {"start": start, "end": end}


PHONE = {"system": "phone", "value": "+1 555 0100", "use": "work"}
ADDRESS = {
    "line": ["1 Phantom Street"],
    "city": "Springfield",
    "state": "MA",
    "postalCode": "01101",
    "country": "US",
}
