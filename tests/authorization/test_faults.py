"""What apps are told when a part of us is away, and what is forgotten when it is over."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest
from psycopg import sql

from authorization.forgetting import forget
from tests.authorization.site import public_app, running_site


@pytest.fixture
def alone(postgres, tmp_path):
    """A site with a database of its own, and how to take the database away."""
    name = "authorization_alone"
    postgres.create_database(name)
    with running_site(postgres.dsn(name), tmp_path) as site:
        site.register(public_app())

        def take_away():
            with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
                connection.execute(
                    sql.SQL("drop database {} with (force)").format(sql.Identifier(name))
                )

        yield site, take_away


ASKED = {
    "token": lambda site, app, asked, code: site.redeem(app, asked, code),
    "revoke": lambda site, app, asked, code: site.post(
        "revoke", token="x", client_id=app.client_id
    ),
    "authorize": lambda site, app, asked, code: site.ask(app).answer,
}


@pytest.mark.parametrize("endpoint", ASKED)
def test_without_the_database_apps_are_told_to_come_back_and_nobody_is_sent_on(alone, endpoint):
    site, take_away = alone
    client = public_app()
    asked, code = site.code(client)
    take_away()

    answer = ASKED[endpoint](site, client, asked, code)

    assert answer.status_code == 503
    assert "location" not in answer.headers
    if endpoint != "authorize":
        assert answer.json()["error"] == "temporarily_unavailable"
        assert int(answer.headers["retry-after"]) > 0
    for path in ("/fhir/.well-known/smart-configuration", "/auth/jwks"):
        assert site.http.get(f"{site.base}{path}").status_code == 200


def test_a_database_that_comes_back_is_asked_again(alone, postgres):
    site, _ = alone
    client = public_app()
    asked, code = site.code(client)
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = 'authorization_alone'"
        )

    assert site.redeem(client, asked, code).status_code == 200


def test_without_an_audit_trail_nothing_is_answered_and_nobody_is_sent_on(alone):
    site, _ = alone
    client = public_app()
    asked, code = site.code(client)
    site.server.audit.close()
    site.audit_folder.rename(site.audit_folder.with_name("away"))
    site.audit_folder.write_text("no folder")
    try:
        wrong = site.ask(client, aud="https://elsewhere.example").answer
        unknown = site.ask(client, client_id="nobody").answer
        token = site.redeem(client, asked, code)
    finally:
        site.audit_folder.unlink()

    assert [one.status_code for one in (wrong, unknown, token)] == [503, 503, 503]
    assert "try again" in wrong.text
    assert "location" not in wrong.headers
    assert "access_token" not in token.text


def test_what_is_over_is_forgotten_and_what_is_alive_is_kept(site, app):
    with psycopg.connect(site.server.config.dsn) as connection:
        live = site.tokens(app, "user/*.rs offline_access")
        site.ask(app)
        connection.execute(
            "update authorization_server.approval set created_at = now() - interval '60 days'"
        )

        forget(connection)
        connection.commit()
        rows = connection.execute(
            "select (select count(*) from authorization_server.approval a where not exists"
            " (select from authorization_server.refresh r where r.sid = a.sid)),"
            " (select count(*) from authorization_server.request where expires_at < now()),"
            " (select count(*) from authorization_server.request where expires_at > now())"
        ).fetchone()

    assert rows[:2] == (0, 0)
    assert rows[2] > 0
    assert site.refresh(app, live["refresh_token"]).status_code == 200


def test_over_plain_http_beyond_this_machine_nothing_is_issued(postgres, tmp_path):
    """The site says of itself that apps reach it without TLS from elsewhere."""
    postgres.create_database("authorization_plain")
    with running_site(postgres.dsn("authorization_plain"), tmp_path) as site:
        client = public_app()
        site.register(client)
        asked, code = site.code(client)
        config = replace(site.server.config, base_url="http://hilum.hospital.example")
        object.__setattr__(site.server, "config", config)

        answer = site.redeem(client, asked, code)

    assert answer.status_code == 400
    assert answer.json()["error"] == "insecure_transport"
