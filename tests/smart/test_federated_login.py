"""How fresh a login at the hospital's provider is, and how far a sign-out reaches."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import parse_qsl, urlsplit

import pytest

from access import AuditEventKind
from access.browser import Cookie
from authorization.trust.federated import Federated
from authorization.trust.provider import Provider
from tests.authorization.site import claims_of
from tests.smart.clinic import Person, told
from tests.smart.federated import (
    at_the_hospital,
    by_the_link,
    sign_in,
    sign_out,
    someone,
    there_and_back,
)

FRESHNESS = [
    ({"prompt": "login"}, {"prompt": "login", "max_age": "0"}),
    ({"max_age": "300"}, {"max_age": "300"}),
    ({}, {}),
]


@pytest.mark.parametrize(("asked", "passed_on"), FRESHNESS)
def test_how_fresh_an_app_wants_the_login_is_passed_on_to_the_hospital(
    clinic, hospital, asked, passed_on
):
    person, app = Person(clinic.base), clinic.register(trusted=True)
    person.ask(app, "user/Patient.rs", **asked)

    sent = dict(parse_qsl(urlsplit(by_the_link(person).headers["location"]).query))

    assert {one: sent[one] for one in ("prompt", "max_age") if one in sent} == passed_on


def test_who_is_signed_in_signs_in_anew_at_the_hospital_where_an_app_wants_it(clinic, hospital):
    person, app = sign_in(clinic, hospital, someone()), clinic.register(trusted=True)

    page = person.ask(app, "openid user/Patient.rs", prompt="login")
    asked_at = int(time.time())
    there_and_back(person, by_the_link(person))

    assert "Sign in" in told(page.text)
    assert claims_of(person.tokens(app)["id_token"])["auth_time"] >= asked_at - 1


def test_the_id_token_says_when_the_hospital_saw_the_user_or_nothing(clinic, hospital):
    seen_at = int(time.time()) - 100
    hospital.tell(claims=someone(), wrong="", seen_at=seen_at)
    known, unknown = Person(clinic.base), sign_in(clinic, hospital, someone())
    app = clinic.register(trusted=True)

    known.ask(app, "openid user/Patient.rs", max_age="300")
    there_and_back(known, by_the_link(known))
    unknown.ask(app, "openid user/Patient.rs")

    assert claims_of(known.tokens(app)["id_token"])["auth_time"] == seen_at
    assert "auth_time" not in claims_of(unknown.tokens(app)["id_token"])


@pytest.mark.parametrize("asked", [{"prompt": "login"}, {"max_age": "300"}])
def test_a_sign_in_at_the_hospital_that_is_too_old_opens_no_app(clinic, hospital, asked):
    hospital.tell(claims=someone(), wrong="lazy", seen_at=time.time() - 3600)
    person, app = Person(clinic.base), clinic.register(trusted=True)
    person.ask(app, "user/Patient.rs", **asked)

    there_and_back(person, by_the_link(person))

    denied = [one for one in clinic.trail() if one.event is AuditEventKind.DENIED]
    assert person.answered()["error"] == "login_required"
    assert "code" not in person.answered()
    assert "does not say that the user has signed in anew" in denied[-1].detail


def test_a_login_that_asked_the_hospital_for_nothing_opens_no_app_that_does(clinic, hospital):
    person, app = Person(clinic.base), clinic.register(trusted=True)
    person.ask(app, "user/Patient.rs", prompt="login")
    steps = parse_qsl(urlsplit(str(person.page.url)).query)[-1][1]
    hospital.tell(claims=someone(), wrong="")
    there_and_back(person, person.http.get("/login/federated", params={"next": "/auth/apps"}))

    person.follow(person.http.get(steps))

    assert person.answered()["error"] == "login_required"


def test_a_sign_out_goes_on_to_the_hospital_and_comes_back(clinic, hospital):
    claims = someone()
    person = sign_in(clinic, hospital, claims)

    leads_to = sign_out(person)
    over = person.http.get("/auth/apps").is_redirect
    back = person.http.get(leads_to).headers["location"]
    landed, again = person.http.get(back), person.http.get(back)

    asked = hospital.tell()["ended"][-1]
    assert over
    assert leads_to.startswith(f"{hospital.issuer}/end?")
    assert claims_of(asked["id_token_hint"])["sub"] == claims["sub"]
    assert asked["client_id"] == "hilum"
    assert asked["post_logout_redirect_uri"] == f"{clinic.base}/login/federated/out"
    assert "You are signed out here and with the hospital" in told(landed.text)
    assert again.headers["location"] == "/login"


def test_a_sign_out_at_the_hospital_that_began_elsewhere_is_not_taken_for_one_here(clinic):
    answer = Person(clinic.base).http.get("/login/federated/out", params={"state": "x"})

    assert (answer.status_code, answer.headers["location"]) == (303, "/login")


def test_who_signed_in_with_a_password_signs_out_here_only(clinic):
    person = clinic.person("clinic-anna")

    assert sign_out(person) is None
    assert person.page.headers["location"] == "/login"


def test_signing_out_ends_online_access(clinic, hospital):
    app = clinic.register(trusted=True)
    person = sign_in(clinic, hospital, someone())
    person.ask(app, "online_access user/Patient.rs")
    token = person.tokens(app)["refresh_token"]
    form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": app.client_id}
    first = person.http.post("/auth/token", data=form)

    sign_out(person)
    form["refresh_token"] = first.json()["refresh_token"]
    second = person.http.post("/auth/token", data=form)

    assert first.status_code == 200
    assert (second.status_code, second.json()["error"]) == (400, "invalid_grant")


def farewell(hospital, id_token="a.b.c"):
    provider = Provider(at_the_hospital(hospital))
    # Saying farewell looks at no table.
    federated = Federated(provider, None, None, None, Cookie("http://127.0.0.1"), None)
    return asyncio.run(federated.farewell(id_token))


def test_without_a_place_to_sign_out_at_the_provider_the_sign_out_ends_here(hospital):
    hospital.tell(wrong="no end")
    try:
        nowhere = farewell(hospital)
    finally:
        hospital.tell(wrong="")
    hospital.stop()
    try:
        away = farewell(hospital)
    finally:
        hospital.start()

    assert nowhere is None and away is None


def test_an_id_token_too_long_for_an_address_is_no_hint(hospital):
    short, long = farewell(hospital), farewell(hospital, "a" * 4_000)

    assert b"id_token_hint=a.b.c" in short.body
    assert b"id_token_hint" not in long.body and b"client_id=hilum" in long.body
