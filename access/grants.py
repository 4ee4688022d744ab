"""Signed grants: what one request to the FHIR store may do, for the store itself to enforce.

A grant is a compact JWS (ES256) that lives a minute at most and is bound to method and path. It is
made here of rules; which rules a caller has is decided in `access.rights`.
"""

from __future__ import annotations

import base64
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc.jwk import ECKey

from access.tokens import key_in

HEADER = "X-Hilum-Grant"
KEY_FILE = "grant-signing-key.pem"
AUDIENCE = "hapi"
LIFETIME_S = 60
# A grant is signed anew while it still has this long to live: requests wait in queues.
_FRESH_S = 40
_KEPT = 4_096
_ES256 = ECDSA(SHA256())
_HALF = 32  # bytes of each number of the signature

Credentials = Callable[[str, str], Mapping[str, str]]
"""From method and path (below the base, without the query) to the headers to send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Which interactions on which resources. A resource must be covered by some rule.

    Attributes:
        types: resource types; empty means every type.
        letters: of `cruds`.
        patient: id of the Patient in whose compartment the resource must be.
        filter: search query that the resource must satisfy, such as `category=x`.
        refers_by: elements of which one must refer to a resource that another rule covers.
        referred_by: `Type:parameter`; a resource that another rule covers must refer to this one.
    """

    types: tuple[str, ...] = ()
    letters: str
    patient: str | None = None
    filter: str | None = None
    refers_by: tuple[str, ...] = ()
    referred_by: tuple[str, ...] = ()

    def claim(self) -> dict[str, Any]:
        """As it stands in a grant; what does not limit is left out."""
        told = {
            "t": self.types,
            "i": self.letters,
            "p": self.patient,
            "f": self.filter,
            "out": self.refers_by,
            "in": self.referred_by,
        }
        return {name: value for name, value in told.items() if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """All that a grant says beside the request that it is for.

    Attributes:
        mode: patient, user, system, or internal for our own workers.
        subject: who, for the store's log.
        client: the application that acts.
        operations: such as `$everything`, that may be called.
        counts: whether the store may tell totals, because the search asks only for what is
            covered.
    """

    mode: str
    subject: str
    rules: tuple[Rule, ...]
    client: str | None = None
    operations: tuple[str, ...] = ()
    counts: bool = False

    def names(self, resource_type: str, letters: str) -> bool:
        """Whether some rule speaks of the type and one of the letters, all else left aside."""
        return any(
            (not rule.types or resource_type in rule.types) and set(letters) & set(rule.letters)
            for rule in self.rules
        )

    def claims(self) -> dict[str, Any]:
        """As they stand in a grant."""
        return {
            "aud": AUDIENCE,
            "sub": self.subject,
            "client": self.client,
            "mode": self.mode,
            "rules": [rule.claim() for rule in self.rules],
            "ops": self.operations,
            "counts": self.counts,
        }


class GrantSigner:
    """Signs grants with a key of its own; the store knows only the public half."""

    def __init__(self, key: ECKey) -> None:
        self._key = key
        if key.private_key is None:
            raise ValueError("grants are signed with a private key")
        self._private = key.private_key
        self._header = {"alg": "ES256", "kid": key.thumbprint()}
        # A viewer asks for the same thing hundreds of times; a signature costs more than a look.
        # The oldest first. A worker asks for each path once: what is stale goes at once.
        self._signed: OrderedDict[tuple[Rights, str, str], tuple[float, str]] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def load_or_create(cls, folder: Path) -> GrantSigner:
        """With the key in `folder`, made there when there is none."""
        return cls(key_in(folder, KEY_FILE))

    @property
    def public_jwk(self) -> str:
        """The public key, as the store gets it."""
        return orjson.dumps({**self._key.as_dict(private=False), **self._header}).decode()

    def sign(self, rights: Rights, method: str, path: str) -> str:
        """A grant for one request.

        Args:
            rights: what it allows.
            method: HTTP method.
            path: below the FHIR base as it is sent; slashes at its ends do not count.
        """
        key = (rights, method.upper(), path.strip("/"))
        now = time.time()
        found = self._signed.get(key)
        if found is None or found[0] < now:
            found = now + LIFETIME_S - _FRESH_S, self._sign(rights, *key[1:], int(now))
            with self._lock:
                self._signed.pop(key, None)
                self._signed[key] = found
                while len(self._signed) > _KEPT or next(iter(self._signed.values()))[0] < now:
                    self._signed.popitem(last=False)
        return found[1]

    def credentials(self, rights: Rights) -> Credentials:
        """Makes the headers of each request of one worker or caller."""
        return lambda method, path: {HEADER: self.sign(rights, method, path)}

    def _sign(self, rights: Rights, method: str, path: str, now: int) -> str:
        bound = _base64(sha256(f"{method} {path}".encode()).digest()).decode()
        claims = rights.claims() | {"iat": now, "exp": now + LIFETIME_S, "req": bound}
        signed = _base64(orjson.dumps(self._header)) + b"." + _base64(orjson.dumps(claims))
        # By hand, as RFC 7518 section 3.4 has it: a third of the time that the JOSE library takes.
        r, s = decode_dss_signature(self._private.sign(signed, _ES256))
        signature = r.to_bytes(_HALF, "big") + s.to_bytes(_HALF, "big")
        return (signed + b"." + _base64(signature)).decode()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
