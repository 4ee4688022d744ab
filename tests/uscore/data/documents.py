"""Clinical notes, and who wrote and sent what."""

from __future__ import annotations

import base64
from hashlib import sha1

from tests.uscore.data.care import AMELIA
from tests.uscore.data.making import (
    LOINC,
    TERMINOLOGY,
    Json,
    coding,
    concept,
    identifier,
    period,
    resource,
    to,
)

NOTE_CATEGORY = concept(
    "http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category",
    "clinical-note",
    "Clinical Note",
)
FORMAT = coding(
    "http://ihe.net/fhir/ihe.formatcode.fhir/CodeSystem/formatcode",
    "urn:ihe:iti:xds:2017:mimeTypeSufficient",
)
NOTE = b"Phantom report: lesion unchanged."


def attachment() -> Json:
    """The rendition that both the report and its DocumentReference show."""
    return {
        "contentType": "text/plain",
        "data": base64.b64encode(NOTE).decode(),
        "size": len(NOTE),
        "hash": base64.b64encode(sha1(NOTE).digest()).decode(),
        "title": "Radiology report",
    }


def note() -> Json:
    """The radiology report as a document, with every reference that a document may have."""
    return resource(
        "DocumentReference",
        "note",
        "us-core-documentreference",
        identifier=[identifier("DOC-1")],
        status="current",
        type=concept(LOINC, "18748-4", "Diagnostic imaging study"),
        category=[NOTE_CATEGORY],
        subject=AMELIA,
        date="2024-03-10T12:00:00Z",
        author=[to("Practitioner/reader")],
        authenticator=to("Practitioner/reader"),
        custodian=to("Organization/main"),
        relatesTo=[{"code": "replaces", "target": to("DocumentReference/draft")}],
        content=[{"attachment": attachment(), "format": FORMAT}],
        context={
            "encounter": [to("Encounter/visit")],
            "period": period("2024-03-10T09:00:00Z", "2024-03-10T12:00:00Z"),
            "sourcePatientInfo": AMELIA,
            "related": [to("DiagnosticReport/mri")],
        },
    )


def draft() -> Json:
    """The note that was replaced: its content is elsewhere."""
    return resource(
        "DocumentReference",
        "draft",
        "us-core-documentreference",
        identifier=[identifier("DOC-0")],
        status="superseded",
        type=concept(LOINC, "11506-3", "Progress note"),
        category=[NOTE_CATEGORY],
        subject=AMELIA,
        date="2024-03-09T12:00:00Z",
        author=[to("Practitioner/technologist")],
        content=[
            {
                "attachment": {
                    "contentType": "application/pdf",
                    "url": "https://imaging.example.org/notes/0.pdf",
                },
                "format": FORMAT,
            }
        ],
        context={
            "encounter": [to("Encounter/visit")],
            "period": period("2024-03-09T09:00:00Z", "2024-03-09T12:00:00Z"),
        },
    )


def agent(code: str, who: str, system: str = f"{TERMINOLOGY}provenance-participant-type") -> Json:
    """Somebody who acted, for the hospital."""
    behalf = to("Organization/main")
    return {"type": concept(system, code), "who": to(who), "onBehalfOf": behalf}


def provenances(targets: list[Json]) -> list[Json]:
    """Who wrote and who sent all of it; and an older version with other roles."""
    sent = "http://hl7.org/fhir/us/core/CodeSystem/us-core-provenance-participant-type"
    main = resource(
        "Provenance",
        "main",
        "us-core-provenance",
        target=[{"reference": f"{one['resourceType']}/{one['id']}"} for one in targets],
        recorded="2024-03-10T12:00:00Z",
        location=to("Location/scanner"),
        agent=[
            agent("author", "Organization/main"),
            agent("author", "Practitioner/reader"),
            agent("transmitter", "Organization/main", sent),
        ],
        entity=[{"role": "source", "what": to("ImagingStudy/mri")}],
    )
    return [main]


def documents() -> list[Json]:
    """The notes."""
    return [note(), draft()]
