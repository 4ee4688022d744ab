"""Clients that sign: every way in which an assertion may be wrong, and the fate of key sets."""

from __future__ import annotations

import base64
import gzip
import json
import secrets
import threading
import time
import warnings

import httpx
import pytest
from joserfc.jwk import ECKey, RSAKey

from authorization import key_fetch
from authorization.clients import CREDENTIALS, Client
from authorization.key_fetch import KeysAway, KeySets
from tests.authorization.jwks_host import publishing
from tests.authorization.site import ASSERTION_TYPE, ec_key, public_app, public_set, rsa_key
from tests.fixtures.stores import free_port

RSA, EC, OTHER = rsa_key(), ec_key(), rsa_key()
P256 = ECKey.generate_key("P-256", {"kid": "p"})
with warnings.catch_warnings(action="ignore"):
    WEAK = RSAKey.generate_key(1024, {"kid": "weak"})


def signer(client_id="signer", **changes):
    found = {"jwks": public_set(RSA, EC), "scopes": "system/*.rs", **changes}
    return Client(
        client_id=client_id,
        name="A machine",
        kind="asymmetric",
        grant_types=(CREDENTIALS,),
        backend=True,
        **found,
    )


@pytest.fixture(scope="module")
def client(site):
    machine = signer()
    site.register(machine)
    return machine


def refused(answer: httpx.Response) -> bool:
    return answer.status_code in (400, 401) and answer.json()["error"] == "invalid_client"


@pytest.mark.parametrize("key", [RSA, EC], ids=["RS384", "ES384"])
def test_an_assertion_by_either_algorithm_proves_the_client(site, client, key):
    answer = site.backend(site.assertion(client.client_id, key))

    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("key", [RSA, EC], ids=["RS384", "ES384"])
def test_an_app_with_a_key_redeems_and_refreshes_by_assertion(site, key):
    app = public_app("signing-app", kind="asymmetric", jwks=public_set(RSA, EC))
    site.register(app)

    def proof() -> dict[str, str]:
        return {
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": site.assertion(app.client_id, key),
        }

    asked, code = site.code(app, "user/*.rs offline_access")
    without = site.redeem(app, asked, code)
    first = site.redeem(app, asked, code, **proof())
    second = site.refresh(app, first.json()["refresh_token"], **proof())

    assert without.status_code == 401
    assert (first.status_code, second.status_code) == (200, 200)


def _in(seconds: float) -> int:
    return int(time.time() + seconds)


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": lambda: _in(600)},
        {"exp": lambda: _in(-60)},
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": True},
        {"exp": 1e300},
        {"nbf": lambda: _in(600)},
        {"iat": lambda: _in(600)},
        {"iat": "x"},
        {"aud": "https://other.example/token"},
        {"aud": None},
        {"aud": ["https://other.example/token"]},
        {"aud": lambda: ""},
        {"iss": "another"},
        {"iss": None},
        {"sub": "another"},
        {"sub": None},
        {"iss": "nobody", "sub": "nobody"},
        {"iss": ["signer"], "sub": ["signer"]},
        {"jti": None},
        {"jti": 5},
        {"jti": "x" * 5000},
        {"header": {"kid": "unknown"}},
        {"header": {"kid": None}},
        {"header": {"kid": 7}},
        {"header": {"typ": None}},
        {"header": {"typ": "at+jwt"}},
        {"header": {"jku": "https://evil.example/jwks"}},
        {"header": {"crit": ["exp"], "exp": 1}},
    ],
    ids=lambda changes: str({n: "…" if callable(v) else v for n, v in changes.items()})[:60],
)
def test_an_assertion_that_is_wrong_in_one_thing_is_refused(site, client, changes):
    made = {name: value() if callable(value) else value for name, value in changes.items()}

    assert refused(site.backend(site.assertion(client.client_id, RSA, **made)))


def test_the_fhir_base_and_the_issuer_are_no_audience(site, client):
    for audience in (site.base, f"{site.base}/fhir", f"{site.base}/auth/token/"):
        assert refused(site.backend(site.assertion(client.client_id, RSA, aud=audience)))


