"""Twenty ways to spoil what Hilum writes; the validator must see each of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
RACE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race"
CDCREC = "urn:oid:2.16.840.1.113883.6.238"
REPORT = "https://hilum.dev/fhir/StructureDefinition/hilum-diagnostic-report"


@dataclass(frozen=True)
class Defect:
    """One change to a valid resource, and a word that the error must have."""

    name: str
    kind: str
    spoil: Callable[[Json], None]
    word: str

    def spoiled(self, resource: Json) -> Json:
        """A copy of the resource with the defect in it."""
        copy = json.loads(json.dumps(resource))
        self.spoil(copy)
        return copy


def put(value: Any, *path: Any) -> Callable[[Json], None]:
    """Replaces what is at a path."""

    def spoil(resource: Json) -> None:
        holder: Any = resource
        for step in path[:-1]:
            holder = holder[step]
        if isinstance(holder, list) and path[-1] == len(holder):
            holder.append(value)
        else:
            holder[path[-1]] = value

    return spoil


def drop(*path: Any) -> Callable[[Json], None]:
    """Takes away what is at a path."""

    def spoil(resource: Json) -> None:
        holder: Any = resource
        for step in path[:-1]:
            holder = holder[step]
        del holder[path[-1]]

    return spoil


def wrong_race(resource: Json) -> None:
    """A code that the CDC's system does not have."""
    category = {"system": CDCREC, "code": "9999-9", "display": "Martian"}
    resource["extension"] = [
        {
            "url": RACE,
            "extension": [
                {"url": "ombCategory", "valueCoding": category},
                {"url": "text", "valueString": "Martian"},
            ],
        }
    ]


def wrong_category(resource: Json) -> None:
    """US Core's slice is open: our own profile says that one category must be of it."""
    resource["meta"]["profile"].append(REPORT)
    resource["category"] = [{"coding": [{"system": "http://loinc.org", "code": "18748-4"}]}]


def coded(code: str, *path: Any) -> Callable[[Json], None]:
    """Another code, without the display of the right one."""

    def spoil(resource: Json) -> None:
        coding: Any = resource
        for step in path:
            coding = coding[step]
        coding.pop("display", None)
        coding["code"] = code

    return spoil


DEFECTS = (
    Defect("a race that does not exist", "Patient", wrong_race, "9999-9"),
    Defect("no name", "Patient", drop("name"), "name"),
    Defect("no identifier", "Patient", drop("identifier"), "identifier"),
    Defect(
        "an identifier without its system", "Patient", drop("identifier", 0, "system"), "system"
    ),
    Defect("a day that does not exist", "Patient", put("1970-02-30", "birthDate"), "1970-02-30"),
    Defect("a gender that does not exist", "Patient", put("robot", "gender"), "robot"),
    Defect(
        "a LOINC code with a wrong digit",
        "Observation",
        coded("21889-2", "code", "coding", 0),
        "21889-2",
    ),
    Defect(
        "a LOINC code of something else",
        "Observation",
        coded("718-7", "code", "coding", 0),
        "718-7",
    ),
    Defect(
        "a SNOMED CT code with a wrong digit",
        "Observation",
        coded("118565007", "code", "coding", 1),
        "118565007",
    ),
    Defect(
        "a body site of something else",
        "Observation",
        coded("25064002", "bodySite", "coding", 0),
        "25064002",
    ),
    Defect(
        "a code of ours that is none",
        "Observation",
        coded("XYZ", "code", "coding", 2),
        "XYZ",
    ),
    Defect("a unit that is none", "Observation", put("mLL", "valueQuantity", "code"), "mLL"),
    Defect("no subject", "Observation", drop("subject"), "subject"),
    Defect(
        "a category that does not exist",
        "Observation",
        coded("picture", "category", 0, "coding", 0),
        "picture",
    ),
    Defect(
        "a report of no category that is allowed", "DiagnosticReport", wrong_category, "category"
    ),
    Defect("a status that does not exist", "DiagnosticReport", put("maybe", "status"), "maybe"),
    Defect("no code of the report", "DiagnosticReport", drop("code"), "code"),
    Defect(
        "a modality that does not exist",
        "ImagingStudy",
        put("QQ", "series", 0, "modality", "code"),
        "QQ",
    ),
    Defect(
        "an instance identifier that is none",
        "ImagingStudy",
        put("2.25_7", "series", 0, "instance", 0, "uid"),
        "2.25_7",
    ),
    Defect(
        "an instance without its SOP class",
        "ImagingStudy",
        drop("series", 0, "instance", 0, "sopClass"),
        "sopClass",
    ),
    Defect("an agent who is nobody", "Provenance", drop("agent", 0, "who"), "who"),
    Defect(
        "a role that does not exist",
        "Provenance",
        coded("scribbler", "agent", 0, "type", "coding", 0),
        "scribbler",
    ),
    Defect(
        "a connection that does not exist",
        "Endpoint",
        coded("dicom-pigeon", "connectionType"),
        "dicom-pigeon",
    ),
)
