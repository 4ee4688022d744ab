"""Refresh tokens: one after the other, and their end."""

from __future__ import annotations

import threading
from dataclasses import replace

import httpx
import psycopg
import pytest

from access.users import Users
from authorization.context import LaunchContext
from tests.authorization.site import ANNA, claims_of, public_app

SCOPE = "openid fhirUser launch patient/*.rs user/Observation.rs offline_access"
CONTEXT = LaunchContext(
    patient="p1",
    encounter="e1",
    fhir_context=({"reference": "ImagingStudy/s1"},),
    intent="read-study",
)


def refused(answer: httpx.Response) -> bool:
    return answer.status_code == 400 and answer.json()["error"] == "invalid_grant"


@pytest.fixture
def first(site, app):
    return site.tokens(app, SCOPE, context=CONTEXT)


def test_a_refresh_keeps_patient_context_and_scope_and_gives_a_new_refresh_token(site, app, first):
    answer = site.refresh(app, first["refresh_token"])

    found = answer.json()
    kept = ("patient", "encounter", "fhirContext", "intent", "need_patient_banner", "scope")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert {name: found[name] for name in kept} == {name: first[name] for name in kept}
    assert found["refresh_token"] != first["refresh_token"]
    assert found["access_token"] != first["access_token"]
    assert claims_of(found["access_token"])["patient"] == "p1"
    assert claims_of(found["id_token"])["sub"] == claims_of(first["id_token"])["sub"]


def test_a_smaller_scope_counts_for_the_access_token_only(site, app, first):
    small = site.refresh(app, first["refresh_token"], scope="patient/Observation.r")
    full = site.refresh(app, small.json()["refresh_token"])

    assert small.json()["scope"] == "patient/Observation.r"
    assert claims_of(small.json()["access_token"])["scope"] == "patient/Observation.r"
    assert full.json()["scope"] == first["scope"]


@pytest.mark.parametrize(
    "scope", ["patient/*.cruds", "user/*.rs", "system/*.rs", "patient/*.rs launch/patient", "x"]
)
def test_a_larger_scope_is_refused_and_the_refresh_token_stays_good(site, app, first, scope):
    larger = site.refresh(app, first["refresh_token"], scope=scope)

    assert (larger.status_code, larger.json()["error"]) == (400, "invalid_scope")
    assert site.refresh(app, first["refresh_token"]).status_code == 200


def test_an_old_refresh_token_that_comes_again_ends_the_whole_family(site, app):
    first = site.tokens(app, "user/*.rs offline_access")
    second = site.refresh(app, first["refresh_token"]).json()
    third = site.refresh(app, second["refresh_token"]).json()
    before = [site.studies(one["access_token"]).status_code for one in (first, second, third)]

    again = site.refresh(app, first["refresh_token"])

    after = [site.studies(one["access_token"]).status_code for one in (first, second, third)]
    assert all(one in (200, 204) for one in before)
    assert refused(again)
    assert refused(site.refresh(app, third["refresh_token"]))
    assert after == [401, 401, 401]


def test_a_refresh_token_that_comes_twice_at_once_ends_the_family(site, app, first):
    answers: list[httpx.Response] = []

    def send() -> None:
        fields = {
            "grant_type": "refresh_token",
            "refresh_token": first["refresh_token"],
            "client_id": app.client_id,
        }
        answers.append(httpx.post(site.token_url, data=fields, trust_env=False, timeout=30))

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    given = [one.json() for one in answers if one.status_code == 200]
    assert len(answers) == 6
    assert len(given) <= 1
    assert all(refused(site.refresh(app, one["refresh_token"])) for one in given)


def test_another_client_cannot_refresh_and_does_no_harm(site, app, first):
    other = public_app("other-refresher")
    site.register(other)

    assert refused(site.refresh(other, first["refresh_token"]))
    assert site.refresh(app, first["refresh_token"]).status_code == 200


def test_a_refresh_token_that_was_not_used_for_long_is_refused(site, app, first):
    with psycopg.connect(site.server.config.dsn) as connection:
        connection.execute(
            "update authorization_server.refresh set expires_at = now() - interval '1 second'"
            " where used_at is null"
        )

    assert refused(site.refresh(app, first["refresh_token"]))


def test_an_unknown_refresh_token_is_refused(site, app):
    for token in ("unknown", "\u0000", "x" * 5000, "ünï"):
        assert refused(site.refresh(app, token))


