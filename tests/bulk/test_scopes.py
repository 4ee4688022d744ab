"""B21 of the bulk checklist: an export holds what the token grants, and nothing else."""

from __future__ import annotations

import pytest

from tests.bulk.exporting import KICK_OFF, exported, finished, ids, kick_off, resources

CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"


def test_b21_a_token_for_one_type_exports_this_type_only(client_for, cohort):
    client = client_for("system/Patient.rs")

    manifest = exported(client, f"Group/{cohort.group}/$export")

    assert {file["type"] for file in manifest["output"]} == {"Patient"}
    for level in ("$export", "Patient/$export", f"Group/{cohort.group}/$export"):
        answer = client.get(f"{level}?_type=Patient,Observation", headers=KICK_OFF)
        assert answer.status_code == 403
        assert answer.json()["resourceType"] == "OperationOutcome"


def test_b21_a_group_is_exported_without_a_grant_on_group(client_for, cohort):
    client = client_for("system/Patient.rs system/Observation.rs")

    found = ids(client, exported(client, f"Group/{cohort.group}/$export"))

    assert found["Patient"] == set(cohort.members)
    assert set(found) == {"Patient", "Observation"}


@pytest.mark.parametrize(
    "scope",
    ["system/Patient.r", "system/Patient.s", "system/Patient.cud", "", "patient/Patient.rs",
     "system/Nothing.rs"],
)  # fmt: skip
def test_b21_an_export_needs_read_and_search(client_for, cohort, scope):
    client = client_for(scope)

    for level in ("$export", "Patient/$export", f"Group/{cohort.group}/$export"):
        assert client.get(level, headers=KICK_OFF).status_code == 403


def test_b21_an_app_with_one_patient_exports_nothing(gateways, cohort):
    context = {"patient": cohort.members[0]}
    with gateways.client("patient/*.rs launch/patient", context=context) as client:
        for level in ("$export", "Patient/$export", f"Group/{cohort.group}/$export"):
            assert client.get(level, headers=KICK_OFF).status_code == 403


def test_b21_a_granular_scope_exports_what_it_names(client_for, cohort):
    client = client_for(f"system/Observation.rs?category={CATEGORY}|laboratory system/Patient.rs")

    found = ids(client, exported(client, f"Group/{cohort.group}/$export"))

    assert found["Patient"] == set(cohort.members)
    assert found["Observation"] == {cohort.observations[one][0] for one in cohort.members}


def test_b21_granular_scopes_add_up_and_a_filter_narrows_them(client_for, fresh):
    fresh.observation(fresh.members[0], "vital-signs")
    both = (
        f"system/Observation.rs?category={CATEGORY}|laboratory"
        f" system/Observation.rs?category={CATEGORY}|imaging"
    )
    client = client_for(both)
    url = f"Group/{fresh.group}/$export"

    union = ids(client, exported(client, url))
    narrowed = ids(
        client, exported(client, f"{url}?_typeFilter=Observation%3Fcategory%3Dimaging,"
                         "Observation%3Fcategory%3Dvital-signs")
    )  # fmt: skip

    expected = {one for member in fresh.members for one in fresh.observations[member]}
    assert union["Observation"] == expected
    assert narrowed["Observation"] == {fresh.observations[one][1] for one in fresh.members}


def test_b21_deletions_are_told_of_what_was_granted_only(everything, client_for, fresh):
    laboratory, imaging = fresh.observations[fresh.members[0]]
    since = fresh.observation(None)["meta"]["lastUpdated"].replace("+00:00", "Z")
    for one in (laboratory, imaging):
        everything.delete(f"Observation/{one}")
    client = client_for(f"system/Observation.rs?category={CATEGORY}|laboratory")

    manifest = exported(client, f"Group/{fresh.group}/$export?_since={since}")

    told = {
        entry["request"]["url"]
        for bundle in resources(client, manifest, "deleted").get("Bundle", [])
        for entry in bundle["entry"]
    }
    assert f"Observation/{imaging}" not in told


def test_b21_who_has_lost_a_grant_cannot_fetch_what_it_exported_before(client_for, cohort):
    wide = client_for("system/Observation.rs system/Patient.rs")
    place = kick_off(wide, f"Group/{cohort.group}/$export?_type=Patient,Observation")
    files = {file["type"]: file["url"] for file in finished(wide, place).json()["output"]}

    less = client_for("system/Patient.rs")
    granular = client_for(f"system/Observation.rs?category={CATEGORY}|laboratory")

    assert less.get(files["Patient"]).status_code == 200
    assert less.get(files["Observation"]).status_code == 403
    assert granular.get(files["Observation"]).status_code == 403


def test_b21_a_token_that_ends_while_the_export_runs_does_not_end_it(own_group, cohort):
    """Tokens of backend services live for 300 s at most."""
    gateway = own_group.gateway().start().ready()
    try:
        own_group.relay.close()
        with own_group.client(lifetime_s=1) as short:
            place = kick_off(short, "$export?_type=Patient")
        own_group.relay.open()
        with own_group.client() as client:
            found = ids(client, finished(client, place).json())
        assert found["Patient"] >= set(cohort.members)
    finally:
        gateway.stop()