@pytest.mark.parametrize("alg", ["RS256", "RS512", "PS384"])
def test_another_algorithm_of_the_right_key_is_refused(site, client, alg):
    assert refused(site.backend(site.assertion(client.client_id, RSA, alg)))


def test_no_algorithm_a_shared_secret_and_a_swapped_key_are_refused(site, client):
    good = site.assertion(client.client_id, RSA)
    _, claims, signature = good.split(".")

    def with_header(**header) -> str:
        raw = base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
        return f"{raw}.{claims}.{signature}"

    forged = [
        with_header(alg="none", kid="rsa", typ="JWT"),
        with_header(alg="none", kid="rsa", typ="JWT").rpartition(".")[0] + ".",
        with_header(alg="HS384", kid="rsa", typ="JWT"),
        with_header(alg="RS384", kid="ec", typ="JWT"),
        with_header(alg="ES384", kid="rsa", typ="JWT"),
        with_header(alg="RS384", kid="rsa", typ="JWT", jwk=public_set(OTHER)["keys"][0]),
        with_header(alg=["RS384"], kid="rsa", typ="JWT"),
        site.assertion(client.client_id, OTHER),
        good[:-4] + "AAAA",
        "x.y.z",
        "",
        "e30.e30.",
        "W10.W10.x",
        "é.é.é",
        good + ".x",
        "A" * 20_000,
    ]

    assert all(refused(site.backend(one)) or one == "" for one in forged)
    assert site.backend("").status_code in (400, 401)
    assert site.backend(good).status_code == 200


def test_an_assertion_counts_once(site, client):
    assertion = site.assertion(client.client_id, RSA)

    first, again = site.backend(assertion), site.backend(assertion)

    assert first.status_code == 200
    assert refused(again)
    assert "jti" in again.json()["error_description"]


def test_the_same_jti_of_two_clients_is_two_assertions(site, client):
    other = signer("signer-2")
    site.register(other)
    jti = secrets.token_urlsafe(8)

    answers = [site.backend(site.assertion(one.client_id, RSA, jti=jti)) for one in (client, other)]

    assert [one.status_code for one in answers] == [200, 200]


def test_the_assertion_type_has_to_be_named(site, client):
    for told in (None, "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"):
        assertion = site.assertion(client.client_id, RSA)
        assert refused(site.backend(assertion, client_assertion_type=told))


def test_a_client_id_beside_the_assertion_must_be_its_own(site, client):
    assertion = site.assertion(client.client_id, RSA)

    assert refused(site.backend(assertion, client_id="another"))


def test_weak_keys_and_other_curves_are_refused(site):
    with publishing() as host:
        host.keys = public_set(WEAK, P256, RSA)
        site.register(signer("weak", jwks=None, jwks_uri=host.url))

        assert refused(site.backend(site.assertion("weak", WEAK)))
        assert refused(site.backend(site.assertion("weak", P256, "ES256")))


def test_two_keys_with_one_kid_are_refused(site):
    with publishing() as host:
        host.keys = public_set(RSA, OTHER)
        site.register(signer("twins", jwks=None, jwks_uri=host.url))

        assert refused(site.backend(site.assertion("twins", RSA)))


def test_jku_counts_only_when_it_is_the_registered_one(site):
    with publishing() as host, publishing() as other:
        host.keys = other.keys = public_set(RSA)
        site.register(signer("by-url", jwks=None, jwks_uri=host.url))

        right = site.assertion("by-url", RSA, header={"jku": host.url})
        wrong = site.assertion("by-url", RSA, header={"jku": other.url})

        assert site.backend(right).status_code == 200
        assert refused(site.backend(wrong))
        assert other.asked == 0


def test_a_new_key_counts_at_the_next_fetch_and_the_copy_is_used_meanwhile(site):
    with publishing() as host:
        host.keys, host.headers = public_set(RSA), {"Cache-Control": "max-age=3600"}
        site.register(signer("rotating", jwks=None, jwks_uri=host.url))
        for _ in range(4):
            assert site.backend(site.assertion("rotating", RSA)).status_code == 200
        asked_before = host.asked

        host.keys = public_set(RSA, EC)
        time.sleep(key_fetch.AGAIN_S)
        answer = site.backend(site.assertion("rotating", EC))

        assert asked_before == 1
        assert answer.status_code == 200
        assert host.asked == 2


