"""U5: every reference of the bar leads to a resource of the profile that it names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.uscore.bar import VERSIONS, Group, group, groups
from tests.uscore.supporting import at, of_profile

RESOURCE = "http://hl7.org/fhir/StructureDefinition/Resource"
BASE = "http://hl7.org/fhir/StructureDefinition/"
PATHS = [
    (version, one.name, number, reference["path"])
    for version in VERSIONS
    for one in groups(version)
    for number, reference in enumerate(one.content["references"])
]
SUPPORTED = [
    (version, one.name, element["path"], target)
    for version in VERSIONS
    for one in groups(version)
    for element in one.must_support["elements"]
    for target in element.get("targets", [])
]


class Follower:
    """Reads what references point to, once each."""

    def __init__(self, client):
        self._client = client
        self._read = {}

    def target(self, reference):
        path = reference.get("reference", "")
        if path not in self._read:
            answer = self._client.get(f"/fhir/{path}")
            self._read[path] = answer.json() if answer.status_code == 200 else None
        return self._read[path]


@pytest.fixture(scope="module")
def follower(client):
    return Follower(client)


def leads(follower, ours: Group, resources, path: str) -> Iterator[dict]:
    """What the references at this path resolve to."""
    for one in resources:
        for reference in at(ours, one, path):
            target = follower.target(reference)
            if target is not None:
                yield target


def claims(target: dict, profile: str) -> bool:
    """Whether a resource is of this profile, or of this type where it is a type's own."""
    if profile == RESOURCE or profile == BASE + target["resourceType"]:
        return True
    claimed = target.get("meta", {}).get("profile", [])
    return profile in {one.partition("|")[0] for one in claimed}


@pytest.mark.parametrize(("version", "name", "number", "path"), PATHS)
def test_a_reference_path_resolves_to_a_listed_profile(
    stored, follower, version, name, number, path
):
    ours = group(version, name)
    resources = of_profile(ours, stored[ours.resource])
    profiles = ours.content["references"][number]["profiles"]

    found = leads(follower, ours, resources, path.partition(".")[2])

    assert any(claims(target, one) for target in found for one in profiles)


@pytest.mark.parametrize(("version", "name", "path", "target"), SUPPORTED)
def test_a_supported_reference_resolves_to_each_of_its_profiles(
    stored, follower, version, name, path, target
):
    ours = group(version, name)
    resources = of_profile(ours, stored[ours.resource])

    assert any(claims(found, target) for found in leads(follower, ours, resources, path))
