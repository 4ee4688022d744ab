"""The US Core packages themselves: profiles and the server's CapabilityStatement."""

from __future__ import annotations

import json
import tarfile
from functools import cache
from typing import Any

from tests.uscore.bar import FOLDER

EXPECTATION = "http://hl7.org/fhir/StructureDefinition/capabilitystatement-expectation"
COMBINATION = (
    "http://hl7.org/fhir/StructureDefinition/capabilitystatement-search-parameter-combination"
)
USCDI = "http://hl7.org/fhir/us/core/StructureDefinition/uscdi-requirement"
SERVER = "http://hl7.org/fhir/us/core/CapabilityStatement/us-core-server"


@cache
def package(version: str) -> dict[str, dict[str, Any]]:
    """Every conformance resource of one package by its canonical URL."""
    found: dict[str, dict[str, Any]] = {}
    with tarfile.open(FOLDER / f"us_core_{version.replace('.', '')}.tgz") as archive:
        for member in archive:
            if not member.name.endswith(".json") or member.name.count("/") != 1:
                continue
            content = json.load(archive.extractfile(member))
            if "url" in content and "resourceType" in content:
                found[content["url"]] = content
    return found


def expectation(element: dict[str, Any]) -> str | None:
    """SHALL, SHOULD, MAY of an element of the CapabilityStatement."""
    for one in element.get("extension", []):
        if one["url"] == EXPECTATION:
            return one["valueCode"]
    return None


def asked_of(version: str, resource: str) -> dict[str, Any]:
    """The part of the server's CapabilityStatement about one resource type."""
    listed = package(version)[SERVER]["rest"][0]["resource"]
    return next(one for one in listed if one["type"] == resource)


def searches(version: str, resource: str) -> set[tuple[str, tuple[str, ...]]]:
    """Expectation and parameters (sorted) of every SHALL and SHOULD search of a type."""
    asked = asked_of(version, resource)
    found = {(expectation(p), (p["name"],)) for p in asked.get("searchParam", [])}
    for one in asked.get("extension", []):
        if one["url"] == COMBINATION:
            names = [e["valueString"] for e in one["extension"] if e["url"] == "required"]
            found.add((expectation(one), tuple(sorted(names))))
    return {(how, names) for how, names in found if how in ("SHALL", "SHOULD")}


def elements(version: str, profile: str) -> list[dict[str, Any]]:
    """The snapshot of a profile, without its root."""
    return [e for e in package(version)[profile]["snapshot"]["element"] if "." in e["id"]]


def must_support(version: str, profile: str) -> set[str]:
    """Ids below the type (`name.family`, `agent:Author.who`) that must be supported."""
    return {
        element["id"].split(".", 1)[1]
        for element in elements(version, profile)
        if element.get("mustSupport")
        or any(e["url"] == USCDI for e in element.get("extension", []))
    }


def references(version: str, profile: str) -> dict[str, set[str]]:
    """Path to the profiles that it may point to."""
    found: dict[str, set[str]] = {}
    for element in elements(version, profile):
        for one in element.get("type", []):
            if one["code"] == "Reference":
                targets = found.setdefault(element["path"], set())
                targets.update(one.get("targetProfile", []))
    return found
