"""EHR launch: who may begin one, what it carries, and whom it lets in (S12, S15)."""

from __future__ import annotations

import time
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from joserfc.jwk import ECKey

from access import SpoolReader
from authorization.clients import CREDENTIALS, Client
from tests.authorization.site import ASSERTION_TYPE, public_set, signed
from tests.smart.clinic import Person, field, told

SCOPE = "launch patient/*.rs"


@pytest.fixture
def anna(clinic):
    return clinic.person("clinic-anna")


@pytest.fixture
def app(clinic):
    return clinic.register(trusted=True)


def uid_of(clinic):
    return next(
        one["value"].removeprefix("urn:oid:")
        for one in clinic.study["identifier"]
        if one.get("system") == "urn:dicom:uid"
    )


def begin(person, app, **body):
    return person.http.post("/auth/launch", json={"client_id": app.client_id, **body})


def launched(person, app, launch, scope=SCOPE):
    person.ask(app, scope, launch=launch)
    return person.answered()


def test_a_launch_carries_patient_visit_and_intent(clinic, anna, app):
    patient = clinic.patients["Zweig"]
    answer = begin(
        anna,
        app,
        patient=patient,
        encounter=clinic.encounter,
        intent="plan-review",
        need_patient_banner=False,
    )
    anna.ask(app, f"{SCOPE} launch/encounter", launch=answer.json()["launch"])
    granted = anna.tokens(app)

    assert answer.status_code == 201
    assert (granted["patient"], granted["encounter"]) == (patient, clinic.encounter)
    assert granted["intent"] == "plan-review"
    assert granted["need_patient_banner"] is False
    assert "launch" in granted["scope"].split()


def test_a_study_brings_its_patient_and_its_reports(clinic, anna, app):
    answer = begin(anna, app, study=uid_of(clinic))
    anna.ask(app, SCOPE, launch=answer.json()["launch"])
    granted = anna.tokens(app)

    kinds = [one["reference"].partition("/")[0] for one in granted["fhirContext"]]
    assert granted["patient"] == clinic.patients["Study"]
    assert granted["fhirContext"][0] == {"reference": f"ImagingStudy/{clinic.study['id']}"}
    assert set(kinds) == {"ImagingStudy", "DiagnosticReport"}


def test_the_study_page_goes_to_the_app_with_iss_and_launch(clinic, anna, app):
    page = anna.http.get("/auth/launch", params={"study": uid_of(clinic)})
    sent = {"csrf": field(page.text, "csrf"), "study": uid_of(clinic)}
    answer = anna.http.post(f"/auth/launch/{app.client_id}", data=sent)
    anna.page = answer
    found = anna.answered()

    assert "Growth chart" in told(page.text)
    assert "https://app.example.org/launch?" in answer.text
    assert found["iss"] == f"{clinic.base}/fhir"
    assert launched(anna, app, found["launch"])["code"]


def test_a_launch_is_used_once(clinic, anna, app):
    launch = begin(anna, app, patient=clinic.patients["Zweig"]).json()["launch"]

    first, second = launched(anna, app, launch), launched(anna, app, launch)

    assert "code" in first
    assert second["error"] == "invalid_request"


def test_a_made_up_launch_is_refused(clinic, anna, app):
    assert launched(anna, app, "made-up")["error"] == "invalid_request"


def test_a_launch_of_another_user_is_refused_and_used_up(clinic, anna, app):
    launch = begin(anna, app, patient=clinic.patients["Zweig"]).json()["launch"]

    theirs = launched(clinic.person("clinic-bert"), app, launch)
    ours = launched(anna, app, launch)

    assert theirs["error"] == ours["error"] == "invalid_request"


def test_a_launch_of_another_session_of_the_same_user_is_refused(clinic, anna, app):
    launch = begin(anna, app, patient=clinic.patients["Zweig"]).json()["launch"]

    assert launched(clinic.person("clinic-anna"), app, launch)["error"] == "invalid_request"


