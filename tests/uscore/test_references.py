"""U5: every reference of the bar leads to a resource of the profile that it names."""

from __future__ import annotations

import pytest

from tests.uscore.bar import VERSIONS, group, groups
from tests.uscore.supporting import of_profile

pytestmark = [pytest.mark.slow, pytest.mark.stack]

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


@pytest.mark.parametrize(("version", "name", "number", "path"), PATHS)
def test_a_reference_path_resolves_to_a_listed_profile(
    stored, follower, version, name, number, path
):
    ours = group(version, name)
    resources = of_profile(ours, stored[ours.resource])
    profiles = ours.content["references"][number]["profiles"]

    assert follower.resolves(ours, resources, path.partition(".")[2], profiles)


@pytest.mark.parametrize(("version", "name", "path", "target"), SUPPORTED)
def test_a_supported_reference_resolves_to_each_of_its_profiles(
    stored, follower, version, name, path, target
):
    ours = group(version, name)
    resources = of_profile(ours, stored[ours.resource])

    assert follower.resolves(ours, resources, path, [target])
