"""Clients with a secret, and clients with nothing, at the token endpoint."""

from __future__ import annotations

from dataclasses import replace

import httpx
import psycopg
import pytest

from authorization import attempts
from tests.authorization.site import public_app

SCOPE = "user/*.rs offline_access"


@pytest.fixture
def confidential(site):
    """A symmetric client and its secret."""
    client = public_app("with-secret", kind="symmetric")
    return client, site.register(client)


def wrong(answer: httpx.Response) -> bool:
    return answer.status_code == 401 and answer.json()["error"] == "invalid_client"


def test_a_secret_counts_by_basic_and_by_post(site, confidential):
    client, secret = confidential

    by_basic = site.redeem(
        client, *site.code(client, SCOPE), client_id=None, auth=(client.client_id, secret)
    )
    by_post = site.redeem(client, *site.code(client, SCOPE), client_secret=secret)
    refreshed = site.refresh(client, by_post.json()["refresh_token"], client_secret=secret)

    assert [one.status_code for one in (by_basic, by_post, refreshed)] == [200, 200, 200]


def test_a_wrong_secret_is_401_invalid_client_and_the_code_stays_good(site, confidential):
    client, secret = confidential
    asked, code = site.code(client)

    by_basic = site.redeem(client, asked, code, auth=(client.client_id, "wrong"))
    by_post = site.redeem(client, asked, code, client_secret="wrong")
    with_none = site.redeem(client, asked, code)

    assert wrong(by_basic)
    assert by_basic.headers["www-authenticate"].startswith("Basic")
    assert wrong(by_post)
    assert wrong(with_none)
    assert site.redeem(client, asked, code, client_secret=secret).status_code == 200


def test_a_confidential_client_needs_its_verifier_as_well(site, confidential):
    client, secret = confidential
    asked, code = site.code(client)

    answer = site.redeem(client, asked, code, code_verifier=None, client_secret=secret)

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


def test_two_proofs_at_once_are_refused(site, confidential):
    client, secret = confidential
    asked, code = site.code(client)

    answer = site.redeem(client, asked, code, client_secret=secret, auth=(client.client_id, secret))

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_a_secret_with_the_name_of_another_client_is_refused(site, confidential, app):
    client, secret = confidential
    asked, code = site.code(client)

    assert wrong(site.redeem(app, asked, code, auth=(client.client_id, secret)))


def test_a_public_client_cannot_pretend_to_have_a_secret(site, app):
    asked, code = site.code(app)

    assert wrong(site.redeem(app, asked, code, client_secret="anything"))
    assert wrong(site.redeem(app, asked, code, auth=(app.client_id, "anything")))


@pytest.mark.parametrize(
    "header", ["Basic", "Basic !!!", "Basic /////w==", "Basic Og==", "Digest x", "x" * 99]
)
def test_a_damaged_authorization_header_is_refused(site, confidential, header):
    client, _ = confidential
    asked, code = site.code(client)

    assert wrong(site.redeem(client, asked, code, headers={"Authorization": header}))


def test_an_unknown_and_a_disabled_client_are_refused_alike(site, confidential):
    client, secret = confidential
    site.server.clients.change(replace(client, disabled=True))

    disabled = site.refresh(client, "x", client_secret=secret)
    unknown = site.refresh(public_app("never-registered"), "x", client_secret=secret)

    assert wrong(disabled)
    assert wrong(unknown)
    assert disabled.json() == unknown.json()


def test_many_wrong_secrets_make_their_address_wait_and_the_client_elsewhere_not(site):
    client = public_app("guessed", kind="symmetric")
    secret = site.register(client)
    for _ in range(attempts.FREE_FAILURES):
        assert wrong(site.refresh(client, "x", client_secret="wrong"))

    answer = site.refresh(client, "x", client_secret=secret)

    with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.2")) as elsewhere:
        fields = {"grant_type": "refresh_token", "refresh_token": "x"}
        other = elsewhere.post(site.token_url, data=fields, auth=(client.client_id, secret))
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    assert other.json()["error"] == "invalid_grant"


def test_a_new_secret_ends_the_old_one(site, confidential):
    client, old = confidential
    new = site.server.clients.rotate_secret(client.client_id)

    by_old = site.redeem(client, *site.code(client), client_secret=old)
    by_new = site.redeem(client, *site.code(client), client_secret=new)

    assert wrong(by_old)
    assert by_new.status_code == 200


def test_a_secret_is_long_and_kept_as_an_argon2_hash(site, confidential):
    client, secret = confidential

    with psycopg.connect(site.server.config.dsn) as connection:
        kept = connection.execute(
            "select secret from authorization_server.client where client_id = %s",
            [client.client_id],
        ).fetchone()[0]

    assert len(secret) >= 43
    assert kept.startswith("$argon2id$")
    assert secret not in kept
