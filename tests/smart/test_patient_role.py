"""A user who is a patient: held to their own record at every door, by session and by app."""

from __future__ import annotations

import pytest


@pytest.fixture
def uid(clinic):
    return next(
        one["value"].removeprefix("urn:oid:")
        for one in clinic.study["identifier"]
        if one.get("system") == "urn:dicom:uid"
    )


def test_a_session_shows_no_study_of_others(clinic, uid):
    aenne, anna = clinic.person("clinic-aenne"), clinic.person("clinic-anna")

    listed = aenne.http.get("/dicomweb/studies")
    theirs = aenne.http.get(f"/dicomweb/studies/{uid}/metadata")
    page = aenne.http.get("/auth/launch", params={"study": uid})

    assert listed.status_code == 204 or uid not in listed.text
    assert theirs.status_code in (403, 404)
    assert page.status_code == 404
    assert uid in anna.http.get("/dicomweb/studies").text


def test_user_scopes_of_an_app_stay_within_the_record(clinic):
    aenne, app = clinic.person("clinic-aenne"), clinic.register(trusted=True)
    aenne.ask(app, "user/*.rs openid fhirUser")
    granted = aenne.tokens(app)
    headers = {"Authorization": f"Bearer {granted['access_token']}"}

    found = aenne.http.get("/fhir/Patient", headers=headers).json()
    other = aenne.http.get(f"/fhir/Patient/{clinic.patients['Zimmer']}", headers=headers)

    ids = [entry["resource"]["id"] for entry in found.get("entry", [])]
    assert ids == [clinic.patients["Zweig"]]
    assert other.status_code in (403, 404)
