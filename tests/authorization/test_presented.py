"""Revocation and introspection of tokens."""

from __future__ import annotations

import time

import pytest

from authorization.clients import CREDENTIALS, Client
from authorization.context import LaunchContext
from tests.authorization.site import ASSERTION_TYPE, public_app, public_set, rsa_key

KEY = rsa_key()
SCOPE = "openid fhirUser launch patient/*.rs offline_access"
CONTEXT = LaunchContext(
    patient="p1",
    encounter="e1",
    fhir_context=({"reference": "ImagingStudy/s1"},),
    intent="read-study",
)


@pytest.fixture
def confidential(site):
    client = public_app("introspecting", kind="symmetric")
    return client, site.register(client)


@pytest.fixture(scope="module")
def machine(site):
    client = Client(
        client_id="resource-server",
        name="A resource server",
        kind="asymmetric",
        jwks=public_set(KEY),
        scopes="system/*.rs",
        grant_types=(CREDENTIALS,),
        backend=True,
    )
    site.register(client)
    return client


def proof(site):
    return {
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": site.assertion("resource-server", KEY),
    }


def revoke(site, client, token, **more):
    return site.post("revoke", token=token, client_id=client.client_id, **more)


def test_a_revoked_access_token_is_401_at_the_next_use_and_others_stay(site, app):
    one, other = (site.tokens(app, "user/*.rs offline_access") for _ in range(2))

    answer = revoke(site, app, one["access_token"])

    assert answer.status_code == 200
    assert site.studies(one["access_token"]).status_code == 401
    assert site.studies(one["access_token"]).headers["www-authenticate"].startswith("Bearer")
    assert site.studies(other["access_token"]).status_code in (200, 204)
    assert site.refresh(app, one["refresh_token"]).status_code == 200


def test_a_revoked_refresh_token_takes_its_family_along(site, app):
    first = site.tokens(app, "user/*.rs offline_access")
    second = site.refresh(app, first["refresh_token"]).json()

    answer = revoke(site, app, second["refresh_token"], token_type_hint="refresh_token")

    assert answer.status_code == 200
    assert site.refresh(app, second["refresh_token"]).json()["error"] == "invalid_grant"
    for one in (first, second):
        assert site.studies(one["access_token"]).status_code == 401


@pytest.mark.parametrize("hint", [None, "access_token", "refresh_token", "nonsense"])
def test_a_wrong_hint_does_not_matter(site, app, hint):
    found = site.tokens(app, "user/*.rs offline_access")

    assert revoke(site, app, found["access_token"], token_type_hint=hint).status_code == 200
    assert site.studies(found["access_token"]).status_code == 401


def test_an_unknown_token_is_200(site, app):
    found = site.tokens(app)
    revoke(site, app, found["access_token"])

    for token in ("unknown", "x.y.z", found["access_token"], "\u0000", "é"):
        assert revoke(site, app, token).status_code == 200


def test_the_token_of_another_client_is_refused_and_lives_on(site, app):
    other = public_app("thief")
    site.register(other)
    found = site.tokens(app, "user/*.rs offline_access")

    answers = [revoke(site, other, found[name]) for name in ("access_token", "refresh_token")]

    assert [one.status_code for one in answers] == [400, 400]
    assert site.studies(found["access_token"]).status_code in (200, 204)
    assert site.refresh(app, found["refresh_token"]).status_code == 200


def test_who_revokes_has_to_prove_to_be_the_client(site, confidential):
    client, secret = confidential
    asked, code = site.code(client)
    token = site.redeem(client, asked, code, client_secret=secret).json()["access_token"]

    without = site.post("revoke", token=token)
    by_name = revoke(site, client, token)

    assert (without.status_code, by_name.status_code) == (401, 401)
    assert site.studies(token).status_code in (200, 204)
    assert revoke(site, client, token, client_secret=secret).status_code == 200


