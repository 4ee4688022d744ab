"""The authorization endpoint, as an app and as an attacker would use it."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from access.users import User
from authorization.context import LaunchContext
from authorization.errors import NotGrantable, RequestGone
from authorization.narrowing import narrowed_to_user
from tests.authorization.site import ANNA, BACK, browser_of, public_app


def test_a_request_by_get_and_one_by_post_both_lead_to_the_person(site, app):
    by_get, by_post = site.ask(app), site.ask(app, post=True)

    assert by_get.answer.status_code == by_post.answer.status_code == 303
    assert by_get.request_id != by_post.request_id
    assert site.agree(by_get).keys() == site.agree(by_post).keys() == {"code", "state"}


@pytest.mark.parametrize(
    "changes",
    [
        {"code_challenge": None},
        {"code_challenge": None, "code_challenge_method": None},
        {"code_challenge_method": "plain"},
        {"code_challenge_method": None},
        {"code_challenge_method": "s256"},
        {"code_challenge": "short"},
        {"code_challenge": "a" * 44},
    ],
    ids=str,
)
def test_without_an_s256_challenge_the_app_gets_an_error(site, app, changes):
    asked = site.ask(app, **changes)

    assert asked.location.startswith(BACK + "?")
    assert asked.error == "invalid_request"


def test_a_confidential_client_needs_a_challenge_too(site):
    client = public_app("with-secret", kind="symmetric")
    site.register(client)

    assert site.ask(client, code_challenge=None).error == "invalid_request"


@pytest.mark.parametrize(
    "other",
    [
        "https://app.example.org/back/",
        "https://app.example.org/Back",
        "https://APP.example.org/back",
        "https://app.example.org/back#x",
        "https://app.example.org/back?x=1",
        "https://app.example.org:443/back",
        "https://app.example.org:8443/back",
        "http://app.example.org/back",
        "https://app.example.org/back/../back",
        "https://app.example.org/",
        "https://app.example.org.evil.example/back",
        "https://evil.example/back",
        " https://app.example.org/back",
        "javascript:alert(1)",
        None,
    ],
)
def test_a_redirect_uri_that_is_not_the_registered_one_gets_a_page_and_no_redirect(
    site, app, other
):
    asked = site.ask(app, redirect_uri=other)

    assert asked.answer.status_code == 400
    assert "location" not in asked.answer.headers
    assert "text/html" in asked.answer.headers["content-type"]
    assert "set-cookie" not in asked.answer.headers


def test_an_unknown_or_disabled_client_gets_a_page_and_no_redirect(site):
    stranger, disabled = public_app("stranger"), public_app("disabled", disabled=True)
    site.register(disabled)

    for client in (stranger, disabled):
        answer = site.ask(client).answer
        assert (answer.status_code, "location" in answer.headers) == (400, False)


def test_the_error_page_repeats_nothing_of_the_request(site, app):
    asked = site.ask(app, redirect_uri="https://x.example/<script>", state="<b>state</b>")

    assert "script" not in asked.answer.text.lower()
    assert "state" not in asked.answer.text
    assert asked.answer.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize("tail", [None, "", "/fhir/", "/fhir?x", "/FHIR", "/fhirs", "/"])
def test_an_audience_that_is_not_the_fhir_base_is_refused(site, app, tail):
    asked = site.ask(app, aud=None if tail is None else f"{site.base}{tail}")

    assert asked.error == "invalid_request"


def test_the_audience_of_another_server_is_refused(site, app):
    assert site.ask(app, aud="https://other.example/fhir").error == "invalid_request"


@pytest.mark.parametrize("post", [False, True], ids=["GET", "POST"])
@pytest.mark.parametrize(
    "state",
    ["a b+c%20d&e=f#g;h", "ünïcødé ☃ 𝒳 \u202e", "x" * 2048, "\"'<>\\`{}|^\n\t\x00end", " lead"],
    ids=["marks", "unicode", "2kB", "controls", "space"],
)
def test_the_state_comes_back_byte_by_byte(site, app, state, post):
    granted = site.ask(app, state=state, post=post)
    refused = site.ask(app, state=state, post=post, aud="elsewhere")

    assert site.agree(granted)["state"] == state
    assert parse_qs(urlsplit(refused.location).query)["state"] == [state]


def test_a_state_that_is_no_text_comes_back_byte_by_byte(site, app):
    good = site.ask(app)
    query = urlsplit(str(good.answer.request.url)).query.replace(good.state, "%FF%FE%00x")

    answer = httpx.get(f"{site.base}/auth/authorize?{query}", trust_env=False, timeout=60)
    request_id = answer.headers["location"].rpartition("/")[2]
    location = site.server.requests.approve(request_id, ANNA, "user/*.rs", LaunchContext())

    assert location.endswith("&state=%FF%FE%00x")


def test_a_request_without_state_is_refused(site, app):
    assert site.ask(app, state=None).error == "invalid_request"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"scope": None}, "invalid_scope"),
        ({"scope": "nonsense patient/Nothing.rs"}, "invalid_scope"),
        ({"scope": "system/*.rs"}, "invalid_scope"),
        ({"request": "x.y.z"}, "request_not_supported"),
        ({"request_uri": "https://x.example"}, "request_uri_not_supported"),
        ({"prompt": "none"}, "interaction_required"),
        ({"max_age": "-1"}, "invalid_request"),
        ({"max_age": "soon"}, "invalid_request"),
        ({"max_age": "9" * 30}, "invalid_request"),
        ({"nonce": "a\0b"}, "invalid_request"),
        ({"nonce": "x" * 3000}, "invalid_request"),
        ({"launch": "x" * 3000}, "invalid_request"),
        ({"scope": "user/*.rs " * 1000}, "invalid_request"),
        ({"state": "x" * 9000}, "invalid_request"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_each_wrong_parameter_has_its_error(site, app, changes, error):
    asked = site.ask(app, **{"scope": "user/*.rs", **changes})

    assert asked.error == error


def test_a_parameter_that_comes_twice_is_refused_without_a_redirect(site, app):
    url = str(site.ask(app).answer.request.url)

    for twice in ("client_id=public-app", "redirect_uri=https://evil.example", "scope=a"):
        answer = httpx.get(f"{url}&{twice}", trust_env=False, timeout=60)
        assert (answer.status_code, "location" in answer.headers) == (400, False)


def test_a_client_is_given_no_more_scopes_than_it_is_registered_with(site):
    client = public_app("narrow", scopes="openid patient/*.rs user/Observation.r")
    site.register(client)

    asked = site.ask(client, "openid fhirUser patient/*.cruds user/*.* system/*.rs launch")
    request = site.server.requests.find(asked.request_id, browser_of(asked.answer))

    assert request.scope == "openid patient/*.rs user/Observation.r"


def test_a_client_without_refresh_is_not_asked_for_offline_access(site):
    client = public_app("no-refresh", grant_types=("authorization_code",))
    site.register(client)

    asked = site.ask(client, "user/*.rs offline_access online_access")
    request = site.server.requests.find(asked.request_id, browser_of(asked.answer))

    assert request.scope == "user/*.rs"


def test_a_redirect_uri_with_a_query_keeps_it(site):
    client = public_app("query", redirect_uris=("https://app.example.org/back?tenant=a%20b",))
    site.register(client)

    asked = site.ask(client)
    answers = site.agree(asked)

    assert answers["tenant"] == "a b"
    assert answers["state"] == asked.state


def test_only_the_browser_that_brought_a_request_may_answer_it(site, app):
    asked, other = site.ask(app), site.ask(app)
    requests = site.server.requests

    with pytest.raises(RequestGone):
        requests.find(asked.request_id, browser_of(other.answer))
    assert requests.find(asked.request_id, browser_of(asked.answer)).client_id == app.client_id


def test_a_request_is_answered_once(site, app):
    asked = site.ask(app)
    site.agree(asked)

    with pytest.raises(RequestGone):
        site.server.requests.approve(asked.request_id, ANNA, "user/*.rs", LaunchContext())


@pytest.mark.parametrize(
    ("asked", "granted", "context"),
    [
        ("user/Observation.rs", "user/Observation.cruds", LaunchContext()),
        ("user/Observation.rs", "user/*.rs", LaunchContext()),
        ("user/*.rs", "user/*.rs offline_access", LaunchContext()),
        ("patient/*.rs", "patient/*.rs", LaunchContext()),
        ("launch/patient", "launch/patient", LaunchContext()),
        ("launch/encounter", "launch/encounter", LaunchContext(patient="1")),
        ("user/*.cruds", "user/Patient.d", LaunchContext()),
    ],
)
def test_nobody_can_agree_to_more_than_asked_or_their_own_or_without_its_context(
    site, app, asked, granted, context
):
    request = site.ask(app, asked)

    with pytest.raises(NotGrantable):
        site.agree(request, granted=granted, context=context)


def test_a_patient_opens_their_own_record_only(site, app):
    paul = User("paul", "", "patient", "Patient/paul")
    own, other = site.ask(app, "patient/*.rs"), site.ask(app, "patient/*.rs")

    scope = narrowed_to_user("patient/*.rs", paul)
    granted = site.agree(own, paul, granted=scope, context=LaunchContext(patient="paul"))

    assert "code" in granted
    with pytest.raises(NotGrantable):
        site.agree(other, paul, granted=scope, context=LaunchContext(patient="somebody-else"))


def test_a_denied_request_goes_back_with_its_state(site, app):
    asked = site.ask(app, state="ünï")

    location = site.server.requests.deny(asked.request_id, "access_denied", "the user said no")

    found = parse_qs(urlsplit(location).query)
    assert found["error"] == ["access_denied"]
    assert found["state"] == ["ünï"]


def test_refusals_are_in_the_audit_trail_with_their_client(site, app):
    site.ask(app, aud="elsewhere")
    site.ask(replace(app, client_id="nobody"))

    denied = [one for one in site.audits() if one.event == "denied"]
    assert any(one.caller.client == app.client_id for one in denied)
    assert any(one.caller.subject == "unknown client" for one in denied)