@pytest.fixture
def session(site):
    """Token of a browser session of the user."""
    return site.sessions.open(ANNA)


def sign_out(site, session: str) -> httpx.Response:
    with httpx.Client(
        base_url=site.base, headers={"Origin": site.base}, trust_env=False, timeout=60
    ) as browser:
        browser.cookies.set(site.server.requests._cookie.name, session)
        csrf = site.sessions.find(session).csrf
        return browser.post("/logout", data={"csrf": csrf})


def test_online_access_and_its_access_tokens_end_at_once_when_the_user_signs_out(
    site, app, session
):
    online = site.tokens(app, "user/*.rs online_access", session=session)
    offline = site.tokens(app, "user/*.rs offline_access", session=session)
    online = site.refresh(app, online["refresh_token"]).json()
    tokens = [one["access_token"] for one in (online, offline)]
    before = [site.studies(one).status_code for one in tokens]

    signed_out = sign_out(site, session)

    after = [site.studies(one).status_code for one in tokens]
    assert signed_out.status_code == 303
    assert (before, after) == ([204, 204], [401, 204])
    assert refused(site.refresh(app, online["refresh_token"]))
    assert site.refresh(app, offline["refresh_token"]).status_code == 200


def test_online_access_ends_with_a_session_that_another_login_replaces(site, app, session):
    token = site.tokens(app, "user/*.rs online_access", session=session)["access_token"]

    site.sessions.open(ANNA, before=session)

    assert site.studies(token).status_code == 401


def test_a_code_for_online_access_counts_no_more_after_the_sign_out(site, app, session):
    before = site.code(app, "user/*.rs online_access", session=session)
    request = site.ask(app, "user/*.rs online_access")
    sign_out(site, session)
    late = request, site.agree(request, session=session)["code"]

    assert refused(site.redeem(app, *before))
    assert refused(site.redeem(app, *late))


def test_online_access_without_a_session_gives_no_refresh_token(site, app):
    found = site.tokens(app, "user/*.rs online_access")

    assert "refresh_token" not in found


def test_without_one_of_the_two_scopes_there_is_no_refresh_token(site, app):
    assert "refresh_token" not in site.tokens(app, "user/*.rs")


@pytest.fixture
def quietly(site):
    """The users, changed without an end to what apps were allowed: a refresh looks itself."""
    users = Users(site.server.config.dsn)
    yield users
    users.change(ANNA)


def test_a_disabled_user_or_client_refreshes_no_more(site, app, first, quietly):
    second = site.tokens(app, SCOPE, context=CONTEXT)

    site.server.clients.change(replace(app, disabled=True))
    by_client = site.refresh(app, first["refresh_token"])
    site.server.clients.change(app)
    quietly.change(replace(ANNA, disabled=True))
    by_user = site.refresh(app, second["refresh_token"])

    assert (by_client.status_code, by_client.json()["error"]) == (401, "invalid_client")
    assert refused(by_user)


def test_what_a_role_lost_is_lost_at_the_next_refresh(site, app, quietly):
    first = site.tokens(app, "user/*.rs offline_access")
    quietly.change(replace(ANNA, role="viewer"))

    second = site.refresh(app, first["refresh_token"]).json()

    assert first["scope"] == "user/*.rs offline_access"
    assert "user/*.rs" not in second["scope"].split()
    assert "user/ImagingStudy.rs" in second["scope"].split()


def test_only_hashes_of_codes_and_refresh_tokens_are_in_the_database(site, app):
    asked, code = site.code(app, "user/*.rs offline_access")
    found = site.redeem(app, asked, code).json()

    with psycopg.connect(site.server.config.dsn) as connection:
        text = "".join(
            str(row)
            for table in ("approval", "refresh", "request")
            for row in connection.execute(f"select t::text from authorization_server.{table} t")
        )

    assert code not in text
    assert found["refresh_token"] not in text
    assert found["access_token"] not in text


def test_an_app_without_a_credential_may_refresh_without_its_name(site, app):
    token = site.tokens(app, "user/*.rs offline_access")["refresh_token"]

    unknown = site.post("token", grant_type="refresh_token", refresh_token="made-up")
    good = site.post("token", grant_type="refresh_token", refresh_token=token)

    assert (unknown.status_code, good.status_code) == (401, 200)
    assert good.json()["refresh_token"] != token