def test_a_request_without_a_token_is_told_so(site, app, confidential):
    client, secret = confidential

    revoking = site.post("revoke", client_id=app.client_id)
    introspecting = site.post("introspect", auth=(client.client_id, secret))

    for answer in (revoking, introspecting):
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_an_active_token_is_introspected_with_its_context_and_its_user(site, app, machine):
    found = site.tokens(app, SCOPE, context=CONTEXT)

    answer = site.post("introspect", token=found["access_token"], **proof(site))

    told, now = answer.json(), time.time()
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert told["active"] is True
    assert told["scope"] == found["scope"]
    assert told["client_id"] == app.client_id
    assert now < told["exp"] <= now + 3600
    assert (told["patient"], told["encounter"], told["intent"]) == ("p1", "e1", "read-study")
    assert told["fhirContext"] == [{"reference": "ImagingStudy/s1"}]
    assert told["iss"] == site.base
    assert told["sub"] == "anna"
    assert told["fhirUser"] == f"{site.base}/fhir/Practitioner/anna"


def test_a_token_without_an_id_token_does_not_tell_its_user(site, app, machine):
    found = site.tokens(app, "patient/*.rs", context=CONTEXT)

    told = site.post("introspect", token=found["access_token"], **proof(site)).json()

    assert told["active"] is True
    assert not {"iss", "sub", "fhirUser"} & told.keys()


def test_a_refresh_token_is_introspected_until_it_is_used(site, app, machine):
    found = site.tokens(app, SCOPE, context=CONTEXT)
    before = site.post("introspect", token=found["refresh_token"], **proof(site)).json()
    new = site.refresh(app, found["refresh_token"]).json()
    after = site.post("introspect", token=found["refresh_token"], **proof(site)).json()

    assert before["active"] is True
    assert (before["patient"], before["client_id"]) == ("p1", app.client_id)
    assert after == {"active": False}
    # Asking about a used one is no theft: the family lives on.
    assert site.refresh(app, new["refresh_token"]).status_code == 200


def test_of_an_inactive_token_nothing_else_is_told(site, app, machine):
    revoked = site.tokens(app, SCOPE, context=CONTEXT)["access_token"]
    revoke(site, app, revoked)

    for token in (revoked, "unknown", "x.y.z", revoked[:-6] + "AAAAAA"):
        told = site.post("introspect", token=token, **proof(site))
        assert (told.status_code, told.json()) == (200, {"active": False})


def test_who_introspects_has_to_prove_who_they_are(site, app):
    token = site.tokens(app)["access_token"]

    for fields in (
        {},
        {"client_id": app.client_id},
        {"headers": {"Authorization": "Bearer x.y.z"}},
        {"auth": ("introspecting", "wrong")},
    ):
        answer = site.post("introspect", token=token, **fields)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


def test_a_client_introspects_its_own_tokens_and_no_others(site, app, confidential):
    client, secret = confidential
    asked, code = site.code(client)
    own = site.redeem(client, asked, code, client_secret=secret).json()["access_token"]
    others = site.tokens(app)["access_token"]

    told = [
        site.post("introspect", token=token, auth=(client.client_id, secret)).json()["active"]
        for token in (own, others)
    ]

    assert told == [True, False]


def test_a_bearer_introspects_by_its_own_token(site, app, machine):
    found = site.tokens(app)
    system = site.backend(site.assertion("resource-server", KEY)).json()["access_token"]
    other = public_app("other-bearer")
    site.register(other)
    stranger = site.tokens(other)["access_token"]

    told = [
        site.post(
            "introspect",
            token=found["access_token"],
            headers={"Authorization": f"Bearer {bearer}"},
        ).json()["active"]
        for bearer in (found["access_token"], system, stranger)
    ]

    assert told == [True, True, False]


def test_revocations_are_in_the_audit_trail(site, app):
    revoke(site, app, site.tokens(app)["access_token"])

    assert site.audits()[-1].event == "revoke"
    assert site.audits()[-1].caller.client == app.client_id
