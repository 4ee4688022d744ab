"""The Endpoint that every ImagingStudy points to: our WADO-RS service."""

from __future__ import annotations

from typing import Any

from records import codes, identifiers

REQUIRES_ACCESS_TOKEN = (
    "http://fhir.org/argonaut/smart-imaging/StructureDefinition/requires-access-token"  # noqa: S105
)
IDENTITY = "dicomweb"


def to_endpoint(dicomweb_base: str) -> dict[str, Any]:
    """The Endpoint of SMART Imaging Access, IHE IMR and MADO at once.

    Args:
        dicomweb_base: public base URL, without /studies.
    """
    return {
        "resourceType": "Endpoint",
        "extension": [{"url": REQUIRES_ACCESS_TOKEN, "valueBoolean": True}],
        "identifier": [{"system": identifiers.ENDPOINT, "value": IDENTITY}],
        "status": "active",
        "connectionType": codes.WADO_RS.coding,
        "name": "Hilum DICOMweb",
        "payloadType": [
            codes.concept(codes.ANY_PAYLOAD, codes.STUDY_PAYLOAD, text="DICOM WADO-RS")
        ],
        "payloadMimeType": ["application/dicom"],
        "address": dicomweb_base,
    }


def condition() -> str:
    """Conditional query that finds it."""
    return identifiers.by_identifier(identifiers.ENDPOINT, IDENTITY)
