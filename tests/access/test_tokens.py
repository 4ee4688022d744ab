"""A token opens the door only if this installation made it, for us, for now."""

from __future__ import annotations

import asyncio
import base64
import json
import stat
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey
from starlette.requests import Request

from access import InvalidToken, TokenAuthority, Unauthorized
from access.http import OwnTokens, caller_of
from access.tokens import KEY_FILE, LEEWAY_S

ISSUER, AUDIENCE = "http://localhost:8080", "http://localhost:8080/fhir"


@pytest.fixture
def authority(tmp_path):
    return TokenAuthority.load_or_create(tmp_path, issuer=ISSUER, audience=AUDIENCE)


def forged(folder, header=None, key=None, **changes):
    own = ECKey.import_key((folder / KEY_FILE).read_bytes())
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "x", "scope": "system/*.rs",
              "iat": now, "nbf": now, "exp": now + 60}  # fmt: skip
    claims = {name: value for name, value in (claims | changes).items() if value is not None}
    head = {"alg": "ES256", "kid": own.thumbprint()} | (header or {})
    return jwt.encode(head, claims, key or own, algorithms=[head["alg"]])


def test_a_minted_token_names_its_caller(authority):
    token = authority.mint(
        subject="robot",
        scope="system/ImagingStudy.rs",
        lifetime_s=60,
        client="app",
        studies=["1.2"],
    )

    caller = authority.verify(token, address="10.0.0.1")

    assert (caller.subject, caller.kind, caller.client) == ("robot", "system", "app")
    assert caller.may("ImagingStudy", "r") and not caller.may("Patient", "r")
    assert caller.may_see_study("1.2") and not caller.may_see_study("1.3")
    assert caller.address == "10.0.0.1"


def test_the_key_is_readable_by_its_owner_only_and_stays_the_same(authority, tmp_path):
    again = TokenAuthority.load_or_create(tmp_path, issuer=ISSUER, audience=AUDIENCE)

    token = authority.mint(subject="a", scope="", lifetime_s=60)

    assert again.verify(token).subject == "a"
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600


def test_processes_that_start_together_share_one_key(tmp_path):
    def start(_):
        return TokenAuthority.load_or_create(tmp_path, issuer=ISSUER, audience=AUDIENCE)

    with ThreadPoolExecutor(8) as pool:
        authorities = list(pool.map(start, range(8)))

    token = authorities[0].mint(subject="a", scope="", lifetime_s=60)
    assert all(one.verify(token).subject == "a" for one in authorities)


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": int(time.time()) - LEEWAY_S - 5},
        {"nbf": int(time.time()) + LEEWAY_S + 600},
        {"iss": "http://elsewhere"},
        {"aud": "http://elsewhere"},
        {"exp": None},
        {"sub": None},
        {"aud": None},
        {"studies": "1.2.3"},
        {"scope": ["system/*.rs"]},
        {"patient": ["1"]},
        {"patient": ""},
        {"fhirContext": {"reference": "ImagingStudy/1"}},
        {"sid": 7},
    ],
    ids=str,
)
def test_a_token_with_a_wrong_claim_is_refused(authority, tmp_path, changes):
    with pytest.raises(InvalidToken):
        authority.verify(forged(tmp_path, **changes))


def test_clocks_may_differ_a_little(authority, tmp_path):
    assert authority.verify(forged(tmp_path, exp=int(time.time()) - LEEWAY_S + 10)).subject == "x"


def test_other_algorithms_and_keys_are_refused(authority, tmp_path):
    public = (tmp_path / KEY_FILE).read_bytes()
    attempts = [
        forged(tmp_path, key=ECKey.generate_key("P-256")),
        forged(tmp_path, header={"kid": "other"}),
        forged(tmp_path, header={"alg": "HS256"}, key=OctKey.import_key(public)),
        _without_signature(forged(tmp_path)),
        "",
        "a.b.c",
        "x" * 100_000,
    ]

    for token in attempts:
        with pytest.raises(InvalidToken):
            authority.verify(token)


def _without_signature(token):
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none"}).encode()).decode().rstrip("=")
    return f"{header}.{token.split('.')[1]}."


def request_with(*values):
    headers = [(b"authorization", value.encode()) for value in values]
    return Request({"type": "http", "headers": headers, "client": ("192.0.2.7", 4711)})


def test_the_header_is_the_only_place_for_a_token(authority):
    token = authority.mint(subject="a", scope="", lifetime_s=60)

    def caller(*values):
        return asyncio.run(caller_of(request_with(*values), OwnTokens(authority)))

    assert caller(f"bearer {token}").address == "192.0.2.7"
    for values in ([], [token], ["Basic eA=="], [f"Bearer {token}", f"Bearer {token}"]):
        with pytest.raises(Unauthorized) as refusal:
            caller(*values)
        assert refusal.value.challenge.startswith("Bearer")


def test_a_token_carries_its_launch(authority):
    launch = {
        "patient": "p1",
        "encounter": "e1",
        "fhirUser": "Practitioner/x",
        "fhirContext": [{"reference": "ImagingStudy/1"}],
        "sid": "s1",
    }

    caller = authority.verify(
        authority.mint(subject="u", scope="patient/*.rs", lifetime_s=60, context=launch)
    )

    assert (caller.patient, caller.encounter, caller.fhir_user) == ("p1", "e1", "Practitioner/x")
    assert caller.fhir_context == ({"reference": "ImagingStudy/1"},)
    assert (caller.session, caller.kind) == ("s1", "patient") and caller.token_id


@pytest.mark.parametrize("context", [{"iss": "http://evil"}, {"scope": "system/*.rs"}, {"sid": 1}])
def test_a_launch_cannot_name_what_is_not_its_own(authority, context):
    with pytest.raises(ValueError, match="launch context"):
        authority.mint(subject="u", scope="", lifetime_s=60, context=context)
