"""Provenance of what people and workers do to a report (US Core Provenance)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from records import codes, identifiers

Resource = dict[str, Any]

PROFILE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-provenance"
DATA_OPERATION = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"
CREATE = {"coding": [{"system": DATA_OPERATION, "code": "CREATE", "display": "create"}]}
UPDATE = {"coding": [{"system": DATA_OPERATION, "code": "UPDATE", "display": "revise"}]}


def by_person(
    target: Resource,
    person: Resource,
    organization: Resource,
    *,
    role: codes.Code = codes.ATTESTER,
    also: Sequence[str] = (),
) -> Resource:
    """What a person has done to a resource: an edit, or with the role attester a sign-off.

    Args:
        target: as stored after it, with its version: each version has one Provenance at most.
        person: reference to a Practitioner or PractitionerRole.
        organization: reference to whom the person acted for.
        also: further targets that went with it.
    """
    reference = f"{target['resourceType']}/{target['id']}"
    version = str(target["meta"]["versionId"])
    agent = {"who": person, "onBehalfOf": organization}
    return {
        "resourceType": "Provenance",
        "id": identifiers.derived_uuid("provenance", reference, version),
        "meta": {"profile": [PROFILE]},
        "target": [{"reference": name} for name in (reference, *also)],
        "recorded": target["meta"]["lastUpdated"],
        "activity": UPDATE,
        "agent": [
            {"type": codes.concept(codes.AUTHOR, text="Author"), **agent},
            {"type": codes.concept(role, text=role.display), **agent},
        ],
        "entity": [
            {
                "role": "revision",
                "what": {"reference": f"{reference}/_history/{max(int(version) - 1, 1)}"},
            }
        ],
    }


def by_rendering(report: Resource, documents: Sequence[Resource], digest: str) -> Resource | None:
    """That the documents of a report were made of it, for the organization that it is by.

    Args:
        digest: of the input that they were made from: each rendering has one Provenance.

    Returns:
        None when the report names no organization.
    """
    performers = [one for one in report.get("performer", []) if _is_organization(one)]
    if not performers:
        return None
    agent = {"who": performers[0], "onBehalfOf": performers[0]}
    return {
        "resourceType": "Provenance",
        "id": identifiers.derived_uuid("provenance", "rendering", str(report["id"]), digest),
        "meta": {"profile": [PROFILE]},
        "target": [{"reference": f"DocumentReference/{one['id']}"} for one in documents],
        "recorded": report["issued"],
        "activity": CREATE,
        "agent": [
            {"type": codes.concept(codes.AUTHOR, text="Author"), **agent},
            {"type": codes.concept(codes.ASSEMBLER, text="Assembler"), **agent},
        ],
        "entity": [{"role": "source", "what": {"reference": f"DiagnosticReport/{report['id']}"}}],
    }


def _is_organization(reference: Resource) -> bool:
    return str(reference.get("reference", "")).startswith("Organization/")