def test_a_launch_for_another_app_is_refused(clinic, anna, app):
    other = clinic.register(client_id="clinic-other", trusted=True)
    launch = begin(anna, other, patient=clinic.patients["Zweig"]).json()["launch"]

    assert launched(anna, app, launch)["error"] == "invalid_request"


def test_a_launch_that_is_over_is_refused(clinic, anna, app):
    launch = begin(anna, app, patient=clinic.patients["Zweig"]).json()["launch"]
    with psycopg.connect(clinic.dsn) as connection:
        connection.execute(
            "update authorization_server.launch set expires_at = now() - interval '1 s'"
        )

    assert launched(anna, app, launch)["error"] == "invalid_request"


def test_a_launch_without_the_scope_launch_is_still_judged(clinic, anna, app):
    assert launched(anna, app, "made-up", "patient/*.rs")["error"] == "invalid_request"


def deep(levels):
    """An object within an object, and so on."""
    found = {}
    for _ in range(levels):
        found = {"a": found}
    return found


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"patient": "no-such-patient"}, 403),
        ({"study": "1.2.3.4.5"}, 403),
        ({"patient": "clinic-zimmer-otto", "encounter": "clinic-visit"}, 403),
        ({"patient": 7}, 400),
        ({"patient": "../Patient"}, 400),
        ({"fhirContext": [{"reference": "Patient/1"}]}, 400),
        ({"fhirContext": [{"reference": "Encounter/1"}]}, 400),
        ({"fhirContext": [{}]}, 400),
        ({"fhirContext": [{"reference": "ImagingStudy/1", "role": "here"}]}, 400),
        ({"fhirContext": [{"reference": "ImagingStudy/no-such-study"}]}, 403),
        ({"fhirContext": [{"reference": "https://elsewhere.example/ImagingStudy/1"}]}, 400),
        ({"fhirContext": "ImagingStudy/1"}, 400),
        ({"user": "clinic-bert"}, 403),
        ({"client_id": "nobody"}, 400),
        ({"patient": ".."}, 400),
        ({"intent": "a\0b"}, 400),
        ({"intent": "x" * 5_000}, 400),
        ({"fhirContext": [{"identifier": {"value": "x" * 200}}] * 30}, 400),
        ({"fhirContext": [{"identifier": deep(400)}]}, 400),
        ({"fhirContext": [{"reference": "ImagingStudy/.."}]}, 400),
        ({"fhirContext": [{"reference": "ImagingStudy/1", "role": "http://["}]}, 403),
    ],
)
def test_what_cannot_be_open_begins_no_launch(clinic, anna, app, body, status):
    answer = begin(anna, app, **body)

    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 60_000,
        b'{"client_id": ' + b"[" * 30_000,
        b"[]",
        b"{",
        b"\xff",
    ],
    ids=lambda content: str(content[:12]),
)
def test_a_body_that_cannot_be_read_is_refused_whoever_sends_it(clinic, anna, content):
    for person in (anna, Person(clinic.base)):
        answer = person.http.post(
            "/auth/launch", content=content, headers={"Content-Type": "application/json"}
        )

        assert answer.status_code == 400, answer.text
        assert answer.headers["content-type"] == "application/problem+json"


def test_all_that_is_open_is_of_one_patient_though_none_is_named(clinic, anna, app):
    study = {"reference": f"ImagingStudy/{clinic.study['id']}"}

    mixed = begin(anna, app, encounter=clinic.encounter, fhirContext=[study])
    other = begin(anna, app, encounter=clinic.encounter, study=uid_of(clinic))
    visit = begin(anna, app, encounter=clinic.encounter)
    anna.ask(app, f"{SCOPE} launch/encounter", launch=visit.json()["launch"])
    of_visit = anna.tokens(app)
    anna.ask(app, SCOPE, launch=begin(anna, app, fhirContext=[study]).json()["launch"])
    of_study = anna.tokens(app)

    assert (mixed.status_code, other.status_code) == (403, 403)
    assert (of_visit["patient"], of_visit["encounter"]) == (
        clinic.patients["Zweig"],
        clinic.encounter,
    )
    assert of_study["patient"] == clinic.patients["Study"]


