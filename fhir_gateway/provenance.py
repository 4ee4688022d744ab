"""Where a Patient and an ImagingStudy of ours come from (US Core Provenance)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from records import codes, identifiers
from records import organization as organizations

Resource = dict[str, Any]

US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition"
DEVICE = f"{identifiers.SID}/device"
DATA_OPERATION = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"
CREATE = {"coding": [{"system": DATA_OPERATION, "code": "CREATE", "display": "create"}]}


def creation(study_uid: str, targets: Sequence[str], organization: str) -> list[Resource]:
    """The entries that say how resources have been made of a study's images.

    Args:
        targets: references of what is created in the same transaction.
        organization: name of who keeps the archive.
    """
    owner, gateway = identifiers.urn_uuid("Organization"), identifiers.urn_uuid("Device")
    name = identifiers.derived_uuid("Provenance", study_uid)
    behalf = {"onBehalfOf": {"reference": owner}}
    provenance = {
        "resourceType": "Provenance",
        "id": name,
        "meta": {"profile": [f"{US_CORE}/us-core-provenance"]},
        "target": [{"reference": target} for target in targets],
        "recorded": datetime.now(UTC).isoformat(timespec="seconds"),
        "activity": CREATE,
        "agent": [
            {
                "type": codes.concept(codes.AUTHOR, text="Author"),
                "who": {"reference": owner},
                **behalf,
            },
            {
                "type": codes.concept(codes.TRANSMITTER, text="Transmitter"),
                "who": {"reference": gateway},
                **behalf,
            },
        ],
        "entity": [
            {"role": "source", "what": {"identifier": identifiers.study_identifier(study_uid)}}
        ],
    }
    return [
        _conditional(owner, organizations.organization(organization)),
        _conditional(gateway, _device()),
        {
            "fullUrl": f"urn:uuid:{name}",
            "resource": provenance,
            "request": {"method": "PUT", "url": f"Provenance/{name}"},
        },
    ]


def _device() -> Resource:
    return {
        "resourceType": "Device",
        "identifier": [{"system": DEVICE, "value": "gateway"}],
        "status": "active",
        "manufacturer": "Hilum",
        "deviceName": [{"name": "Hilum gateway", "type": "user-friendly-name"}],
    }


def _conditional(url: str, resource: Resource) -> Resource:
    name = resource["identifier"][0]
    condition = identifiers.by_identifier(name["system"], name["value"])
    request = {"method": "POST", "url": resource["resourceType"], "ifNoneExist": condition}
    return {"fullUrl": url, "resource": resource, "request": request}
