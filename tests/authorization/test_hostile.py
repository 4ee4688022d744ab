"""Whatever is sent to the endpoints, the answer is an error that says so, and never a crash."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.authorization.site import ASSERTION_TYPE

ENDPOINTS = ("token", "revoke", "introspect", "authorize")
NAMES = (
    "grant_type", "code", "redirect_uri", "code_verifier", "client_id", "client_secret",
    "client_assertion", "client_assertion_type", "refresh_token", "scope", "token",
    "token_type_hint", "response_type", "state", "aud", "code_challenge",
    "code_challenge_method", "nonce", "launch", "prompt", "response_mode", "",
)  # fmt: skip
GOOD = (
    "authorization_code", "refresh_token", "client_credentials", "public-app", "code", "S256",
    ASSERTION_TYPE, "https://app.example.org/back", "patient/*.rs user/*.rs openid", "a" * 43,
    "e30.e30.e30", "eyJhbGciOiJFUzM4NCIsImtpZCI6IngiLCJ0eXAiOiJKV1QifQ.e30.AAAA", "\0", "x" * 3000,
)  # fmt: skip
FIELDS = st.dictionaries(
    st.sampled_from(NAMES), st.one_of(st.sampled_from(GOOD), st.text(max_size=60)), max_size=9
)
HEADERS = st.sampled_from(
    ({}, {"Authorization": "Basic Og=="}, {"Authorization": "Basic x"}, {"Authorization": "Bearer"},
     {"Authorization": "Bearer a.b.c"}, {"Origin": "null"}, {"Authorization": "Basic /v8="})
)  # fmt: skip
MANY = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@MANY
@given(endpoint=st.sampled_from(ENDPOINTS), fields=FIELDS, headers=HEADERS)
def test_any_form_gets_an_answer_of_the_protocol(site, app, endpoint, fields, headers):
    sent = {name: value.encode("utf-8", "surrogatepass") for name, value in fields.items()}

    answer = site.http.post(f"{site.base}/auth/{endpoint}", data=sent, headers=headers)

    assert answer.status_code in (200, 303, 400, 401, 429), (endpoint, fields)
    if endpoint != "authorize":
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        found = answer.json()
        assert answer.status_code == 200 or found["error"]
        assert "access_token" not in found
    elif answer.status_code == 303:
        assert answer.headers["location"].startswith(
            ("https://app.example.org/back?", f"{site.base}/auth/steps/")
        )


@MANY
@given(endpoint=st.sampled_from(ENDPOINTS), body=st.binary(max_size=200))
def test_any_bytes_get_an_answer_of_the_protocol(site, app, endpoint, body):
    answer = site.http.post(
        f"{site.base}/auth/{endpoint}",
        content=body,
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )

    assert answer.status_code in (400, 401, 429)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_body_without_end_and_a_crowd_of_fields_are_refused(site, endpoint):
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    url = f"{site.base}/auth/{endpoint}"

    large = site.http.post(url, content=b"a=" + b"x" * 200_000, headers=kind)
    many = site.http.post(url, content=b"&".join(b"a%d=1" % n for n in range(500)), headers=kind)
    other = site.http.post(url, content=b"{}", headers={"Content-Type": "application/json"})

    assert [one.status_code for one in (large, many, other)] == [400, 400, 400]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE"])
@pytest.mark.parametrize("endpoint", [*ENDPOINTS, "jwks"])
def test_other_methods_are_refused(site, endpoint, method):
    assert site.http.request(method, f"{site.base}/auth/{endpoint}").status_code == 405