def test_a_removed_key_counts_until_max_age_and_no_longer(site):
    with publishing() as host:
        host.keys, host.headers = public_set(RSA, EC), {"Cache-Control": "max-age=2"}
        site.register(signer("removing", jwks=None, jwks_uri=host.url))
        before = site.backend(site.assertion("removing", EC))

        host.keys = public_set(RSA)
        time.sleep(2.1)
        after = site.backend(site.assertion("removing", EC))

        assert before.status_code == 200
        assert refused(after)
        assert site.backend(site.assertion("removing", RSA)).status_code == 200


def test_while_the_key_host_is_down_the_copy_counts_until_max_age_only(site):
    port = free_port()
    with publishing(port) as host:
        host.keys, host.headers = public_set(RSA), {"Cache-Control": "max-age=3"}
        site.register(signer("downtime", jwks=None, jwks_uri=host.url))
        began = time.monotonic()
        assert site.backend(site.assertion("downtime", RSA)).status_code == 200
        over = time.monotonic() + 3.1  # the copy was made before now

    down = site.backend(site.assertion("downtime", RSA))
    in_time = time.monotonic() - began < 3
    time.sleep(max(0.0, over - time.monotonic()))
    too_late = site.backend(site.assertion("downtime", RSA))

    assert down.status_code == 200 or not in_time
    assert refused(too_late)
    with publishing(port) as host:
        host.keys = public_set(RSA)
        time.sleep(key_fetch.AGAIN_S)
        assert site.backend(site.assertion("downtime", RSA)).status_code == 200


def test_a_slow_key_host_holds_up_its_own_clients_only(site, client):
    with publishing() as host:
        host.keys, host.wait_s = public_set(RSA), 3.0
        site.register(signer("slow", jwks=None, jwks_uri=host.url))
        waiting = [
            threading.Thread(target=site.backend, args=[site.assertion("slow", RSA)])
            for _ in range(12)
        ]
        for one in waiting:
            one.start()
        answer = site.backend(site.assertion(client.client_id, RSA))
        for one in waiting:
            one.join()

    assert answer.status_code == 200
    assert host.asked <= key_fetch.MOST_AT_ONCE


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/jwks",
        "https://localhost/jwks",
        "https://[::1]/jwks",
        "https://169.254.169.254/latest",
        "https://10.0.0.1/jwks",
        "https://192.168.1.1/jwks",
        "https://[fd00::1]/jwks",
        "https://0.0.0.0/jwks",
        "https://[::ffff:127.0.0.1]/jwks",
        "http://example.org/jwks",
        "https://2130706433/jwks",
    ],
)
def test_keys_are_not_fetched_from_our_own_network(url):
    with pytest.raises(KeysAway):
        KeySets().of(url)


def test_a_redirect_a_large_answer_and_other_rubbish_are_no_key_set(site):
    with publishing() as host:
        site.register(signer("rubbish", jwks=None, jwks_uri=host.url))
        for status, keys, headers in (
            (302, {}, {"Location": "http://127.0.0.1:1/"}),
            (500, {}, {}),
            (200, b"x" * 300_000, {}),
            (200, [], {}),
            (200, {"keys": "x"}, {}),
            (200, {"keys": [1]}, {}),
            (200, {"keys": [{"kid": "rsa", "kty": "RSA", "n": "AQAB" * 100, "e": 7}]}, {}),
            (200, b"\xff", {}),
            # Compressed: nobody asked for that, and it may be a bomb.
            (
                200,
                gzip.compress(json.dumps(public_set(RSA)).encode()),
                {"Content-Encoding": "gzip"},
            ),
        ):
            host.status, host.keys, host.headers = status, keys, headers
            host.headers["Cache-Control"] = "no-store"
            fresh = KeySets(("127.0.0.1",))
            try:
                found = fresh.of(host.url)
            except KeysAway:
                continue
            assert found["keys"][0]["e"] == 7

        time.sleep(key_fetch.AGAIN_S)
        host.keys = {"keys": [{"kid": "rsa", "kty": "RSA", "n": "AQAB" * 100, "e": 7}]}
        assert refused(site.backend(site.assertion("rubbish", RSA)))
