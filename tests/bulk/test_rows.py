"""B6 to B10 of the bulk checklist: exactly the rows that were asked for."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

import pytest

from tests.bulk.exporting import KICK_OFF, exported, ids, parameters, reference, resources


def updated(resource):
    return datetime.fromisoformat(resource["meta"]["lastUpdated"])


def written(moment):
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z").replace("+", "%2B")


def members_of(cohort):
    return {one for member in cohort.members for one in cohort.observations[member]}


def test_b6_since_is_exact_to_the_millisecond(everything, cohort):
    one = cohort.observation(cohort.stranger)
    at = updated(one)
    base = f"$export?{cohort.filtered('Observation')}"

    just_before = exported(everything, f"{base}&_since={written(at - timedelta(milliseconds=1))}")
    at_it = exported(everything, f"{base}&_since={written(at)}")

    assert one["id"] in ids(everything, just_before)["Observation"]
    assert one["id"] not in ids(everything, at_it).get("Observation", set())


def test_b6_since_understands_zones_and_fractions_and_whole_seconds(everything, cohort):
    one = cohort.observation(cohort.stranger)
    at = updated(one)
    base = f"$export?{cohort.filtered('Observation')}"
    elsewhere = (at - timedelta(milliseconds=1)).astimezone(timezone(timedelta(hours=5.5)))
    finer = written(at - timedelta(milliseconds=1)).replace("Z", "999Z")
    second = at.replace(microsecond=0).isoformat().replace("+00:00", "Z")

    for since in (written(elsewhere), finer, second):
        found = ids(everything, exported(everything, f"{base}&_since={since}"))
        if since == second and not at.microsecond:
            continue  # written at a whole second: then it is not after it
        assert one["id"] in found["Observation"], since


def test_b6_a_resource_that_was_updated_comes_in_its_latest_version_only(everything, fresh):
    one = fresh.observation(fresh.stranger)
    since = written(updated(one))
    one["status"] = "amended"
    assert everything.put(f"Observation/{one['id']}", json=one).status_code == 200

    url = f"$export?{fresh.filtered('Observation')}&_since={since}"
    found = resources(everything, exported(everything, url))["Observation"]

    (ours,) = [row for row in found if row["id"] == one["id"]]
    assert ours["status"] == "amended"
    assert ours["meta"]["versionId"] == "2"


def test_b6_until_is_exact_and_until_and_since_make_a_window(everything, fresh):
    first, second, third = (fresh.observation(fresh.stranger) for _ in range(3))
    base = f"$export?{fresh.filtered('Observation')}"
    since, until = written(updated(first)), written(updated(third))

    window = ids(everything, exported(everything, f"{base}&_since={since}&_until={until}"))
    before = ids(everything, exported(everything, f"{base}&_until={until}"))

    assert window["Observation"] == {second["id"]}
    assert {first["id"], second["id"]} <= before["Observation"]
    assert third["id"] not in before["Observation"]


def test_b6_a_patient_who_joined_the_group_later_comes_whole(everything, fresh):
    everything_before = fresh.patient()
    time.sleep(0.01)
    since = written(datetime.fromisoformat(fresh.observation(None)["meta"]["lastUpdated"]))
    fresh.put_group([*fresh.members, everything_before], fresh.group)

    url = f"Group/{fresh.group}/$export?_type=Patient,Observation&_since={since}"
    found = ids(everything, exported(everything, url))

    assert found["Patient"] == {everything_before}
    assert found["Observation"] == set(fresh.observations[everything_before])


def test_b6_what_is_new_about_an_unchanged_patient_comes(everything, fresh):
    since = written(datetime.fromisoformat(fresh.observation(None)["meta"]["lastUpdated"]))
    new = fresh.observation(fresh.members[0])

    url = f"Group/{fresh.group}/$export?_type=Patient,Observation&_since={since}"
    found = ids(everything, exported(everything, url))

    assert found == {"Observation": {new["id"]}}


def test_b6_members_who_left_the_group_do_not_come(everything, fresh):
    gone, past = fresh.patient(), fresh.patient()
    body = everything.get(f"Group/{fresh.group}").json()
    body["member"] += [
        {"entity": {"reference": f"Patient/{gone}"}, "inactive": True},
        {"entity": {"reference": f"Patient/{past}"}, "period": {"end": "2020-01-01"}},
    ]
    assert everything.put(f"Group/{fresh.group}", json=body).status_code == 200

    found = ids(everything, exported(everything, f"Group/{fresh.group}/$export?_type=Patient"))

    assert found["Patient"] == set(fresh.members)


def test_b7_several_filters_of_a_type_are_alternatives(everything, fresh):
    third = fresh.observation(fresh.stranger, "vital-signs")
    tag = f"_tag%3D{fresh.mark}"
    url = (
        f"$export?_type=Observation&_typeFilter=Observation%3Fcategory%3Dlaboratory%26{tag}"
        f",Observation%3Fcategory%3Dvital-signs%26{tag}"
        f"&_typeFilter=Observation%3Fstatus%3Dfinal%26category%3Dlaboratory%26{tag}"
    )

    found = ids(everything, exported(everything, url))

    laboratory = {fresh.observations[one][0] for one in [*fresh.members, fresh.stranger]}
    assert found["Observation"] == laboratory | {third["id"]}


def test_b7_commas_in_a_filter_are_alternatives_of_its_value(everything, fresh):
    both = "category%3Dlaboratory,imaging"
    doubly = "category%3Dlaboratory%252Cimaging"  # as smart-fetch writes them
    for values in (both, doubly):
        url = f"Group/{fresh.group}/$export?_type=Observation&_typeFilter=Observation%3F{values}"

        found = ids(everything, exported(everything, url))

        assert found["Observation"] == members_of(fresh)


def test_b7_a_filter_holds_for_members_and_for_its_own_type_only(everything, fresh):
    odd = fresh.patient(active=True)
    fresh.put_group([*fresh.members, odd], fresh.group)
    url = f"Group/{fresh.group}/$export?_type=Patient,Observation"

    found = ids(everything, exported(everything, f"{url}&_typeFilter=Patient%3Factive%3Dtrue"))

    assert found["Patient"] == {odd}
    assert found["Observation"] == members_of(fresh) | set(fresh.observations[odd])


@pytest.mark.parametrize(
    "query",
    ["Patient%3Fnonsense%3D1", "Patient%3F_include%3DPatient:organization",
     "Patient%3F_sort%3Dname", "Patient%3Fbirthdate%3Dyesterday", "Device%3Fstatus%3Dactive",
     "Patient%3F_elements%3Did", "Patient"],
)  # fmt: skip
def test_b7_a_filter_that_is_not_supported_is_refused_and_with_lenient_noted(
    everything, cohort, query
):
    url = f"Group/{cohort.group}/$export?_type=Patient&_typeFilter={query}"

    strict = everything.get(url, headers=KICK_OFF)
    manifest = exported(everything, url, Prefer="respond-async, handling=lenient")

    assert strict.status_code == 400
    assert ids(everything, manifest)["Patient"] == set(cohort.members)
    (note,) = resources(everything, manifest, "error")["OperationOutcome"]
    assert note["issue"][0]["severity"] == "warning"


def test_b8_elements_keep_what_is_named_and_what_is_mandatory(everything, cohort):
    url = f"Group/{cohort.group}/$export?_type=Patient,Observation"

    rows = resources(
        everything, exported(everything, f"{url}&_elements=Patient.birthDate,valueQuantity,value")
    )

    for patient in rows["Patient"]:
        assert set(patient) == {"resourceType", "id", "meta", "birthDate"}
    for observation in rows["Observation"]:
        assert set(observation) == {"resourceType", "id", "meta", "status", "code"}
    for row in rows["Patient"] + rows["Observation"]:
        assert "SUBSETTED" in [tag["code"] for tag in row["meta"]["tag"]]


def test_b8_an_element_of_one_type_leaves_the_others_whole(everything, cohort):
    url = f"Group/{cohort.group}/$export?_type=Patient,Observation&_elements=Patient.name"

    rows = resources(everything, exported(everything, url))

    assert all("birthDate" not in one for one in rows["Patient"])
    assert all("effectiveDateTime" in one for one in rows["Observation"])


def test_b9_a_choice_of_patients_limits_the_export(everything, cohort):
    one = cohort.members[0]
    for level in ("Patient/$export", f"Group/{cohort.group}/$export"):
        body = [("_type", "Patient,Observation"), ("patient", reference(one))]

        found = ids(everything, exported(everything, level, body))

        assert found == {"Patient": {one}, "Observation": set(cohort.observations[one])}


def test_b9_two_patients_may_be_chosen(everything, cohort):
    chosen = [("patient", reference(one)) for one in cohort.members]

    found = ids(
        everything, exported(everything, "Patient/$export", [("_type", "Patient"), *chosen])
    )

    assert found["Patient"] == set(cohort.members)


def test_b9_who_is_unknown_or_no_member_is_refused_and_never_exported(everything, cohort):
    for level, other in (
        ("Patient/$export", "nobody-of-that-id"),
        (f"Group/{cohort.group}/$export", "nobody-of-that-id"),
        (f"Group/{cohort.group}/$export", cohort.stranger),
    ):
        body = [
            ("_type", "Patient,Observation"),
            ("patient", reference(cohort.members[0])),
            ("patient", reference(other)),
        ]

        strict = everything.post(level, json=parameters(body), headers=KICK_OFF)
        manifest = exported(everything, level, body, Prefer="respond-async,handling=lenient")

        assert strict.status_code == 400
        found = ids(everything, manifest)
        assert found["Patient"] == {cohort.members[0]}
        assert found["Observation"] == set(cohort.observations[cohort.members[0]])
        assert len(resources(everything, manifest, "error")["OperationOutcome"]) == 1


def test_b9_patients_in_a_url_or_at_system_level_are_refused_even_with_lenient(everything, cohort):
    lenient = {"Prefer": "respond-async, handling=lenient"}
    body = parameters([("patient", reference(cohort.members[0]))])

    in_url = everything.get(f"Patient/$export?patient=Patient/{cohort.members[0]}", headers=lenient)
    system = everything.post("$export", json=body, headers=lenient)

    assert (in_url.status_code, system.status_code) == (400, 400)


def test_b9_a_group_that_names_others_is_not_shown_to_who_exports_some(everything, fresh):
    fresh.put_group([fresh.members[0], fresh.stranger])

    found = ids(everything, exported(everything, f"Group/{fresh.group}/$export?_type=Group"))

    assert found["Group"] == {fresh.group}


@pytest.fixture
def told(fresh):
    """An Observation of a member with two Provenances, one of a Patient, one of a stranger's."""

    def provenance(target, recorded):
        return fresh.create(
            "Provenance",
            target=[{"reference": target}],
            recorded=recorded,
            agent=[{"who": {"display": "somebody"}}],
        )["id"]

    member = fresh.members[0]
    observed = f"Observation/{fresh.observations[member][0]}"
    return {
        "old": provenance(observed, "2024-01-01T00:00:00Z"),
        "new": provenance(observed, "2025-01-01T00:00:00Z"),
        "patient": provenance(f"Patient/{member}", "2024-01-01T00:00:00Z"),
        "other": provenance(
            f"Observation/{fresh.observations[fresh.stranger][0]}", "2024-01-01T00:00:00Z"
        ),
    }


def test_b10_by_default_the_provenance_of_the_compartments_comes(everything, fresh, told):
    found = ids(everything, exported(everything, f"Group/{fresh.group}/$export"))
    without = ids(everything, exported(everything, f"Group/{fresh.group}/$export?_type=Patient"))
    everyone = ids(everything, exported(everything, "Patient/$export?_type=Provenance"))

    assert found["Provenance"] == {told["old"], told["new"], told["patient"]}
    assert "Provenance" not in without
    assert set(told.values()) <= everyone["Provenance"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("LatestProvenanceResources", {"new", "patient"}),
        ("RelevantProvenanceResources", {"old", "new", "patient"}),
        ("LatestProvenanceResources,RelevantProvenanceResources", {"old", "new", "patient"}),
    ],
)
def test_b10_associated_provenance_is_the_latest_or_all_of_what_is_exported(
    everything, fresh, told, value, expected
):
    url = f"Group/{fresh.group}/$export?_type=Patient,Observation&includeAssociatedData={value}"

    found = ids(everything, exported(everything, url))

    assert found["Provenance"] == {told[one] for one in expected}
