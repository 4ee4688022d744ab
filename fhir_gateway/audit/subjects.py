"""Whom a resource, or an answer of the FHIR store, is about; for the audit trail."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

_LOCATION = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})/_history/", re.ASCII)
Resource = Mapping[str, Any]


def patient_of(resource: Resource) -> str | None:
    """The Patient that a resource is about, as `Patient/1`."""
    if resource.get("resourceType") == "Patient" and "id" in resource:
        return f"Patient/{resource['id']}"
    for name in ("subject", "patient", "for", "beneficiary"):
        value = resource.get(name)
        reference = value.get("reference") if isinstance(value, Mapping) else None
        if isinstance(reference, str) and (at := reference.find("Patient/")) >= 0:
            return reference[at:].split("/_history/", 1)[0]
    return None


def patients_in(bundle: Resource) -> tuple[str, ...]:
    """Each Patient that a Bundle hands out something about, once."""
    entries = bundle.get("entry", [])
    found = (patient_of(one["resource"]) for one in entries if "resource" in one)
    return tuple(dict.fromkeys(one for one in found if one is not None))


def resource_in(part: bytes) -> Resource | None:
    """The resource that an answer is, where its beginning is all of it."""
    try:
        found = orjson.loads(part)
    except orjson.JSONDecodeError:
        return None
    is_resource = isinstance(found, dict) and found.get("resourceType") != "OperationOutcome"
    return found if is_resource else None


def located(location: str | None) -> Resource | None:
    """What a Location names: all that is told of a resource to who wants no content back."""
    match = _LOCATION.search(location or "")
    return {"resourceType": match[1], "id": match[2]} if match else None
