"""Where references lead: what they point to is read through the door, once each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx

from tests.uscore.bar import Group
from tests.uscore.matcher import Json
from tests.uscore.supporting import at

RESOURCE = "http://hl7.org/fhir/StructureDefinition/Resource"
BASE = "http://hl7.org/fhir/StructureDefinition/"


class Follower:
    """Reads what references point to."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._read: dict[str, Json | None] = {}

    def target(self, reference: Json) -> Json | None:
        """The resource, or None when it cannot be read."""
        path = reference.get("reference", "")
        if path not in self._read:
            answer = self._client.get(f"/fhir/{path}")
            self._read[path] = answer.json() if answer.status_code == 200 else None
        return self._read[path]

    def leads(self, ours: Group, resources: list[Json], path: str) -> Iterator[Json]:
        """What the references at this path resolve to."""
        for one in resources:
            for reference in at(ours, one, path):
                target = self.target(reference)
                if target is not None:
                    yield target

    def resolves(self, ours: Group, resources: list[Json], path: str, profiles: list[Any]) -> bool:
        """Whether one of the references leads to one of the profiles."""
        return any(
            claims(target, profile)
            for target in self.leads(ours, resources, path)
            for profile in profiles
        )


def claims(target: Json, profile: str) -> bool:
    """Whether a resource is of this profile, or of this type where it is a type's own."""
    if profile in (RESOURCE, BASE + target["resourceType"]):
        return True
    claimed = target.get("meta", {}).get("profile", [])
    return profile in {one.partition("|")[0] for one in claimed}
