"""A grant opens the FHIR store only if it was signed by us, for this request, for now."""

from __future__ import annotations

import base64
import time

import httpx
import orjson
import pytest
from joserfc import jws
from joserfc.jwk import ECKey

from access.grants import HEADER, KEY_FILE, GrantSigner
from access.internal_rights import OPERATOR
from tests.fixtures.stores import grant_signer, keys_folder


def forged(hapi, key=None, header=None, **changes):
    key = key or ECKey.import_key((keys_folder() / KEY_FILE).read_bytes())
    good = grant_signer().sign(OPERATOR, "GET", "Patient")
    claims = orjson.loads(base64.urlsafe_b64decode(good.split(".")[1] + "=="))
    claims = {name: value for name, value in (claims | changes).items() if value is not None}
    head = {"alg": "ES256", "kid": key.thumbprint()} | (header or {})
    token = jws.serialize_compact(head, orjson.dumps(claims), key)
    return httpx.get(
        f"{hapi.config.base_url}/Patient", headers={HEADER: token}, timeout=60
    ).status_code


def test_a_grant_of_ours_opens_the_store(hapi):
    assert forged(hapi) == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "else"},
        {"aud": None},
        {"exp": int(time.time()) - 60},
        {"exp": None},
        {"exp": int(time.time()) + 3600},
        {"iat": int(time.time()) + 600, "exp": int(time.time()) + 650},
        {"iat": None},
        {"req": "x"},
        {"req": None},
    ],
    ids=str,
)
def test_a_grant_with_a_wrong_claim_opens_nothing(hapi, changes):
    assert forged(hapi, **changes) == 401


def test_a_grant_of_another_key_opens_nothing(hapi, tmp_path):
    GrantSigner.load_or_create(tmp_path)
    stranger = ECKey.import_key((tmp_path / KEY_FILE).read_bytes())
    own = ECKey.import_key((keys_folder() / KEY_FILE).read_bytes())

    assert forged(hapi, key=stranger) == 401
    assert forged(hapi, key=stranger, header={"kid": own.thumbprint()}) == 401
    assert forged(hapi, header={"kid": "other"}) == 401


def test_an_unsigned_grant_opens_nothing(hapi):
    good = grant_signer().sign(OPERATOR, "GET", "Patient").split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()

    for token in (
        f"{none}.{good[1]}.",
        f"{good[0]}.{good[1]}.",
        f"{good[0]}.{good[1]}",
        "",
        "a.b.c",
    ):
        answer = httpx.get(f"{hapi.config.base_url}/Patient", headers={HEADER: token}, timeout=60)
        assert answer.status_code == 401


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "Observation"), ("POST", "Patient"), ("GET", "Patient/1")]
)
def test_a_grant_is_good_for_its_request_alone(hapi, method, path):
    token = grant_signer().sign(OPERATOR, "GET", "Patient")

    answer = httpx.request(
        method, f"{hapi.config.base_url}/{path}", headers={HEADER: token}, timeout=60
    )

    assert answer.status_code == 401
