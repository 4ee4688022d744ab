"""The authorization server within the running product: both doors, the log, the trail."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time

import httpx
import pytest
from joserfc.jwk import ECKey

from access.users import Users
from authorization.context import LaunchContext
from tests.authorization.product import ANNA, Product
from tests.authorization.site import PASSWORD, claims_of, public_app, signed

DOORS = ("/fhir/Patient", "/dicomweb/studies")
ORIGIN = "https://app.example.org"


@pytest.fixture(scope="module")
def product(stack):
    with httpx.Client(base_url=stack.base, timeout=60, trust_env=False) as http:
        made = Product.of(stack, http)
        users = Users(made.clients._dsn)
        if not any(user.username == ANNA.username for user in users.list()):
            users.add(ANNA, PASSWORD)
        yield made


@pytest.fixture(scope="module")
def app(product):
    client = public_app("product-app", origins=(ORIGIN,))
    product.register(client)
    return client


def shown(product, token, path):
    return product.http.get(path, headers={"Authorization": f"Bearer {token}"})


def test_the_smart_configuration_lies_below_the_fhir_base_for_anyone(product):
    answer = product.http.get(
        "/fhir/.well-known/smart-configuration",
        headers={"Accept": "application/xml", "Origin": "https://x.example"},
    )

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.json()["token_endpoint"] == f"{product.stack.base}/auth/token"
    # People who are not signed in are asked to, and come back to the page.
    page = product.http.get(answer.json()["management_endpoint"])
    assert page.status_code == 303
    assert "/login" in page.headers["location"]


def test_the_capability_statement_is_open_to_any_page(product):
    answer = product.http.get("/fhir/metadata", headers={"Origin": "https://x.example"})

    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "*"


def test_older_clients_find_the_addresses_in_the_capability_statement(product):
    smart = product.http.get("/fhir/.well-known/smart-configuration").json()
    security = product.http.get("/fhir/metadata").json()["rest"][0]["security"]

    told = {one["url"]: one["valueUri"] for one in security["extension"][0]["extension"]}

    assert security["service"][0]["coding"][0]["code"] == "SMART-on-FHIR"
    assert told == {
        "authorize": smart["authorization_endpoint"],
        "token": smart["token_endpoint"],
        "introspect": smart["introspection_endpoint"],
        "revoke": smart["revocation_endpoint"],
    }


@pytest.mark.parametrize("path", [*DOORS, "/auth/token"])
def test_pages_of_registered_apps_may_call_every_door_and_foreign_ones_none(product, app, path):
    asked = {
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }

    def preflight(origin: str) -> httpx.Response:
        return product.http.options(path, headers={"Origin": origin, **asked})

    def call(origin: str) -> httpx.Response:
        return product.http.get(path, headers={"Origin": origin})

    wait_until_known(product)
    for ours in (preflight(ORIGIN), call(ORIGIN)):
        assert ours.headers["access-control-allow-origin"] == ORIGIN
    for foreign in (preflight("https://evil.example"), call("https://evil.example")):
        assert "access-control-allow-origin" not in foreign.headers


def wait_until_known(product):
    """New origins count after a moment."""
    time.sleep(2.1)


@pytest.mark.parametrize("path", DOORS)
def test_a_token_of_an_app_opens_the_door_until_it_is_revoked(product, app, path):
    found, _ = product.tokens(app, "user/*.rs offline_access")
    before = shown(product, found["access_token"], path)

    product.http.post(
        "/auth/revoke", data={"token": found["access_token"], "client_id": app.client_id}
    )
    after = shown(product, found["access_token"], path)

    assert before.status_code in (200, 204)
    assert after.status_code == 401
    assert after.headers["www-authenticate"].startswith("Bearer")


class Forger:
    """Makes access tokens with our own key, right but for what is asked."""

    def __init__(self, product, client_id):
        self.key, self.kid = product.authority._key, product.authority._kid
        now = int(time.time())
        self.claims = {
            "iss": product.stack.base,
            "aud": f"{product.stack.base}/fhir",
            "sub": "anna",
            "scope": "user/*.rs",
            "iat": now - 10,
            "nbf": now - 10,
            "exp": now + 300,
            "jti": secrets.token_urlsafe(8),
            "client_id": client_id,
        }

    def make(self, by=None, kid=None, **changes):
        claims = {name: v for name, v in {**self.claims, **changes}.items() if v is not None}
        return signed(by or self.key, claims, "ES256", typ="at+jwt", kid=kid or self.kid)

    def wrong(self):
        """Tokens that are wrong in one thing each."""
        now = self.claims["iat"]
        head, body, signature = self.make().split(".")
        none = "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0"  # {"alg":"none","typ":"at+jwt"}
        return {
            "expired": self.make(exp=now - 120, nbf=now - 600, iat=now - 600),
            "not yet": self.make(nbf=now + 600),
            "other issuer": self.make(iss="https://other.example"),
            "other audience": self.make(aud="https://other.example/fhir"),
            "audience without /fhir": self.make(aud=self.claims["iss"]),
            "no audience": self.make(aud=None),
            "no expiry": self.make(exp=None),
            "alg none": f"{none}.{body}.{signature}",
            "alg none unsigned": f"{none}.{body}.",
            "foreign key": self.make(by=ECKey.generate_key("P-256")),
            "kid swap": self.make(kid="another"),
            "damaged": f"{head}.{body}.{signature[:-4]}AAAA",
            "rubbish": "rubbish",
        }


@pytest.mark.parametrize("path", DOORS)
def test_a_token_that_is_wrong_in_one_thing_is_401_at_every_door(product, app, path):
    forger = Forger(product, app.client_id)
    identity = product.tokens(app, "openid user/*.rs")[0]["id_token"]
    wrong = {**forger.wrong(), "id_token": identity}

    answers = {name: shown(product, token, path) for name, token in wrong.items()}

    assert {name: one.status_code for name, one in answers.items()} == dict.fromkeys(wrong, 401)
    assert all(one.headers["www-authenticate"].startswith("Bearer") for one in answers.values())
    assert shown(product, forger.make(), path).status_code in (200, 204)


def test_no_token_code_or_secret_is_in_a_log_or_in_the_audit_trail(product, app):
    confidential = public_app("product-secret", kind="symmetric")
    secret = product.register(confidential)
    context = LaunchContext(patient="p-secret")
    found, code = product.tokens(app, "openid patient/*.rs offline_access", context)
    secrets_used = {code, secret, found["id_token"], found["access_token"]}
    secrets_used.add(found["refresh_token"])

    def post(endpoint, **fields):
        answer = product.http.post(f"/auth/{endpoint}", data=fields)
        found = answer.json() if answer.content else {}
        secrets_used.update(v for n, v in found.items() if n.endswith("_token"))
        return answer

    again = {"grant_type": "authorization_code", "code": code, "client_id": app.client_id}
    new = post(
        "token",
        grant_type="refresh_token",
        refresh_token=found["refresh_token"],
        client_id=app.client_id,
    ).json()
    post("token", client_secret=secret, **{**again, "client_id": "product-secret"})
    post("token", client_secret="wrong-" + secret, **{**again, "client_id": "product-secret"})
    post("introspect", token=new["access_token"], client_id="product-secret", client_secret=secret)
    post("revoke", token=new["refresh_token"], client_id=app.client_id)
    post("token", **again)
    product.http.get("/auth/authorize", params={"client_id": secret, "state": code})
    for path in DOORS:
        shown(product, new["access_token"], path)
        product.http.get(path, params={"access_token": new["access_token"]})

    time.sleep(2)  # the trail is written at once, the log by another process
    told = product.log + product.trail

    assert app.client_id in product.trail
    parts = {part for one in secrets_used for part in (one, one.rpartition(".")[2])}
    assert not [one[:12] for one in parts if one and one in told]


def test_logins_tokens_and_denials_are_in_the_trail_with_client_user_and_patient(product, app):
    product.tokens(app, "patient/*.rs", LaunchContext(patient="in-the-trail"))

    lines = [one for one in product.trail.splitlines() if "in-the-trail" in one]

    assert lines
    assert all(app.client_id in one and '"anna"' in one for one in lines)


def test_authlib_is_told_not_to_log():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import logging; from hilum import logs; logs.configure(level=10);"
            "import authlib.oauth2.rfc6749.grants.authorization_code as grant;"
            "assert not grant.log.isEnabledFor(logging.WARNING)",
        ],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("scope", ["user/*.rs", "launch/patient patient/*.rs"])
def test_the_fhir_user_of_the_id_token_can_be_read_with_the_access_token(product, app, scope):
    practitioner = {
        "resourceType": "Practitioner",
        "id": "anna",
        "name": [{"family": "Muster", "given": ["Anna"]}],
    }
    with product.stack.client() as system:
        assert system.put("/fhir/Practitioner/anna", json=practitioner).status_code in (200, 201)

    found, _ = product.tokens(app, f"openid fhirUser {scope}", LaunchContext(patient="p1"))
    fhir_user = claims_of(found["id_token"])["fhirUser"]
    answer = shown(product, found["access_token"], fhir_user)

    assert fhir_user == f"{product.stack.base}/fhir/Practitioner/anna"
    assert answer.status_code == 200, answer.text
    assert answer.json()["name"][0]["family"] == "Muster"
