"""Codes at the token endpoint: what they give, once, and to whom."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import psycopg
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from authorization.context import LaunchContext
from tests.authorization.site import ANNA, VIEW, claims_of, public_app, running_site

FULL = LaunchContext(
    patient="p1",
    encounter="e1",
    fhir_context=(
        {"reference": "ImagingStudy/s1"},
        {"reference": "DiagnosticReport/d1"},
    ),
    intent="read-study",
    need_patient_banner=False,
    smart_style_url="https://example.org/style/1.json",
)


def refused(answer: httpx.Response) -> bool:
    return answer.status_code == 400 and answer.json()["error"] == "invalid_grant"


def test_a_code_gives_a_bearer_token_that_opens_the_doors_and_must_not_be_stored(site, app):
    answer = site.redeem(app, *site.code(app))

    found = answer.json()
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"
    assert answer.headers["content-type"] == "application/json"
    assert found["token_type"] == "Bearer"
    assert found["expires_in"] == 3600
    assert found["scope"] == "user/*.rs"
    assert "refresh_token" not in found
    assert "id_token" not in found
    assert site.studies(found["access_token"]).status_code in (200, 204)


def test_the_launch_context_is_beside_the_token_and_in_it(site, app):
    found = site.tokens(app, "launch patient/*.rs", context=FULL)

    assert found["patient"] == "p1"
    assert found["encounter"] == "e1"
    assert found["fhirContext"] == [
        {"reference": "ImagingStudy/s1"},
        {"reference": "DiagnosticReport/d1"},
    ]
    assert found["intent"] == "read-study"
    assert found["need_patient_banner"] is False
    assert found["smart_style_url"] == "https://example.org/style/1.json"
    claims = claims_of(found["access_token"])
    assert claims["aud"] == f"{site.base}/fhir"
    assert (claims["patient"], claims["encounter"]) == ("p1", "e1")
    assert claims["fhirUser"] == "Practitioner/anna"
    assert claims["client_id"] == app.client_id


def test_an_app_has_to_show_the_banner_unless_it_is_told_otherwise(site, app):
    with_patient = site.tokens(app, "patient/*.rs", context=LaunchContext(patient="p1"))
    without = site.tokens(app)

    assert with_patient["need_patient_banner"] is True
    assert "need_patient_banner" not in without
    assert "patient" not in without


def test_the_granted_scope_is_told_when_it_is_less_than_was_asked(site, app):
    granted = "user/Patient.rs user/ImagingStudy.read openid"
    asked = "user/*.cruds user/ImagingStudy.read openid"
    viewer = site.tokens(app, asked, user=VIEW, granted=granted)

    assert viewer["scope"] == "user/Patient.rs user/ImagingStudy.read openid"


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": "x" * 43},
        {"code_verifier": "short"},
        {"code_verifier": ""},
        {"code_verifier": None},
        {"redirect_uri": "https://app.example.org/other"},
        {"redirect_uri": None},
        {"code": "unknown"},
    ],
    ids=str,
)
def test_a_code_counts_only_with_its_verifier_and_its_redirect_uri(site, app, changes):
    asked, code = site.code(app)

    assert refused(site.redeem(app, asked, **{"code": code, **changes}))


def test_a_verifier_of_another_request_is_refused(site, app):
    one, code = site.code(app)
    other, _ = site.code(app)

    assert refused(site.redeem(app, one, code, code_verifier=other.verifier))


def test_a_code_of_another_client_is_refused_and_stays_good_for_its_own(site, app):
    other = public_app("other-app")
    site.register(other)
    asked, code = site.code(app)

    assert refused(site.redeem(other, asked, code))
    assert site.redeem(app, asked, code).status_code == 200


def test_a_code_that_comes_again_is_refused_and_ends_what_it_had_given(site, app):
    asked, code = site.code(app, "user/*.rs offline_access")
    first = site.redeem(app, asked, code).json()
    before = site.studies(first["access_token"]).status_code

    again = site.redeem(app, asked, code)

    assert before in (200, 204)
    assert refused(again)
    assert site.studies(first["access_token"]).status_code == 401
    assert refused(site.refresh(app, first["refresh_token"]))


def test_a_code_that_comes_twice_at_once_leaves_nothing_usable(site, app):
    asked, code = site.code(app)
    answers: list[httpx.Response] = []

    def send() -> None:
        with httpx.Client(trust_env=False, timeout=30) as client:
            fields = {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": asked.redirect_uri,
                "code_verifier": asked.verifier,
                "client_id": app.client_id,
            }
            answers.append(client.post(site.token_url, data=fields))

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    given = [one.json()["access_token"] for one in answers if one.status_code == 200]
    assert len(answers) == 6
    assert len(given) <= 1
    assert all(site.studies(one).status_code == 401 for one in given)


def test_a_code_that_is_older_than_a_minute_is_refused(site, app):
    asked, code = site.code(app)
    with psycopg.connect(site.server.config.dsn) as connection:
        connection.execute(
            "update authorization_server.approval set code_expires_at = code_expires_at"
            " - interval '61 seconds' where code_used_at is null"
        )

    assert refused(site.redeem(app, asked, code))


def test_a_user_who_was_disabled_meanwhile_gets_no_token(site, app):
    asked, code = site.code(app, user=VIEW, scope="user/Patient.rs")
    site.users.change(replace(VIEW, disabled=True))
    try:
        answer = site.redeem(app, asked, code)
    finally:
        site.users.change(VIEW)

    assert refused(answer)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"grant_type": None}, "unsupported_grant_type"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "implicit"}, "unsupported_grant_type"),
        ({"grant_type": "client_credentials"}, "invalid_client"),
        ({"code": None}, "invalid_request"),
    ],
    ids=str,
)
def test_other_grants_and_missing_fields_have_their_errors(site, app, fields, error):
    asked, code = site.code(app)

    answer = site.redeem(app, asked, **{"code": code, **fields})

    assert answer.status_code in (400, 401)
    assert answer.json()["error"] == error
    assert answer.headers["cache-control"] == "no-store"


def test_a_token_request_is_a_form_and_by_post(site, app):
    code = site.code(app)[1]
    fields = {"grant_type": "authorization_code", "code": code, "client_id": app.client_id}

    by_json = site.http.post(site.token_url, json=fields)
    by_get = site.http.get(site.token_url, params=fields)
    twice = site.http.post(
        site.token_url,
        content=f"grant_type=authorization_code&code={code}&code=x",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    broken = site.http.post(
        site.token_url,
        content=b"grant_type=%ff%fe&code=\xff",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )

    assert [one.status_code for one in (by_json, by_get, twice, broken)] == [400, 405, 400, 400]
    assert by_json.json()["error"] == twice.json()["error"] == "invalid_request"


def test_the_id_token_says_who_the_user_is_and_verifies_with_the_published_keys(site, app):
    asked = site.ask(app, "openid fhirUser user/*.rs", nonce="n-0S6_WzA2Mj")
    found = site.redeem(app, asked, site.agree(asked)["code"]).json()
    provider = site.http.get(f"{site.base}/.well-known/openid-configuration").json()
    keys = KeySet.import_key_set(site.http.get(provider["jwks_uri"]).json())

    token = jwt.decode(found["id_token"], keys, algorithms=["RS256"])

    claims, now = token.claims, time.time()
    assert token.header["alg"] == "RS256"
    assert claims["iss"] == provider["issuer"] == site.base
    assert claims["aud"] == app.client_id
    assert 0 < len(claims["sub"]) < 256
    assert now - 60 < claims["iat"] <= now < claims["exp"]
    assert claims["nonce"] == "n-0S6_WzA2Mj"
    assert claims["fhirUser"] == f"{site.base}/fhir/Practitioner/anna"
    assert claims["auth_time"] <= now


def test_the_id_token_says_when_the_user_signed_in_and_not_when_they_agreed(site, app):
    signed_in = datetime.now(UTC) - timedelta(hours=2)

    found = site.tokens(app, "openid user/*.rs offline_access", signed_in=signed_in)
    again = site.refresh(app, found["refresh_token"]).json()

    for one in (found, again):
        assert claims_of(one["id_token"])["auth_time"] == int(signed_in.timestamp())


def test_the_id_token_says_no_time_of_sign_in_that_nobody_knows(site, app):
    found = site.tokens(app, "openid user/*.rs", signed_in=None)

    assert "auth_time" not in claims_of(found["id_token"])


def test_what_a_client_lost_while_a_person_was_asked_is_not_granted(site, app):
    asked, code = site.code(app, "user/Patient.rs user/Observation.rs")
    site.server.clients.change(replace(app, scopes="user/Patient.rs"))

    found = site.redeem(app, asked, code).json()

    assert found["scope"] == claims_of(found["access_token"])["scope"] == "user/Patient.rs"


def test_scopes_that_no_token_can_carry_are_an_error_and_not_a_token(site):
    kinds = ("Observation", "Condition", "DiagnosticReport", "ServiceRequest")
    every = " ".join(f"user/{one}.rs" for one in kinds)
    client = public_app("greedy", scopes=every)
    site.register(client)
    many = " ".join(f"user/Observation.rs?code=http://loinc.org|{n}" for n in range(9000, 9170))
    expanding = " ".join(f"user/*.rs?code=http://loinc.org|{n}" for n in range(9000, 9200))

    asked = site.ask(client, many)
    large = LaunchContext(fhir_context=({"identifier": {"value": "x" * 6000}},))
    answer = site.redeem(client, asked, site.agree(asked, context=large)["code"])

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")
    assert site.ask(client, expanding).error == "invalid_scope"


def test_without_the_fhir_user_scope_the_id_token_does_not_name_them(site, app):
    found = site.tokens(app, "openid user/*.rs")

    claims = claims_of(found["id_token"])
    assert "fhirUser" not in claims
    assert "nonce" not in claims


def test_a_token_lives_as_long_as_the_settings_say(postgres, tmp_path):
    postgres.create_database("authorization_short")
    dsn = postgres.dsn("authorization_short")
    client = public_app()
    with running_site(dsn, tmp_path, access_s=120, online_s=30) as site:
        site.register(client)
        session = site.sessions.open(ANNA)
        plain = site.tokens(client)
        online = site.tokens(client, "user/*.rs online_access", session=session)
        offline = site.tokens(client, "user/*.rs offline_access")

    for found, lifetime in ((plain, 120), (online, 30), (offline, 120)):
        claims = claims_of(found["access_token"])
        assert found["expires_in"] == lifetime
        assert claims["exp"] - claims["iat"] == lifetime


def test_each_token_is_in_the_audit_trail_with_client_user_and_patient(site, app):
    site.tokens(app, "patient/*.rs", context=LaunchContext(patient="audited"))

    found = [one for one in site.audits() if one.patient == "Patient/audited"]
    assert [one.event for one in found] == ["token"]
    assert found[0].caller.subject == "anna"
    assert found[0].caller.client == app.client_id
    assert found[0].caller.address == "127.0.0.1"
