"""Public keys of clients: what a key set must be like (RFC 7517, SMART App Launch 2.2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from authorization.errors import ClientError

MOST_KEYS = 20
RSA_BITS = 2048
# RS384 and ES384 are what SMART App Launch names; there is no other way to sign an assertion.
ALGORITHM_OF = {"RSA": "RS384", "EC": "ES384"}
CURVE = "P-384"
_SECRET_MEMBERS = ("d", "p", "q", "dp", "dq", "qi", "k")


def check_key_set(jwks: Mapping[str, Any]) -> None:
    """Raises ClientError unless it holds public keys that an assertion may be signed with."""
    keys = jwks.get("keys")
    if not isinstance(keys, list) or not 1 <= len(keys) <= MOST_KEYS:
        raise ClientError(f"a key set has a list `keys` of 1 to {MOST_KEYS} keys")
    if not all(isinstance(key, dict) for key in keys):
        raise ClientError("each key of a key set is an object")
    for key in keys:
        if any(name in key for name in _SECRET_MEMBERS):
            raise ClientError(
                "the key set holds a private key: make new keys, send the public part"
            )
        if not isinstance(key.get("kid"), str) or not key["kid"]:
            raise ClientError("each key has a kid")
    twice = [kid for kid, times in Counter(key["kid"] for key in keys).items() if times > 1]
    if twice:
        raise ClientError("two keys have one kid")
    if not any(is_usable(key) for key in keys):
        raise ClientError("no key is for RS384 (RSA, 2048 bits) or ES384 (EC, P-384)")


def is_usable(key: Mapping[str, Any]) -> bool:
    """Whether assertions may be signed with this public key."""
    if key.get("alg", ALGORITHM_OF.get(str(key.get("kty")))) != ALGORITHM_OF.get(
        str(key.get("kty"))
    ):
        return False
    if key.get("use", "sig") != "sig" or "verify" not in key.get("key_ops", ["verify"]):
        return False
    if key.get("kty") == "EC":
        return key.get("crv") == CURVE
    modulus = key.get("n")
    return key.get("kty") == "RSA" and isinstance(modulus, str) and len(modulus) * 6 >= RSA_BITS
