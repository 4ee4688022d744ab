"""What the rest of Hilum relies on in HAPI's REST interface."""

from __future__ import annotations

import uuid

from tests.hapi.conftest import SYSTEM


def transaction(hapi, *entries):
    return hapi.client.post(
        "", json={"resourceType": "Bundle", "type": "transaction", "entry": entries}
    )


def study_of(patient, uid):
    return {
        "resourceType": "ImagingStudy",
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}],
        "status": "available",
        "subject": {"reference": f"Patient/{patient['id']}"},
        "started": "2024-01-01T10:00:00Z",
    }


def new_uid():
    return f"2.25.{uuid.uuid4().int}"


def total(hapi, type_, **params):
    answer = hapi.client.get(type_, params={**params, "_summary": "count"})
    assert answer.status_code == 200, answer.text
    return answer.json()["total"]


def types_found(answer):
    return sorted(entry["resource"]["resourceType"] for entry in answer.json()["entry"])


def test_a_transaction_with_one_bad_entry_stores_nothing(hapi):
    value = uuid.uuid4().hex
    good = {"resourceType": "Patient", "identifier": [{"system": SYSTEM, "value": value}]}
    bad = study_of({"id": "not-there"}, new_uid())

    answer = transaction(
        hapi,
        {"resource": good, "request": {"method": "POST", "url": "Patient"}},
        {"resource": bad, "request": {"method": "POST", "url": "ImagingStudy"}},
    )

    assert answer.status_code == 400
    assert total(hapi, "Patient", identifier=f"{SYSTEM}|{value}") == 0


def test_a_transaction_links_its_entries_and_finds_existing_ones(hapi):
    value, uid = uuid.uuid4().hex, new_uid()
    who, study = f"urn:uuid:{uuid.uuid4()}", f"urn:uuid:{uuid.uuid4()}"
    entries = [
        {
            "fullUrl": who,
            "resource": {
                "resourceType": "Patient",
                "identifier": [{"system": SYSTEM, "value": value}],
            },
            "request": {
                "method": "POST",
                "url": "Patient",
                "ifNoneExist": f"identifier={SYSTEM}|{value}",
            },
        },
        {
            "fullUrl": study,
            "resource": study_of({"id": "x"}, uid) | {"subject": {"reference": who}},
            "request": {
                "method": "PUT",
                "url": f"ImagingStudy?identifier=urn:dicom:uid|urn:oid:{uid}",
            },
        },
    ]

    answers = [transaction(hapi, *entries).json()["entry"] for _ in range(2)]

    statuses = [[e["response"]["status"].split()[0] for e in entry] for entry in answers]
    assert statuses == [["201", "201"], ["200", "200"]]
    assert total(hapi, "ImagingStudy", **{"patient.identifier": f"{SYSTEM}|{value}"}) == 1


def test_a_conditional_create_repeated_makes_one_resource(hapi):
    value = uuid.uuid4().hex
    body = {"resourceType": "Patient", "identifier": [{"system": SYSTEM, "value": value}]}
    headers = {"If-None-Exist": f"identifier={SYSTEM}|{value}"}

    answers = [hapi.client.post("Patient", json=body, headers=headers) for _ in range(3)]

    assert [a.status_code for a in answers] == [201, 200, 200]
    assert total(hapi, "Patient", identifier=f"{SYSTEM}|{value}") == 1


def test_an_update_of_a_stale_version_is_a_conflict_and_changes_nothing(hapi, patient):
    url = f"Patient/{patient['id']}"

    first = hapi.client.put(url, json=patient | {"gender": "male"}, headers={"If-Match": 'W/"1"'})
    stale = hapi.client.put(url, json=patient | {"gender": "other"}, headers={"If-Match": 'W/"1"'})

    # 409 is HAPI's own; the gateway makes it the 412 that FHIR asks for.
    assert (first.status_code, stale.status_code) == (200, 409)
    assert hapi.client.get(url).json()["gender"] == "male"


def test_searches_join_along_references_both_ways(hapi, patient):
    study = hapi.client.post("ImagingStudy", json=study_of(patient, new_uid())).json()
    value = patient["identifier"][0]["value"]

    include = hapi.client.get(
        "ImagingStudy", params={"_id": study["id"], "_include": "ImagingStudy:patient"}
    )
    reverse = hapi.client.get(
        "Patient", params={"_id": patient["id"], "_revinclude": "ImagingStudy:patient"}
    )
    has = hapi.client.get(
        "Patient",
        params={"_has:ImagingStudy:patient:status": "available", "identifier": f"{SYSTEM}|{value}"},
    )

    assert types_found(include) == types_found(reverse) == ["ImagingStudy", "Patient"]
    assert types_found(has) == ["Patient"]


def test_a_report_is_found_by_its_imaging_study(hapi, patient):
    study = hapi.client.post("ImagingStudy", json=study_of(patient, new_uid())).json()
    report = {
        "resourceType": "DiagnosticReport",
        "status": "preliminary",
        "code": {"text": "MR brain"},
        "subject": {"reference": f"Patient/{patient['id']}"},
        "imagingStudy": [{"reference": f"ImagingStudy/{study['id']}"}],
    }
    made = hapi.client.post("DiagnosticReport", json=report).json()

    found = hapi.client.get(
        "DiagnosticReport", params={"imaging-study": f"ImagingStudy/{study['id']}"}
    )

    assert [entry["resource"]["id"] for entry in found.json()["entry"]] == [made["id"]]


def test_us_core_search_parameters_are_there(hapi):
    answer = hapi.client.get("metadata")

    [patient] = [r for r in answer.json()["rest"][0]["resource"] if r["type"] == "Patient"]
    assert {"race", "ethnicity", "gender-identity"} <= {p["name"] for p in patient["searchParam"]}
    assert any("us-core-patient" in profile for profile in patient["supportedProfile"])


def test_a_pdf_of_some_megabytes_comes_back_byte_for_byte(hapi):
    content = uuid.uuid4().bytes * 200_000

    made = hapi.client.post("Binary", content=content, headers={"Content-Type": "application/pdf"})
    back = hapi.client.get(
        f"Binary/{made.headers['location'].split('/Binary/')[1].split('/')[0]}",
        headers={"Accept": "application/pdf"},
    )

    assert made.status_code == 201
    assert back.content == content
