"""Finding studies by FHIR, and following the Endpoint with the same token."""

from __future__ import annotations

import io

import httpx
import pydicom
import pytest

from tests.dicomweb.server import parts_of
from tests.imaging_access.people import READ

pytestmark = [pytest.mark.slow, pytest.mark.stack]

SIA = "http://fhir.org/argonaut/smart-imaging/StructureDefinition/requires-access-token"
DICOM_UID = "urn:dicom:uid"


def entries(answer: httpx.Response, kind: str = "ImagingStudy") -> list[dict]:
    assert answer.status_code == 200, answer.text
    found = [entry["resource"] for entry in answer.json().get("entry", [])]
    return [one for one in found if one["resourceType"] == kind]


def uids(answer: httpx.Response) -> set[str]:
    return {
        identifier["value"].removeprefix("urn:oid:")
        for study in entries(answer)
        for identifier in study["identifier"]
        if identifier.get("system") == DICOM_UID
    }


@pytest.fixture(scope="module")
def cara(imaging):
    return imaging.new_person("Cara")


@pytest.fixture(params=["app launch", "backend"])
def client(request, imaging, cara):
    """Both modes: an app of the patient, and a machine."""
    if request.param == "app launch":
        with imaging.app_of(cara, f"{READ} patient/Endpoint.rs") as found:
            yield found
    else:
        with imaging.client("system/ImagingStudy.rs system/Endpoint.rs") as found:
            yield found


@pytest.mark.parametrize("form", ["{}", "Patient/{}"])
def test_the_patients_studies_are_found(client, cara, ben, form):
    answer = client.get("/fhir/ImagingStudy", params={"patient": form.format(cara.id)})

    assert uids(answer) == {cara.study}


def test_only_what_changed_since_is_found(client, cara):
    [study] = entries(client.get("/fhir/ImagingStudy", params={"patient": cara.id}))
    at = study["meta"]["lastUpdated"]

    def found(bound: str) -> set[str]:
        query = {"patient": cara.id, "_lastUpdated": bound}
        return uids(client.get("/fhir/ImagingStudy", params=query))

    assert found(f"ge{at}") == {cara.study}
    assert found(f"gt{at}") == set()
    assert found("gt2023-04-17T04:00:00Z") == {cara.study}
    assert found("gt2999-01-01T00:00:00Z") == set()


def test_one_study_is_looked_up_by_its_uid(client, cara, ben):
    for value in (f"urn:oid:{cara.study}", f"{DICOM_UID}|urn:oid:{cara.study}"):
        query = {"patient": cara.id, "identifier": value}
        assert uids(client.get("/fhir/ImagingStudy", params=query)) == {cara.study}
    for value in (f"urn:oid:{ben.study}", "urn:oid:1.2.3"):
        query = {"patient": cara.id, "identifier": value}
        assert uids(client.get("/fhir/ImagingStudy", params=query)) == set()


def test_the_endpoint_comes_along_and_opens_with_the_same_token(client, cara):
    query = {"patient": cara.id, "_include": "ImagingStudy:endpoint"}
    answer = client.get("/fhir/ImagingStudy", params=query)
    [study] = entries(answer)
    endpoints = {f"Endpoint/{one['id']}": one for one in entries(answer, "Endpoint")}
    places = [one["reference"] for one in study["endpoint"]]

    assert places
    for place in places:
        endpoint = endpoints[place]
        flags = [e["valueBoolean"] for e in endpoint["extension"] if e["url"] == SIA]
        assert flags == [True]
        assert endpoint["connectionType"]["code"] == "dicom-wado-rs"
        retrieved = client.get(
            f"{endpoint['address']}/studies/{cara.study}",
            headers={"Accept": "multipart/related; type=application/dicom; transfer-syntax=*"},
        )
        assert retrieved.status_code == 200
        files = [pydicom.dcmread(io.BytesIO(body)) for _, body in parts_of(retrieved)]
        assert {one.SOPInstanceUID for one in files} == {one.SOPInstanceUID for one in cara.slices}


def test_the_address_opens_nothing_without_a_token(imaging, cara):
    query = {"patient": cara.id, "_include": "ImagingStudy:endpoint"}
    answer = imaging.operator.get("/fhir/ImagingStudy", params=query)
    [endpoint] = entries(answer, "Endpoint")

    for path in ("", "/metadata", "/rendered", "/series"):
        bare = httpx.get(
            f"{endpoint['address']}/studies/{cara.study}{path}", trust_env=False, timeout=60
        )
        assert bare.status_code == 401


def test_another_patient_is_forbidden_to_an_app_not_just_empty(imaging, cara, ben):
    with imaging.app_of(cara) as app:
        for query in (
            {"patient": ben.id},
            {"patient": f"Patient/{ben.id}"},
            {"patient": ben.id, "identifier": f"urn:oid:{ben.study}"},
            {"patient": ben.id, "_lastUpdated": "gt2023-01-01"},
            {"patient": "nobody-knows-this-id"},
        ):
            assert app.get("/fhir/ImagingStudy", params=query).status_code == 403


def test_a_search_without_a_patient_finds_the_apps_own_only(imaging, cara):
    with imaging.app_of(cara) as app:
        assert uids(app.get("/fhir/ImagingStudy")) == {cara.study}


@pytest.mark.parametrize("scope", [READ, "patient/*.rs", "launch/patient"])
def test_a_token_without_a_patient_is_no_access_to_everybody(imaging, cara, scope):
    with imaging.client(scope) as app:
        assert app.get("/fhir/ImagingStudy", params={"patient": cara.id}).status_code == 403
        assert app.get(f"/dicomweb/studies/{cara.study}").status_code == 403


def test_a_backend_within_a_filter_gets_what_the_filter_leaves(imaging, cara):
    with imaging.client("system/ImagingStudy.rs?status=cancelled") as backend:
        answer = backend.get("/fhir/ImagingStudy", params={"patient": cara.id})
        assert uids(answer) == set()
        assert backend.get(f"/dicomweb/studies/{cara.study}").status_code == 403


def test_studies_have_what_the_profile_asks_for(imaging, cara):
    query = {"patient": cara.id, "_include": "ImagingStudy:endpoint"}
    answer = imaging.operator.get("/fhir/ImagingStudy", params=query)
    [study], [endpoint] = entries(answer), entries(answer, "Endpoint")

    named = [one for one in study["identifier"] if one.get("system") == DICOM_UID]
    assert [one["value"] for one in named] == [f"urn:oid:{cara.study}"]
    assert study["subject"]["reference"] == f"Patient/{cara.id}"
    assert {one["code"] for one in study["modality"]} == {"MR", "SEG", "SR"}
    assert study["endpoint"]
    assert all(series["endpoint"] for series in study["series"])
    assert study["numberOfInstances"] == len(cara.slices)
    for resource in (study, endpoint):
        outcome = imaging.operator.post(
            f"/fhir/{resource['resourceType']}/$validate", json=resource
        ).json()
        errors = [i for i in outcome["issue"] if i["severity"] in ("error", "fatal")]
        assert not errors
