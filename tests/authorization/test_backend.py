"""SMART Backend Services: machines without a person."""

from __future__ import annotations

from dataclasses import replace

import pytest

from authorization.clients import CREDENTIALS, Client
from authorization.ending import Endings
from tests.authorization.site import ASSERTION_TYPE, claims_of, public_app, public_set, rsa_key

KEY = rsa_key()


@pytest.fixture(scope="module")
def machine(site):
    client = Client(
        client_id="machine",
        name="A researcher's export",
        kind="asymmetric",
        jwks=public_set(KEY),
        scopes="system/ImagingStudy.rs system/Patient.rs system/Observation.read",
        grant_types=(CREDENTIALS,),
        backend=True,
    )
    site.register(client)
    return client


def ask(site, scope, **changes):
    return site.backend(site.assertion("machine", KEY), scope, **changes)


def test_a_backend_gets_a_short_token_and_no_refresh_token(site, machine):
    answer = ask(site, "system/ImagingStudy.rs")

    found = answer.json()
    claims = claims_of(found["access_token"])
    assert answer.status_code == 200
    assert found["token_type"] == "Bearer"
    assert found["scope"] == "system/ImagingStudy.rs"
    assert 0 < found["expires_in"] <= 300
    assert claims["exp"] - claims["iat"] == found["expires_in"]
    assert answer.headers["cache-control"] == "no-store"
    assert not {"refresh_token", "id_token", "patient"} & found.keys()
    assert "patient" not in claims
    assert site.studies(found["access_token"]).status_code in (200, 204)


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        ("system/*.rs", "system/ImagingStudy.rs system/Observation.rs system/Patient.rs"),
        ("system/*.cruds", "system/ImagingStudy.rs system/Observation.rs system/Patient.rs"),
        ("system/ImagingStudy.cruds", "system/ImagingStudy.rs"),
        ("system/*.read", "system/ImagingStudy.read system/Observation.read system/Patient.read"),
        ("system/Observation.rs?category=laboratory",) * 2,
        ("system/Patient.r system/Condition.rs", "system/Patient.r"),
    ],
)
def test_a_scope_beyond_the_pre_authorization_is_narrowed(site, machine, asked, granted):
    answer = ask(site, asked)

    assert answer.status_code == 200
    assert answer.json()["scope"] == granted
    assert claims_of(answer.json()["access_token"])["scope"] == granted


@pytest.mark.parametrize(
    "scope",
    [
        "patient/*.rs",
        "user/*.rs",
        "patient/*.rs system/ImagingStudy.rs",
        "system/Condition.rs",
        "system/ImagingStudy.d",
        "offline_access",
        "openid",
        "nonsense",
        "",
        None,
    ],
)
def test_what_a_backend_cannot_have_is_invalid_scope(site, machine, scope):
    answer = ask(site, scope)

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")


def test_only_a_backend_client_gets_tokens_without_a_person(site):
    secret_app = public_app("secretive", kind="symmetric")
    secret = site.register(secret_app)
    signing_app = public_app("signing", kind="asymmetric", jwks=public_set(KEY))
    site.register(signing_app)

    by_secret = site.post(
        "token", grant_type=CREDENTIALS, scope="system/*.rs", auth=("secretive", secret)
    )
    by_key = site.backend(site.assertion("signing", KEY))

    assert (by_secret.status_code, by_secret.json()["error"]) == (401, "invalid_client")
    assert (by_key.status_code, by_key.json()["error"]) == (400, "unauthorized_client")


def test_a_backend_cannot_ask_a_person_or_refresh(site, machine):
    refreshing = site.post(
        "token",
        grant_type="refresh_token",
        refresh_token="x",
        client_assertion_type=ASSERTION_TYPE,
        client_assertion=site.assertion("machine", KEY),
    )

    assert (refreshing.status_code, refreshing.json()["error"]) == (400, "unauthorized_client")
    asked = site.http.get(f"{site.base}/auth/authorize", params={"client_id": "machine"})
    assert (asked.status_code, "location" in asked.headers) == (400, False)


def test_a_disabled_backend_gets_nothing(site, machine):
    site.server.clients.change(replace(machine, disabled=True))
    try:
        answer = ask(site, "system/ImagingStudy.rs")
    finally:
        site.server.clients.change(machine)

    assert answer.json()["error"] == "invalid_client"


def test_a_token_of_a_backend_ends_with_the_client_and_the_next_one_counts(site, machine):
    endings = Endings(site.server.config.dsn, site.authority.revocations)
    first = ask(site, "system/ImagingStudy.rs").json()["access_token"]
    before = site.studies(first).status_code

    endings.of_client("machine")
    second = ask(site, "system/ImagingStudy.rs").json()["access_token"]

    assert before in (200, 204)
    assert site.studies(first).status_code == 401
    assert site.studies(second).status_code in (200, 204)


def test_more_scopes_than_a_token_can_carry_are_invalid_scope(site, machine):
    many = " ".join(f"system/Observation.rs?code=http://loinc.org|{n}" for n in range(400))

    answer = ask(site, many)

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")


def test_each_token_of_a_backend_is_in_the_audit_trail(site, machine):
    ask(site, "system/ImagingStudy.rs")
    ask(site, "system/Condition.rs")

    mine = [one for one in site.audits() if one.caller and one.caller.client == "machine"]
    assert mine[-2].event == "token"
    assert mine[-1].event == "denied"
    assert "invalid_scope" in mine[-1].detail
