"""Access tokens of the hospital's EHR, a process of its own (I11, external mode)."""

from __future__ import annotations

import base64
import json
import secrets
import time

import httpx
import pytest

from tests.smart.clinic import SYSTEM

MRN = "urn:hospital:mrn"


def their_token(hospital, issuer=None):
    """A JWT of the EHR's; nobody here can check its signature, the EHR is asked."""
    claims = {"iss": issuer or hospital.issuer, "jti": secrets.token_hex(8)}
    parts = [{"alg": "RS256"}, claims, {"signature": "of theirs"}]
    texts = (base64.urlsafe_b64encode(json.dumps(one).encode()).decode() for one in parts)
    return ".".join(one.rstrip("=") for one in texts)


def active(hospital, **changes):
    return {
        "active": True,
        "iss": hospital.issuer,
        "scope": "launch patient/Patient.rs patient/ImagingStudy.rs",
        "patient": "ehr-1",
        "sub": "dr-x",
        "client_id": "viewer-app",
        "exp": int(time.time()) + 600,
        **changes,
    }


def their_patient(name, **changes):
    return {
        "resourceType": "Patient",
        "id": "ehr-1",
        "identifier": [{"system": MRN, "value": name}],
        **changes,
    }


@pytest.fixture
def ehr(hospital):
    """The EHR, where patient ehr-1 is Änne Zweig."""
    hospital.tell(patients={"ehr-1": their_patient("clinic-zweig-aenne")}, tokens={})
    return hospital


def get(clinic, token, path):
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.get(f"{clinic.base}{path}", headers=headers, timeout=60, trust_env=False)


def introspected(ehr, **changes):
    token = their_token(ehr)
    ehr.tell(tokens={token: active(ehr, **changes)})
    return token


def test_the_ehrs_patient_is_found_here_by_identifier_and_issuer(clinic, ehr):
    token = introspected(ehr)

    found = get(clinic, token, "/fhir/Patient").json()
    other = get(clinic, token, f"/fhir/Patient/{clinic.patients['Zimmer']}")

    ids = [entry["resource"]["id"] for entry in found["entry"]]
    assert ids == [clinic.patients["Zweig"]]
    assert found["entry"][0]["resource"]["identifier"][0]["system"] == SYSTEM
    assert other.status_code == 403


def test_dicomweb_takes_the_same_token(clinic, ehr):
    token = introspected(ehr)

    assert get(clinic, token, "/dicomweb/studies").status_code in (200, 204)


@pytest.mark.parametrize(
    "changes",
    [
        {"active": False},
        {"active": "true"},
        {"iss": "https://other.example"},
        {"exp": 1},
        {"exp": None},
        {"patient": None},
        {"patient": "ehr-unknown"},
        {"patient": "../Patient/ehr-1"},
        {"scope": "system/*.rs"},
        {"scope": "user/*.rs"},
        {"scope": ""},
    ],
)
def test_a_token_that_the_ehr_does_not_vouch_for_is_refused(clinic, ehr, changes):
    token = introspected(ehr, **changes)

    assert get(clinic, token, "/fhir/Patient").status_code == 401
    assert get(clinic, token, "/dicomweb/studies").status_code == 401


def test_user_and_system_scopes_of_the_ehr_give_nothing_beyond_its_patient(clinic, ehr):
    token = introspected(ehr, scope="patient/Patient.rs user/*.cruds system/*.cruds")

    assert get(clinic, token, f"/fhir/Patient/{clinic.patients['Zimmer']}").status_code == 403
    assert get(clinic, token, "/fhir/ImagingStudy").status_code == 403


@pytest.mark.parametrize(
    "identifier",
    [
        {"system": "urn:another:hospital", "value": "clinic-zweig-aenne"},
        {"value": "clinic-zweig-aenne"},
        {"system": MRN, "value": "nobody-has-this"},
        {"system": MRN, "value": "clinic-zweig-aenne,clinic-zimmer-otto"},
        {"system": MRN},
    ],
)
def test_a_patient_who_is_not_surely_ours_is_refused(clinic, ehr, identifier):
    token = introspected(ehr)
    ehr.tell(patients={"ehr-1": their_patient("x", identifier=[identifier])})

    assert get(clinic, token, "/fhir/Patient").status_code == 401


def test_identifiers_of_two_people_are_nobodys(clinic, ehr):
    token = introspected(ehr)
    two = [{"system": MRN, "value": f"clinic-{n}"} for n in ("zweig-aenne", "zimmer-otto")]
    ehr.tell(patients={"ehr-1": their_patient("x", identifier=two)})

    assert get(clinic, token, "/fhir/Patient").status_code == 401


def test_the_answer_is_kept_for_a_while_and_asked_once(clinic, ehr):
    token = introspected(ehr)
    before = ehr.tell()["asked"].get("introspect", 0)

    for _ in range(5):
        assert get(clinic, token, "/fhir/Patient").status_code == 200

    assert ehr.tell()["asked"]["introspect"] == before + 1


def test_a_server_that_is_not_listed_is_never_asked(clinic, ehr):
    token = their_token(ehr, issuer="https://other.example")
    ehr.tell(tokens={token: active(ehr)})
    before = ehr.tell()["asked"]

    assert get(clinic, token, "/fhir/Patient").status_code == 401
    assert get(clinic, "opaque-token", "/fhir/Patient").status_code == 401
    assert ehr.tell()["asked"] == before


def test_a_token_that_claims_our_own_issuer_is_not_taken_to_the_ehr(clinic, ehr):
    token = their_token(ehr, issuer=clinic.base)
    ehr.tell(tokens={token: active(ehr)})

    assert get(clinic, token, "/fhir/Patient").status_code == 401


def test_while_the_ehr_is_away_nothing_is_served(clinic, ehr):
    token = introspected(ehr)
    ehr.stop()
    try:
        fhir = get(clinic, token, "/fhir/Patient")
        pixels = get(clinic, token, "/dicomweb/studies")
    finally:
        ehr.start()

    assert (fhir.status_code, pixels.status_code) == (503, 503)
    assert fhir.json()["resourceType"] == "OperationOutcome"
    assert fhir.headers["retry-after"]


def test_the_cache_is_bounded_and_forgets_in_time():
    from authorization.trust import external

    assert external.REMEMBER_S <= 30
    assert external._MEMORY <= 1_000
