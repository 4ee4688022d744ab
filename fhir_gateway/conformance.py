"""`/fhir/metadata`: the store's CapabilityStatement, cut down to what this door lets through."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fhir_gateway.config import GatewayConfig
from fhir_gateway.model import HIDDEN_TYPES
from fhir_gateway.topics.capability import subscription_resource

OPERATIONS_ON_TYPES = frozenset({"validate", "everything", "export"})
SYSTEM_OPERATIONS = frozenset({"export"})
SECURITY_TEXT = (
    "Every request but this one needs a bearer token whose SMART v2 scopes (system/ or user/) "
    "grant the resource type and interaction. Nothing else is allowed."
)


def capability_statement(store: dict[str, Any], config: GatewayConfig) -> dict[str, Any]:
    """What a client may rely on here.

    Args:
        store: CapabilityStatement of the FHIR store.
    """
    rest = store["rest"][0]
    kept = {k: v for k, v in store.items() if k not in ("text", "implementationGuide")}
    return {
        **kept,
        "id": "hilum",
        "name": "Hilum",
        "title": "Hilum imaging interoperability server",
        "publisher": "Hilum",
        "kind": "instance",
        "software": {"name": "Hilum", "version": software_version()},
        "implementation": {
            "description": "Hilum imaging interoperability server",
            "url": config.fhir_base,
        },
        "format": ["application/fhir+json", "json"],
        "patchFormat": ["application/json-patch+json"],
        "rest": [
            {
                "mode": "server",
                "security": {"cors": True, "description": SECURITY_TEXT},
                "resource": [
                    *(_resource(o) for o in rest["resource"] if o["type"] not in HIDDEN_TYPES),
                    subscription_resource(),
                ],
                "interaction": [{"code": "transaction"}, {"code": "batch"}],
                "operation": _operations(rest, SYSTEM_OPERATIONS),
            }
        ],
    }


def software_version() -> str:
    """Our own version."""
    try:
        return version("hilum")
    except PackageNotFoundError:
        return "unknown"  # run from a checkout that was never installed


def _resource(resource: dict[str, Any]) -> dict[str, Any]:
    own = {
        **resource,
        "searchInclude": [one for one in resource.get("searchInclude", []) if one != "*"],
        "operation": _operations(resource, OPERATIONS_ON_TYPES),
    }
    if resource["type"] == "Binary":  # read by id only
        hidden = ("search-type", "history-type", "history-instance", "vread")
        own["interaction"] = [i for i in resource["interaction"] if i["code"] not in hidden]
        own["searchParam"] = []
    own = {name: value for name, value in own.items() if value != []}
    return own


def _operations(holder: dict[str, Any], allowed: frozenset[str]) -> list[dict[str, Any]]:
    return [one for one in holder.get("operation", []) if one["name"] in allowed]
