"""Signing in at the hospital's OpenID provider, a process of its own."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from access.users import User, UserError
from authorization.trust.provider import Provider, ProviderError
from tests.fixtures.running import wait_for
from tests.smart.clinic import PASSWORD, Person, told
from tests.smart.federated import at_the_hospital, sign_in, someone


def test_the_login_page_leads_to_the_hospital(clinic, hospital):
    page = Person(clinic.base).http.get("/login", params={"next": "/auth/apps"})

    assert "Sign in with the hospital" in told(page.text)
    assert 'href="/login/federated?next=/auth/apps"' in page.text


def test_claims_become_user_role_and_practitioner(clinic, hospital):
    claims = someone()
    person = sign_in(clinic, hospital, claims)

    user = clinic.users.find(claims["preferred_username"])
    assert person.page.url.path == "/auth/apps"
    assert "Dr Anna Hospital" in person.page.text
    assert (user.role, user.fhir_user) == ("radiologist", "Practitioner/clinic-anna")


def test_a_patient_of_the_hospital_is_held_to_their_record(clinic, hospital):
    claims = someone(groups="patients", fhirUser=f"Patient/{clinic.patients['Zweig']}")
    person = sign_in(clinic, hospital, claims)
    app = clinic.register(trusted=True)

    person.ask(app, "launch/patient patient/*.rs")

    assert person.tokens(app)["patient"] == clinic.patients["Zweig"]


def test_nobody_comes_in_without_a_role(clinic, hospital):
    person = sign_in(clinic, hospital, someone(groups=["cleaning"]))

    assert person.page.status_code == 403
    assert person.http.get("/auth/apps").is_redirect


@pytest.mark.parametrize(
    "wrong",
    [
        "state",
        "refused",
        "nonce",
        "aud",
        "iss",
        "azp",
        "expired",
        "auth_time",
        "key",
        "none",
    ],
)
def test_an_answer_that_is_wrong_in_one_thing_signs_nobody_in(clinic, hospital, wrong):
    person = sign_in(clinic, hospital, someone(), wrong)

    assert person.page.status_code in (400, 403)
    assert person.http.get("/auth/apps").is_redirect
    assert sign_in(clinic, hospital, someone()).page.status_code == 200


def test_an_answer_meant_for_another_browser_signs_nobody_in(clinic, hospital):
    hospital.tell(claims=someone(), wrong="")
    attacker, victim = Person(clinic.base), Person(clinic.base)
    there = attacker.http.get(attacker.http.get("/login/federated").headers["location"])

    answer = victim.http.get(there.headers["location"])

    assert answer.status_code == 400
    assert victim.http.get("/auth/apps").is_redirect


def test_a_local_user_is_never_taken_over_by_name(clinic, hospital):
    person = sign_in(clinic, hospital, someone(preferred_username="clinic-root"))

    assert person.page.status_code == 403
    assert "Somebody else has the username" in told(person.page.text)
    assert clinic.users.find("clinic-root").role == "administrator"
    assert clinic.person("clinic-root").http.get("/admin/users").status_code == 200


def token_of(clinic, person):
    """Headers with an access token that an app got from this person."""
    app = clinic.register(trusted=True)
    person.ask(app, "user/Patient.rs offline_access")
    tokens = person.tokens(app)
    form = {
        "grant_type": "refresh_token",
        "refresh_token": tokens["refresh_token"],
        "client_id": app.client_id,
    }
    return {"Authorization": f"Bearer {tokens['access_token']}"}, form


@pytest.mark.parametrize("changes", [{"groups": []}, {"groups": ["cleaning"]}, {"groups": None}])
def test_who_has_lost_every_group_keeps_neither_sessions_nor_tokens(clinic, hospital, changes):
    claims = someone()
    person, nobody = sign_in(clinic, hospital, claims), Person(clinic.base).http
    headers, form = token_of(clinic, person)
    before = nobody.get("/fhir/Patient?_count=1", headers=headers)

    stopped = sign_in(clinic, hospital, {**claims, **changes})
    after = nobody.get("/fhir/Patient?_count=1", headers=headers)
    refreshed = nobody.post("/auth/token", data=form)

    assert "gives you no role here" in told(stopped.page.text)
    assert (before.status_code, after.status_code, refreshed.status_code) == (200, 401, 400)
    wait_for(lambda: person.http.get("/auth/apps").is_redirect, "the session to end", 20)


def test_who_is_disabled_here_stays_out(clinic, hospital):
    claims = someone()
    sign_in(clinic, hospital, claims)
    user = clinic.users.find(claims["preferred_username"])
    clinic.users.change(replace(user, disabled=True))

    page = sign_in(clinic, hospital, claims).page

    assert page.status_code == 403
    assert "is disabled here; an administrator can enable it" in told(page.text)


def test_another_role_at_the_hospital_counts_here_and_ends_what_apps_were_allowed(clinic, hospital):
    claims = someone()
    app = clinic.register(trusted=True)
    person = sign_in(clinic, hospital, claims)
    person.ask(app, "user/Patient.rs")
    token = person.tokens(app)["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    before = Person(clinic.base).http.get("/fhir/Patient?_count=1", headers=headers)

    sign_in(clinic, hospital, {**claims, "groups": ["archive"]})
    after = Person(clinic.base).http.get("/fhir/Patient?_count=1", headers=headers)

    assert clinic.users.find(claims["preferred_username"]).role == "technologist"
    assert (before.status_code, after.status_code) == (200, 401)
    # A session is looked up once in some seconds.
    wait_for(lambda: person.http.get("/auth/apps").is_redirect, "the session to end", 20)


def test_a_federated_user_has_no_password(clinic, hospital):
    claims = someone()
    sign_in(clinic, hospital, claims)
    person = Person(clinic.base)

    for password in ("!", "", PASSWORD):
        assert person.sign_in(claims["preferred_username"], password).status_code in (401, 429)


def test_after_the_login_nobody_is_sent_to_another_site(clinic, hospital):
    person = sign_in(clinic, hospital, someone(), target="//evil.example/")

    assert urlsplit(str(person.page.url)).netloc == urlsplit(clinic.base).netloc


@pytest.mark.parametrize("target", ["/auth/apps?x=\u4e2d", "/auth/apps?" + "\u4e2d" * 3_000])
def test_a_target_that_no_header_can_hold_leads_to_a_page_of_ours(clinic, hospital, target):
    person = sign_in(clinic, hospital, someone(), target=target)

    assert person.page.status_code == 200
    assert person.http.get("/auth/apps").status_code == 200


def test_while_the_hospital_is_away_the_page_says_so(clinic, hospital):
    hospital.tell(claims=someone(), wrong="")
    person = Person(clinic.base)
    there = person.http.get(person.http.get("/login/federated").headers["location"])
    hospital.stop()
    try:
        answer = person.http.get(there.headers["location"])
        local = Person(clinic.base).sign_in("clinic-anna")
    finally:
        hospital.start()

    assert answer.status_code == 503
    assert "the provider does not answer" in told(answer.text).lower()
    assert person.http.get("/auth/apps").is_redirect
    assert local.status_code == 303


@pytest.mark.parametrize(
    ("wrong", "says"), [("metadata", "name another issuer"), ("plain", "lack an endpoint")]
)
def test_metadata_of_another_issuer_or_without_tls_lead_nobody_there(hospital, wrong, says):
    hospital.tell(wrong=wrong)
    try:
        with pytest.raises(ProviderError, match=says):
            asyncio.run(Provider(at_the_hospital(hospital)).authorize_url("s", "n", "c"))
    finally:
        hospital.tell(wrong="")


def test_users_may_not_be_added_under_a_federated_name(clinic, hospital):
    claims = someone()
    sign_in(clinic, hospital, claims)

    with pytest.raises(UserError):
        clinic.users.add(User(claims["preferred_username"], "", "viewer"), PASSWORD)
