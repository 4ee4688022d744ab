"""B1 to B5 of the bulk checklist: who may start an export, and how it is asked for."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.bulk.exporting import KICK_OFF, exported, finished, ids, kick_off, lines, resources


def test_b1_each_level_starts_by_get_and_by_post(everything, cohort):
    for level in ("$export", "Patient/$export", f"Group/{cohort.group}/$export"):
        for body in (None, [("_type", "Patient")]):
            place = kick_off(everything, level, body)

            assert place.startswith(str(everything.base_url))
            assert everything.delete(place).status_code == 202


def test_b1_an_export_of_a_group_holds_its_members_and_what_is_theirs(everything, cohort):
    manifest = exported(everything, f"Group/{cohort.group}/$export?_type=Patient,Observation")

    found = ids(everything, manifest)

    assert found["Patient"] == set(cohort.members)
    wanted = {one for member in cohort.members for one in cohort.observations[member]}
    assert found["Observation"] == wanted


@pytest.mark.parametrize("level", ["$export", "Patient/$export"])
def test_b1_counts_equal_searches(everything, cohort, level):
    cohort.observation(None)

    found = ids(everything, exported(everything, f"{level}?_type=Patient,Observation"))

    for kind in ("Patient", "Observation"):
        about = "&patient:missing=false" if kind == "Observation" and "Patient/" in level else ""
        total = everything.get(f"{kind}?_summary=count{about}").json()["total"]
        assert len(found[kind]) == total


def test_b1_a_group_that_is_not_there_is_not_found(everything):
    answer = everything.get("Group/nobody/$export", headers=KICK_OFF)

    assert answer.status_code == 404
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_b2_without_a_valid_token_nothing_starts_and_nothing_is_read(
    gateways, everything, cohort, client_for
):
    place = kick_off(everything, f"Group/{cohort.group}/$export?_type=Patient")
    file = finished(everything, place).json()["output"][0]["url"]
    nobody = {"Authorization": "Bearer not.a.token"}

    for url in (f"{gateways.public}/fhir/$export", place, file):
        for headers in ({}, nobody):
            answer = httpx.get(url, headers=headers, trust_env=False, timeout=60)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")


def test_b2_status_and_files_are_for_their_owner_only(everything, cohort, client_for):
    place = kick_off(everything, f"Group/{cohort.group}/$export?_type=Patient")
    file = finished(everything, place).json()["output"][0]["url"]

    for other in (
        client_for("system/*.cruds", subject="stranger"),
        client_for("system/*.cruds", client="other-app"),
    ):
        assert other.get(place).status_code == 404
        assert other.get(file).status_code == 404
        assert other.delete(place).status_code == 404
    assert everything.get(file).status_code == 200


def test_b2_a_fresh_token_of_the_same_client_goes_on(everything, cohort, client_for):
    place = kick_off(everything, f"Group/{cohort.group}/$export?_type=Patient")

    status = finished(client_for("system/Patient.rs"), place)

    again = client_for("system/Patient.rs")
    assert len(lines(again, status.json()["output"][0])) == len(cohort.members)


def test_b3_without_prefer_and_accept_it_is_processed(gateways, everything, cohort):
    token = everything.headers["authorization"]

    answer = httpx.get(
        f"{gateways.public}/fhir/Group/{cohort.group}/$export?_type=Patient",
        headers={"Authorization": token},
        trust_env=False,
        timeout=60,
    )

    assert answer.status_code == 202
    everything.delete(answer.headers["content-location"])


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ("application/fhir%2Bndjson", 202),
        ("application/ndjson", 202),
        ("ndjson", 202),
        ("application/vnd.apache.parquet", 202),
        ("text/csv", 400),
        ("", 202),
    ],
)
def test_b4_output_formats_are_known_or_refused(everything, form, status):
    query = f"_type=Device&_outputFormat={form}" if form else "_type=Device"

    answer = everything.get(f"$export?{query}", headers=KICK_OFF)

    assert answer.status_code == status
    if status == 202:
        everything.delete(answer.headers["content-location"])
    else:
        assert answer.json()["resourceType"] == "OperationOutcome"


def test_b5_types_may_be_repeated_and_listed(everything, cohort):
    url = f"Group/{cohort.group}/$export"

    by_comma = exported(everything, f"{url}?_type=Patient,Observation")
    repeated = exported(everything, url, [("_type", "Patient"), ("_type", "Observation")])

    assert ids(everything, by_comma) == ids(everything, repeated)


@pytest.mark.parametrize("level", ["$export", "Patient/$export"])
@pytest.mark.parametrize("kind", ["NoSuchType", "Binary", "Subscription"])
def test_b5_an_unknown_type_is_refused(everything, level, kind):
    answer = everything.get(f"{level}?_type=Patient,{kind}", headers=KICK_OFF)

    assert answer.status_code == 400
    assert kind in answer.json()["issue"][0]["diagnostics"]


def test_b5_types_outside_the_compartment_are_refused_and_with_lenient_noted(everything, cohort):
    url = f"Group/{cohort.group}/$export?_type=Organization"

    strict = everything.get(url, headers=KICK_OFF)
    manifest = exported(everything, url, Prefer="respond-async, handling=lenient")

    assert strict.status_code == 400
    assert manifest["output"] == []
    (outcome,) = resources(everything, manifest, "error")["OperationOutcome"]
    assert "Organization" in json.dumps(outcome)


@pytest.mark.parametrize(
    "query",
    ["_mdm=true", "_since=yesterday", "_since=2024-13-01", "_until=x", "_exportId=1",
     "_typePostFetchFilterUrl=x", "_elements=a.b.c", "includeAssociatedData=Everything",
     "organizeOutputBy=Group", "_since=2024-01-01&_since=2025-01-01"],
)  # fmt: skip
def test_b5_a_parameter_that_is_not_understood_is_refused(everything, query):
    answer = everything.get(f"$export?_type=Device&{query}", headers=KICK_OFF)

    assert answer.status_code == 400
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_b5_a_body_that_is_no_parameters_is_refused(everything):
    for body in (b"{", b"[]", b'{"resourceType":"Patient"}', b'{"resourceType":"Parameters",'
                 b'"parameter":[{"name":"_type"}]}'):  # fmt: skip
        answer = everything.post(
            "$export", content=body, headers={**KICK_OFF, "Content-Type": "application/fhir+json"}
        )
        assert answer.status_code == 400
