"""A name that is given again: what its earlier holder had is not the new one's."""

from __future__ import annotations

import secrets
from uuid import uuid4

import httpx
import psycopg
import pytest

from access.tokens import TokenAuthority
from tests.bulk.exporting import kick_off
from tests.smart.clinic import PASSWORD
from tests.smart.test_administration import APP, hilum, post


@pytest.fixture
def root(clinic):
    return clinic.person("clinic-root")


@pytest.fixture
def name(clinic):
    found = f"a-{secrets.token_hex(4)}"
    yield found
    with psycopg.connect(clinic.dsn) as connection:
        connection.execute(
            "delete from gateway.subscription where starts_with(client, %s)", [found]
        )


@pytest.fixture
def holder(clinic):
    """Somebody with a token in a name; no removal has ended it, so it is as good as the next."""
    folder = clinic.stack.folder / "var" / "keys"
    authority = TokenAuthority.load_or_create(
        folder, issuer=clinic.base, audience=f"{clinic.base}/fhir"
    )
    opened = []

    def made(subject, client):
        token = authority.mint(
            subject=subject, client=client, scope="system/Organization.rs", lifetime_s=600
        )
        headers = {"Authorization": f"Bearer {token}"}
        opened.append(
            httpx.Client(
                base_url=f"{clinic.base}/fhir", headers=headers, trust_env=False, timeout=60
            )
        )
        return opened[-1]

    yield made
    for one in opened:
        one.close()


def by_page(clinic, root, name):
    post(root, f"/admin/clients/{name}", do="remove")
    assert post(root, "/admin/clients", client_id=name, **APP).status_code == 303


def by_command(clinic, root, name):
    hilum(clinic, "clients", "remove", name)
    words = ("--redirect-uri", "https://a.example/x", "--scope", "patient/*.rs")
    assert hilum(clinic, "clients", "add", name, *words)[0] == 0


def subscription_of(clinic, client):
    """A row as the door leaves it, already off: nothing is sent."""
    with psycopg.connect(clinic.dsn) as connection:
        connection.execute(
            "insert into gateway.subscription (id, client, subject, scopes, resource_type,"
            " resource, status, starts_at) values (%s, %s, %s, '', 'Patient', '{}', 'off', now())",
            [uuid4(), client, client],
        )


def subscriptions_of(clinic, client):
    with psycopg.connect(clinic.dsn) as connection:
        found = "select from gateway.subscription where client = %s"
        return len(connection.execute(found, [client]).fetchall())


@pytest.mark.parametrize("way", [by_page, by_command])
def test_a_client_added_again_has_no_export_or_subscription_of_the_one_before(
    clinic, root, name, holder, way
):
    post(root, "/admin/clients", client_id=name, **APP)
    one, other = holder(name, name), holder(f"{name}-b", f"{name}-b")
    places = [kick_off(who, "$export?_type=Organization") for who in (one, other)]
    for client in (name, f"{name}-b"):
        subscription_of(clinic, client)
    before = [one.get(places[0]).status_code, other.get(places[1]).status_code]

    way(clinic, root, name)

    after = [one.get(places[0]).status_code, other.get(places[1]).status_code]
    assert set(before) <= {200, 202}
    assert after[0] == 404 and after[1] in (200, 202)
    assert [subscriptions_of(clinic, who) for who in (name, f"{name}-b")] == [0, 1]


def test_a_user_added_again_has_no_export_of_the_one_before(clinic, root, name, holder):
    fields = {"username": name, "password": PASSWORD, "role": "viewer"}
    post(root, "/admin/users", **fields)
    by_an_app, client = holder(name, "some-app"), holder(name, name)
    places = [kick_off(who, "$export?_type=Organization") for who in (by_an_app, client)]

    post(root, f"/admin/users/{name}", do="remove")
    post(root, "/admin/users", **fields)

    assert by_an_app.get(places[0]).status_code == 404
    assert client.get(places[1]).status_code in (200, 202)
