"""What apps find about us before they have any token."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from joserfc.jwk import KeySet

from authorization.discovery import CAPABILITIES

SMART = "/fhir/.well-known/smart-configuration"
OPENID = "/.well-known/openid-configuration"


@pytest.fixture(scope="module")
def smart(site):
    return site.http.get(f"{site.base}{SMART}").json()


@pytest.mark.parametrize("accept", [None, "text/html", "application/xml", "*/*", "image/png"])
@pytest.mark.parametrize("path", [SMART, "/.well-known/smart-configuration", OPENID])
def test_discovery_is_json_for_anyone_from_anywhere(site, path, accept):
    headers = {"Origin": "https://anything.example"} | ({"Accept": accept} if accept else {})

    answer = site.http.get(f"{site.base}{path}", headers=headers)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["access-control-allow-origin"] == "*"


def test_discovery_answers_the_preflight_of_any_page(site):
    answer = site.http.options(
        f"{site.base}{SMART}",
        headers={"Origin": "https://x.example", "Access-Control-Request-Method": "GET"},
    )

    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "*"


def test_all_urls_are_absolute_and_answer(site, smart):
    urls = {name: value for name, value in smart.items() if name.endswith(("_endpoint", "_uri"))}
    urls.pop("management_endpoint")  # a page of the whole product

    assert len(urls) >= 5
    for url in urls.values():
        parts = urlsplit(url)
        assert f"{parts.scheme}://{parts.netloc}" == site.base
        assert site.http.get(url).status_code in (200, 400, 405)


def test_the_smart_configuration_has_every_field_that_the_specification_asks_for(site, smart):
    assert smart["issuer"] == site.base
    assert smart["jwks_uri"]
    assert smart["authorization_endpoint"] == f"{site.base}/auth/authorize"
    assert smart["token_endpoint"] == site.token_url
    assert smart["introspection_endpoint"]
    assert smart["revocation_endpoint"]
    assert smart["management_endpoint"] == f"{site.base}/auth/apps"
    assert {"authorization_code", "client_credentials"} <= set(smart["grant_types_supported"])
    assert smart["code_challenge_methods_supported"] == ["S256"]
    assert "plain" not in smart["code_challenge_methods_supported"]
    algorithms = smart["token_endpoint_auth_signing_alg_values_supported"]
    assert sorted(algorithms) == ["ES384", "RS384"]
    assert "private_key_jwt" in smart["token_endpoint_auth_methods_supported"]
    assert {"openid", "fhirUser", "launch", "offline_access"} <= set(smart["scopes_supported"])
    assert "code" in smart["response_types_supported"]
    assert all(isinstance(one, str) for one in smart["capabilities"])
    assert set(smart["capabilities"]) == set(CAPABILITIES)


def test_the_openid_configuration_agrees_with_the_smart_one(site, smart):
    openid = site.http.get(f"{site.base}{OPENID}").json()

    for name in ("issuer", "jwks_uri", "authorization_endpoint", "token_endpoint"):
        assert openid[name] == smart[name]
    assert openid["id_token_signing_alg_values_supported"] == ["RS256"]
    assert openid["subject_types_supported"] == ["public"]
    assert openid["response_types_supported"] == ["code"]


def test_the_key_set_holds_bare_public_rsa_keys(site, smart):
    answer = site.http.get(smart["jwks_uri"], headers={"Origin": "https://x.example"})

    keys = answer.json()["keys"]
    assert answer.headers["access-control-allow-origin"] == "*"
    assert keys
    for key in keys:
        assert key.keys() == {"kty", "n", "e", "kid", "use", "alg"}
        assert (key["kty"], key["alg"], key["use"]) == ("RSA", "RS256", "sig")
    assert KeySet.import_key_set(answer.json())
