"""Access tokens of the hospital's EHR, a process of its own (I11, external mode)."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from access import AuditEventKind
from access.caller import Caller
from access.errors import Undecided
from authorization.trust import external
from tests.fixtures.running import study_uid, wait_for
from tests.smart.clinic import SYSTEM

MRN, PACS = "urn:hospital:mrn", "urn:hospital:pacs"


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


def test_the_same_token_opens_the_patients_study_in_dicomweb_and_another_one_does_not(
    clinic, ehr, demo_study
):
    with clinic.stack.client() as http:
        ours = http.get(f"/fhir/Patient/{clinic.patients['Study']}").json()["identifier"][0]
    of_the_study = their_patient("x", id="ehr-2", identifier=[{**ours, "system": PACS}])
    ehr.tell(patients={"ehr-1": their_patient("clinic-zweig-aenne"), "ehr-2": of_the_study})
    right, wrong = their_token(ehr), their_token(ehr)
    ehr.tell(tokens={right: active(ehr, patient="ehr-2"), wrong: active(ehr)})
    study = f"/dicomweb/studies/{study_uid(demo_study['files'][0])}"

    opened, found = get(clinic, right, study), get(clinic, right, "/dicomweb/studies")
    refused, absent = get(clinic, wrong, study), get(clinic, wrong, "/dicomweb/studies")

    assert opened.status_code == 200
    assert opened.headers["content-type"].startswith("multipart/related")
    assert opened.content.count(b"DICM") >= len(demo_study["files"])
    uids = {one["0020000D"]["Value"][0] for one in found.json()}
    assert study.rpartition("/")[2] in uids
    assert refused.status_code == 403 and b"DICM" not in refused.content
    assert absent.status_code == 204


def test_the_trail_names_people_and_apps_of_the_ehr_with_its_issuer(clinic, ehr):
    token = introspected(ehr, sub="clinic-root", client_id="clinic-app")

    assert get(clinic, token, "/fhir/Patient").status_code == 200

    names = {
        (one.caller.subject, one.caller.client)
        for one in clinic.trail()
        if one.caller is not None and one.event is not AuditEventKind.LOGIN
    }
    assert (f"{ehr.issuer}|clinic-root", f"{ehr.issuer}|clinic-app") in names


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
        {"aud": 7, "exp": None},
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
        {"system": MRN, "value": ""},
        {"system": MRN, "value": 7},
        {"system": [MRN], "value": "clinic-zweig-aenne"},
        {"system": MRN, "value": "clinic-zweig-aenne", "use": "old"},
        "no object",
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

    # It has forgotten the token that it gave us before.
    ehr.tell(patients={"ehr-1": their_patient("clinic-zweig-aenne")})
    back = get(clinic, introspected(ehr), "/fhir/Patient")

    assert back.status_code == 200
    assert (fhir.status_code, pixels.status_code) == (503, 503)
    assert fhir.json()["resourceType"] == "OperationOutcome"
    assert fhir.headers["retry-after"]


def test_requests_with_one_token_at_the_same_time_ask_once(clinic, ehr):
    token = introspected(ehr)
    before = ehr.tell(slow_s=0.5)["asked"].get("introspect", 0)
    try:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: get(clinic, token, "/fhir/Patient"), range(8)))
    finally:
        after = ehr.tell(slow_s=0.0)["asked"]["introspect"]

    assert {one.status_code for one in answers} == {200}
    assert after == before + 1


def test_many_tokens_at_the_same_time_reach_the_ehr_a_few_at_once(clinic, ehr):
    tokens = [their_token(ehr) for _ in range(24)]
    ehr.tell(tokens={one: active(ehr) for one in tokens}, slow_s=0.5, busiest=0)
    try:
        with ThreadPoolExecutor(len(tokens)) as pool:
            answers = list(pool.map(lambda one: get(clinic, one, "/fhir/Patient"), tokens))
    finally:
        busiest = ehr.tell(slow_s=0.0)["busiest"]

    assert {one.status_code for one in answers} == {200}
    assert 1 < busiest <= 10


def test_a_kept_answer_ends_with_the_token(clinic, ehr):
    token = introspected(ehr, exp=int(time.time()) + 8)

    assert get(clinic, token, "/fhir/Patient").status_code == 200
    wait_for(lambda: get(clinic, token, "/fhir/Patient").status_code == 401, "its end", 60)


@pytest.mark.slow
def test_a_token_that_the_ehr_takes_back_ends_with_the_kept_answer(clinic, ehr):
    token = introspected(ehr)

    assert get(clinic, token, "/fhir/Patient").status_code == 200
    ehr.tell(tokens={})
    wait_for(lambda: get(clinic, token, "/fhir/Patient").status_code == 401, "its end", 120)


def test_no_more_answers_are_kept_and_no_more_tokens_wait_than_memory_is_meant_for():
    caller = Caller("x", "patient")

    async def fill():
        tokens = external.ExternalTokens(None, (), None, None)
        for number in range(external._MEMORY + 5):
            done = asyncio.ensure_future(asyncio.sleep(0, (caller, time.time() + 600)))
            await done
            tokens._answered(str(number).encode(), done)
        kept = len(tokens._known)
        tokens._asking = {str(number).encode(): done for number in range(external._WAITING)}
        with pytest.raises(Undecided):
            tokens._asked_once(None, b"one more", "")
        return kept

    assert asyncio.run(fill()) == external._MEMORY
