"""`/fhir/metadata`: what this door lets through, and nothing else.

The types, parameters and includes are those that the grammar accepts (fhir_gateway.model), not
those that the store lists; tests/uscore/test_capabilities.py probes each of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fhir_gateway import us_core
from fhir_gateway.config import GatewayConfig
from fhir_gateway.model import ServerModel
from fhir_gateway.topics.capability import subscription_resource
from fhir_gateway.us_core import Asked

Json = dict[str, Any]
BULK = "http://hl7.org/fhir/uv/bulkdata/"
EXPECTATION = "http://hl7.org/fhir/StructureDefinition/capabilitystatement-expectation"
COMBINATION = (
    "http://hl7.org/fhir/StructureDefinition/capabilitystatement-search-parameter-combination"
)
SMART = {
    "system": "http://terminology.hl7.org/CodeSystem/restful-security-service",
    "code": "SMART-on-FHIR",
}
SECURITY_TEXT = (
    "Every request but this one needs a bearer token whose SMART scopes grant the resource type "
    "and the interaction, and show the resource; see .well-known/smart-configuration. What no "
    "scope grants is refused."
)
INTERACTIONS = (
    "read",
    "vread",
    "history-instance",
    "history-type",
    "search-type",
    "create",
    "update",
    "patch",
    "delete",
)
# A Binary is read by its id: who may see it is decided by what its securityContext names.
BINARY = ("read", "create", "update", "delete")
# Two exist only inside requests and answers; of the third the store shows its own, under its ids.
NOT_STORED = frozenset({"OperationOutcome", "Parameters", "OperationDefinition"})
EVERYTHING = {
    "name": "everything",
    "definition": "http://hl7.org/fhir/OperationDefinition/Patient-everything",
}
VALIDATE = {
    "name": "validate",
    "definition": "http://hl7.org/fhir/OperationDefinition/Resource-validate",
}
DOCREF = {
    "name": "docref",
    "definition": "http://hl7.org/fhir/us/core/OperationDefinition/docref",
    "documentation": (
        "Finds stored documents of every type by patient, care dates, type and profile; none are "
        "made on demand."
    ),
}


def _export(level: str) -> Json:
    return {"name": "export", "definition": f"{BULK}OperationDefinition/{level}"}


OPERATIONS = {
    "Patient": (EVERYTHING, _export("patient-export")),
    "Group": (_export("group-export"),),
    "DocumentReference": (DOCREF,),
}


def capability_statement(store: Json, config: GatewayConfig) -> Json:
    """What a client may rely on here.

    Args:
        store: CapabilityStatement of the FHIR store.
    """
    model = ServerModel.of(store)
    wanted = us_core.asked(config.profiles)
    listed = {one["type"]: one for one in store["rest"][0]["resource"]}
    kinds = sorted(kind for kind in model.parameters if kind not in NOT_STORED)
    return {
        "resourceType": "CapabilityStatement",
        "id": "hilum",
        "name": "Hilum",
        "title": "Hilum imaging interoperability server",
        "status": "active",
        "date": store["date"],
        "publisher": "Hilum",
        "kind": "instance",
        "instantiates": [us_core.SERVER, f"{BULK}CapabilityStatement/bulk-data"],
        "software": {"name": "Hilum", "version": software_version()},
        "implementation": {
            "description": "Hilum imaging interoperability server",
            "url": config.fhir_base,
        },
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "json"],
        "patchFormat": ["application/json-patch+json"],
        "implementationGuide": [f"http://hl7.org/fhir/us/core|{us_core.IN_FORCE}"],
        "rest": [
            {
                "mode": "server",
                "security": _security(config),
                "resource": [
                    *(_resource(k, listed[k], model, wanted.get(k, Asked())) for k in kinds),
                    subscription_resource(),
                ],
                "interaction": [{"code": "transaction"}, {"code": "batch"}],
                "operation": [_export("export")],
            }
        ],
    }


def _security(config: GatewayConfig) -> Json:
    """Older clients find the authorization server here; newer ones by .well-known."""
    names = ("authorize", "token", "introspect", "revoke")
    addresses = {name: f"{config.public_url}/auth/{name}" for name in names}
    found = {
        "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
        "extension": [{"url": name, "valueUri": url} for name, url in addresses.items()],
    }
    return {
        "extension": [found],
        "cors": True,
        "service": [{"coding": [SMART]}],
        "description": SECURITY_TEXT,
    }


def software_version() -> str:
    """Our own version."""
    try:
        return version("hilum")
    except PackageNotFoundError:
        return "unknown"  # run from a checkout that was never installed


def _resource(kind: str, listed: Json, model: ServerModel, asked: Asked) -> Json:
    """One type, as the grammar treats it."""
    binary = kind == "Binary"  # never searched
    found = {
        "extension": [] if binary else [_combination(one) for one in _together(asked)],
        "type": kind,
        "profile": listed["profile"],
        "supportedProfile": list(asked.profiles),
        "interaction": [{"code": code} for code in (BINARY if binary else INTERACTIONS)],
        "versioning": "versioned-update",
        "conditionalCreate": not binary,
        "conditionalUpdate": not binary,
        "conditionalDelete": "not-supported" if binary else "single",
        "searchInclude": [] if binary else _includes(kind, model),
        "searchRevInclude": [] if binary else _reverse(kind, model),
        "searchParam": [] if binary else _parameters(kind, listed, model, asked),
        "operation": [] if binary else [*OPERATIONS.get(kind, ()), VALIDATE],
    }
    return {name: value for name, value in found.items() if value != []}


def _parameters(kind: str, listed: Json, model: ServerModel, asked: Asked) -> list[Json]:
    known = {one["name"]: one for one in listed.get("searchParam", [])}
    alone = {names[0] for names in asked.searches if len(names) == 1}
    found = []
    for name, sort in sorted(model.parameters[kind].items()):
        one: Json = {"name": name, "type": sort}
        if "definition" in known.get(name, {}):
            one["definition"] = known[name]["definition"]
        found.append(({"extension": [_shall()]} | one) if name in alone else one)
    return found


def _together(asked: Asked) -> Iterable[tuple[str, ...]]:
    return sorted(names for names in asked.searches if len(names) > 1)


def _combination(names: tuple[str, ...]) -> Json:
    required = [{"url": "required", "valueString": name} for name in names]
    return {"url": COMBINATION, "extension": [_shall(), *required]}


def _shall() -> Json:
    return {"url": EXPECTATION, "valueCode": "SHALL"}


def _includes(kind: str, model: ServerModel) -> list[str]:
    parameters = model.parameters[kind].items()
    return sorted(f"{kind}:{name}" for name, sort in parameters if sort == "reference")


def _reverse(kind: str, model: ServerModel) -> list[str]:
    return sorted(
        f"{source}:{name}"
        for (source, name), targets in model.targets.items()
        if kind in targets and model.kind(source, name) == "reference"
    )