def test_the_trail_names_who_launched_which_app_for_whom(clinic, anna, app):
    begin(anna, app, patient=clinic.patients["Zweig"])

    records = SpoolReader(clinic.stack.folder / "var" / "audit").next_batch(100_000).records
    told = [one.record for one in records if "launch of" in (one.record.detail or "")]
    assert told[-1].detail == f"launch of {app.client_id} for clinic-anna"
    assert told[-1].caller.subject == "clinic-anna"
    assert told[-1].patient == f"Patient/{clinic.patients['Zweig']}"


def test_a_role_other_than_launch_may_point_to_the_patient(clinic, anna, app):
    entry = {
        "reference": f"Patient/{clinic.patients['Zimmer']}",
        "role": "https://example.org/role/donor",
    }
    answer = begin(anna, app, patient=clinic.patients["Zweig"], fhirContext=[entry])
    anna.ask(app, SCOPE, launch=answer.json()["launch"])

    assert anna.tokens(app)["fhirContext"] == [entry]


def test_a_patient_launches_only_with_their_own_record(clinic, app):
    aenne = clinic.person("clinic-aenne")

    assert begin(aenne, app, patient=clinic.patients["Zimmer"]).status_code == 403
    assert begin(aenne, app, patient=clinic.patients["Zweig"]).status_code == 201


def test_other_sites_and_strangers_begin_no_launch(clinic, anna, app):
    body = {"client_id": app.client_id, "patient": clinic.patients["Zweig"]}
    form = anna.http.post("/auth/launch", data=body)
    foreign = anna.http.post("/auth/launch", json=body, headers={"Origin": "https://evil.example"})
    stranger = Person(clinic.base).http.post("/auth/launch", json=body)

    assert (form.status_code, foreign.status_code, stranger.status_code) == (415, 403, 401)


def backend(clinic, **changes):
    """A backend and its token."""
    key = ECKey.generate_key("P-384", {"kid": "ehr"})
    client = Client(
        client_id="clinic-ehr",
        name="EHR",
        kind="asymmetric",
        scopes="system/Patient.rs",
        jwks=public_set(key),
        grant_types=(CREDENTIALS,),
        backend=True,
        **{"trusted": True, **changes},
    )
    clinic.register(client)
    claims = {
        "iss": "clinic-ehr",
        "sub": "clinic-ehr",
        "aud": f"{clinic.base}/auth/token",
        "exp": int(time.time()) + 60,
        "jti": str(time.time()),
    }
    answer = clinic.person("clinic-anna").http.post(
        "/auth/token",
        data={
            "grant_type": CREDENTIALS,
            "scope": "system/Patient.rs",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": signed(key, claims, "ES384"),
        },
    )
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def test_a_trusted_backend_begins_a_launch_for_a_user(clinic, anna, app):
    headers = backend(clinic)
    body = {
        "client_id": app.client_id,
        "user": "clinic-anna",
        "patient": clinic.patients["Zweig"],
    }

    answer = anna.http.post("/auth/launch", json=body, headers=headers)
    unknown = anna.http.post("/auth/launch", json={**body, "user": "nobody"}, headers=headers)
    bert = clinic.person("clinic-bert")
    wrong = launched(bert, app, answer.json()["launch"])
    again = anna.http.post("/auth/launch", json=body, headers=headers).json()
    url = urlsplit(again["launch_url"])
    anna.ask(app, SCOPE, launch=parse_qs(url.query)["launch"][0])

    assert (answer.status_code, unknown.status_code) == (201, 400)
    assert wrong["error"] == "invalid_request"
    assert anna.tokens(app)["patient"] == clinic.patients["Zweig"]


def test_a_backend_that_is_not_trusted_begins_none(clinic, anna, app):
    headers = backend(clinic, trusted=False)
    body = {"client_id": app.client_id, "user": "clinic-anna"}

    assert anna.http.post("/auth/launch", json=body, headers=headers).status_code == 403
    nonsense = {"Authorization": "Bearer nonsense"}
    assert anna.http.post("/auth/launch", json=body, headers=nonsense).status_code == 401
