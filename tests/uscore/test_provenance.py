"""U9: whoever asks for it gets the Provenance of what is found."""

from __future__ import annotations

import pytest

from tests.uscore.bar import VERSIONS, groups

GROUPS = [
    (version, one.name, one.resource, one.profile)
    for version in VERSIONS
    for one in groups(version)
    if "Provenance:target" in one.content["revincludes"]
]


def targets(provenances):
    return {one["reference"] for p in provenances for one in p["target"] if "reference" in one}


@pytest.mark.parametrize(("version", "name", "kind", "profile"), GROUPS)
def test_revinclude_gives_the_provenance_of_what_is_found(searcher, version, name, kind, profile):
    of_her = {"_id": "uscore-amelia"} if kind == "Patient" else {"patient": "uscore-amelia"}
    criteria = of_her | {"_profile": profile}

    answer = searcher.get(kind, criteria, _revinclude="Provenance:target")

    told = targets(one for one in answer.others if one["resourceType"] == "Provenance")
    assert answer.status == 200
    assert answer.ids
    assert {f"{kind}/{identity}" for identity in answer.ids} <= told


@pytest.mark.slow
@pytest.mark.stack
@pytest.mark.parametrize("kind", ["DiagnosticReport", "Observation", "Media", "DocumentReference"])
def test_what_hilum_writes_has_its_provenance(written, kind):
    told = targets(written["Provenance"])

    without = [one["id"] for one in written[kind] if f"{kind}/{one['id']}" not in told]

    assert written[kind]
    assert without == []
