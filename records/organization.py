"""The organization that runs this installation, as every part of it writes it."""

from __future__ import annotations

from typing import Any
from uuid import NAMESPACE_URL, uuid5

from records import identifiers

SYSTEM = f"{identifiers.SID}/organization"
PROFILE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-organization"


def organization(name: str) -> dict[str, Any]:
    """The same resource, with the same identifier, for the same name."""
    return {
        "resourceType": "Organization",
        "meta": {"profile": [PROFILE]},
        "identifier": [{"system": SYSTEM, "value": str(uuid5(NAMESPACE_URL, name))}],
        "active": True,
        "name": name,
    }


def condition(name: str) -> str:
    """Conditional query that finds it."""
    return identifiers.by_identifier(SYSTEM, organization(name)["identifier"][0]["value"])
