"""Which web pages may call from a browser."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from authorization import cors
from tests.authorization.site import public_app

OURS, FOREIGN = "https://app.example.org", "https://evil.example"
DOORS = ("/auth/token", "/auth/revoke", "/auth/introspect", "/dicomweb/studies")


def preflight(site, path, origin, method="POST"):
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    return site.http.options(f"{site.base}{path}", headers=headers)


@pytest.mark.parametrize("path", DOORS)
def test_a_registered_page_may_call_and_a_foreign_one_may_not(site, app, path):
    ours, foreign = preflight(site, path, OURS), preflight(site, path, FOREIGN)

    assert ours.status_code == 204
    assert ours.headers["access-control-allow-origin"] == OURS
    assert "authorization" in ours.headers["access-control-allow-headers"]
    assert "POST" in ours.headers["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in ours.headers
    assert "access-control-allow-origin" not in foreign.headers


def test_only_the_registered_page_may_read_the_token(site, app):
    by_ours = site.redeem(app, *site.code(app), headers={"Origin": OURS})
    by_foreign = site.redeem(app, *site.code(app), headers={"Origin": FOREIGN})

    assert by_ours.headers["access-control-allow-origin"] == OURS
    assert "access-control-allow-origin" not in by_foreign.headers
    assert "Origin" in by_ours.headers["vary"]


def test_errors_can_be_read_by_the_registered_page_as_well(site, app):
    asked, _ = site.code(app)
    answer = site.redeem(app, asked, "wrong", headers={"Origin": OURS})

    assert answer.status_code == 400
    assert answer.headers["access-control-allow-origin"] == OURS


@pytest.mark.parametrize(
    "origin", ["null", "https://app.example.org.evil.example", "http://app.example.org", "https://"]
)
def test_what_only_looks_like_a_registered_origin_is_foreign(site, app, origin):
    answer = preflight(site, "/auth/token", origin)

    assert "access-control-allow-origin" not in answer.headers


def test_the_page_of_a_disabled_app_may_call_no_more(site):
    client = public_app("going", origins=("https://going.example",))
    site.register(client)
    time.sleep(cors._REMEMBER_S)
    before = preflight(site, "/auth/token", "https://going.example")

    site.server.clients.change(replace(client, disabled=True))
    time.sleep(cors._REMEMBER_S)
    after = preflight(site, "/auth/token", "https://going.example")

    assert before.status_code == 204
    assert "access-control-allow-origin" not in after.headers


def test_pages_on_which_people_answer_are_for_no_other_page_to_read(site, app):
    answer = site.http.get(f"{site.base}/auth/authorize", headers={"Origin": OURS})

    assert "access-control-allow-origin" not in answer.headers
