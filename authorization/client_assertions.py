"""Clients that prove themselves by a signature: private_key_jwt as SMART App Launch 2.2 has it.

Source: SMART App Launch 2.2, client-confidential-asymmetric; RFC 7523 section 3.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypeGuard

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from authorization.client_keys import ALGORITHM_OF, is_usable
from authorization.clients import Client
from authorization.errors import AuthorizationError
from authorization.key_fetch import KeysAway, KeySets
from authorization.requests import digest
from authorization.table import Pool, Table

TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LONGEST_S = 300
LEEWAY_S = 30  # the most that the clocks of a client and of ours may differ
_MAX_CHARS = 16_384
_KTY_OF = {algorithm: kty for kty, algorithm in ALGORITHM_OF.items()}


class AssertionRefused(AuthorizationError):
    """The assertion does not prove the client; the text says what is wrong, without its values."""


class Assertions(Table):
    """Checks assertions, and remembers which were seen. Blocking: call it from a thread."""

    def __init__(self, database: str | Pool, token_url: str, keys: KeySets) -> None:
        super().__init__(database)
        self._token_url = token_url
        self._keys = keys

    def client_of(self, assertion: str, find: Callable[[str], Client | None]) -> Client:
        """The client that made this assertion.

        Raises AssertionRefused.
        """
        header, claims = _read(assertion)
        name = claims.get("sub")
        if not isinstance(name, str) or claims.get("iss") != name:
            raise AssertionRefused("iss and sub are both the client_id")
        client = find(name)
        if client is None or client.kind != "asymmetric":
            raise AssertionRefused("no such client signs its requests")
        key = self._key(client, header)
        try:
            jwt.decode(assertion, key, algorithms=[header["alg"]])
        except (JoseError, ValueError) as error:
            raise AssertionRefused("the signature is not the client's") from error
        self._check(claims)
        self._remember(client.client_id, claims)
        return client

    def _key(self, client: Client, header: Mapping[str, Any]) -> RSAKey | ECKey:
        """The one key of the client that the header names."""
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in _KTY_OF:
            raise AssertionRefused(f"alg is one of {', '.join(_KTY_OF)}")
        if not isinstance(kid, str) or not kid:
            raise AssertionRefused("the header names its key by kid")
        if str(header.get("typ", "")).upper() != "JWT":
            raise AssertionRefused("typ is JWT")
        if "jku" in header and header["jku"] != client.jwks_uri:
            raise AssertionRefused("jku is not the URL that is registered")
        found = self._matching(client, kid, algorithm)
        if len(found) != 1:
            raise AssertionRefused(
                "the client has no such key" if not found else "two keys of the client have one kid"
            )
        try:
            kind = RSAKey if _KTY_OF[algorithm] == "RSA" else ECKey
            return kind.import_key(dict(found[0]))
        except (JoseError, ValueError, TypeError) as error:
            raise AssertionRefused("the client's key is damaged") from error

    def _matching(self, client: Client, kid: str, algorithm: str) -> list[Mapping[str, Any]]:
        def named(keys: Mapping[str, Any]) -> list[Mapping[str, Any]]:
            return [key for key in keys.get("keys", ()) if key.get("kid") == kid]

        try:
            if client.jwks_uri is None:
                found = named(client.jwks or {})
            else:
                found = named(self._keys.of(client.jwks_uri))
                # A client that has just changed its keys is not made to wait for our copy.
                found = found or named(self._keys.of(client.jwks_uri, fresh=True))
        except KeysAway as error:
            raise AssertionRefused(str(error)) from error
        if len(found) > 1:
            return found
        return [one for one in found if one.get("kty") == _KTY_OF[algorithm] and is_usable(one)]

    def _check(self, claims: Mapping[str, Any]) -> None:
        now = time.time()
        audience = claims.get("aud")
        if audience != self._token_url and audience != [self._token_url]:
            raise AssertionRefused(f"aud is {self._token_url}")
        expires = claims.get("exp")
        if not _is_time(expires) or expires <= now - LEEWAY_S:
            raise AssertionRefused("exp is missing or past; compare the clocks")
        if expires > now + LONGEST_S + LEEWAY_S:
            raise AssertionRefused("exp is more than 5 minutes ahead; compare the clocks")
        for name in ("nbf", "iat"):
            at = claims.get(name)
            if at is not None and (not _is_time(at) or at > now + LEEWAY_S):
                raise AssertionRefused(f"{name} lies in the future; compare the clocks")
        jti = claims.get("jti")
        if not isinstance(jti, str) or not 1 <= len(jti) <= 512:
            raise AssertionRefused("jti is missing")

    def _remember(self, client_id: str, claims: Mapping[str, Any]) -> None:
        """Raises AssertionRefused if this assertion was used before."""
        with self._open() as connection:
            connection.execute(
                b"delete from authorization_server.assertion where expires_at < now()"
            )
            done = connection.execute(
                b"insert into authorization_server.assertion (client_id, jti_sha256, expires_at)"
                b" values (%s, %s, to_timestamp(%s) + %s) on conflict do nothing",
                [
                    client_id,
                    digest(claims["jti"]),
                    claims["exp"],
                    timedelta(seconds=2 * LEEWAY_S),
                ],
            )
            if not done.rowcount:
                raise AssertionRefused("jti was used before: each assertion counts once")


def _read(assertion: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Header and claims, not verified yet."""
    if len(assertion) > _MAX_CHARS or not assertion.isascii():
        raise AssertionRefused("client_assertion is no JWT")
    try:
        value = jws.extract_compact(assertion.encode())
        claims = json.loads(value.payload)
    except (JoseError, ValueError, RecursionError) as error:
        raise AssertionRefused("client_assertion is no JWT") from error
    if not isinstance(claims, dict):
        raise AssertionRefused("client_assertion is no JWT")
    return value.headers(), claims


def _is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and value < 1e11
