"""Access tokens: ES256 JWTs that this installation signs and checks itself."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from access.caller import Caller
from access.errors import InvalidToken
from access.revocation import Revocations
from access.scopes import Scopes

ALGORITHM = "ES256"
KEY_FILE = "token-signing-key.pem"
LEEWAY_S = 60  # the most that clocks of two machines may differ
MAX_TOKEN_CHARS = 16_384
_KEPT = 512
# What a token may say of its launch, and the type that it must have.
CONTEXT_CLAIMS: Mapping[str, type] = {
    "patient": str,
    "encounter": str,
    "fhirUser": str,
    "fhirContext": list,
    "intent": str,
    "sid": str,
}
# Scopes by which an app learns who its user is.
_KNOWS_USER = frozenset({"fhirUser", "profile"})
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z", re.ASCII)


class TokenAuthority:
    """Mints and verifies tokens with one key pair kept in a file only we can read.

    The algorithm is fixed: a header that names another one is refused, so neither `none` nor a
    confusion of key types can pass. The key is found by our own key id, never by a header's URL.
    """

    def __init__(
        self,
        key: ECKey,
        *,
        issuer: str,
        audience: str,
        revocations: Revocations | None = None,
    ) -> None:
        self.revocations = revocations
        self._key = key
        self._kid = key.thumbprint()
        self._issuer = issuer
        self._audience = audience
        # A viewer shows the same token with each of hundreds of requests; what it claims, and
        # until when, is checked each time.
        self._signed = lru_cache(maxsize=_KEPT)(self._decode)

    @classmethod
    def load_or_create(
        cls,
        folder: Path,
        *,
        issuer: str,
        audience: str,
        revocations: Revocations | None = None,
    ) -> TokenAuthority:
        """Read the signing key in `folder`, or make one (mode 0600) when there is none.

        See `key_in` for what happens when several processes start at once.
        """
        key = key_in(folder, KEY_FILE)
        return cls(key, issuer=issuer, audience=audience, revocations=revocations)

    def mint(
        self,
        *,
        subject: str,
        scope: str,
        lifetime_s: int,
        client: str | None = None,
        studies: Iterable[str] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> str:
        """Sign a token.

        Args:
            subject: who the token speaks for.
            scope: SMART scope string.
            lifetime_s: seconds until it expires, at least 1.
            client: application that will carry it.
            studies: Study Instance UIDs that it is limited to; None for no limit.
            context: the launch: some of `CONTEXT_CLAIMS`.

        Raises:
            ValueError: no lifetime, or a context of another name or type.
        """
        if lifetime_s < 1:
            raise ValueError("a token lives at least one second")
        context = context or {}
        if not all(isinstance(v, CONTEXT_CLAIMS.get(n, ())) for n, v in context.items()):
            raise ValueError("a launch context has only the known claims, each of its type")
        now = int(time.time())
        claims: dict[str, Any] = {
            **context,
            "iss": self._issuer,
            "aud": self._audience,
            "sub": subject,
            "scope": scope,
            "iat": now,
            "nbf": now,
            "exp": now + lifetime_s,
            "jti": secrets.token_urlsafe(16),
        }
        if client is not None:
            claims["client_id"] = client
        if studies is not None:
            claims["studies"] = sorted(studies)
        header = {"alg": ALGORITHM, "typ": "at+jwt", "kid": self._kid}
        return jwt.encode(header, claims, self._key, algorithms=[ALGORITHM])

    def verify(self, token: str, *, address: str | None = None) -> Caller:
        """The caller that a token speaks for.

        Raises:
            InvalidToken: wrong form, algorithm, key, signature, issuer, audience or time, or
                withdrawn.
        """
        if len(token) > MAX_TOKEN_CHARS or not _COMPACT.match(token):
            raise InvalidToken("not a compact JWT")
        try:
            claims = self._signed(token)
            self._claims_registry().validate(claims)
        except (JoseError, ValueError) as error:
            raise InvalidToken(f"refused: {type(error).__name__}") from error
        caller = _caller(claims, address)
        if self.revocations is not None and self.revocations.revoked(
            sid=caller.session, jti=caller.token_id
        ):
            raise InvalidToken("withdrawn")
        return caller

    def _decode(self, token: str) -> dict[str, Any]:
        decoded = jwt.decode(token, self._key, algorithms=[ALGORITHM])
        if decoded.header.get("kid") != self._kid:
            raise InvalidToken("signed with a key that is not ours")
        return decoded.claims

    def _claims_registry(self) -> jwt.JWTClaimsRegistry:
        return jwt.JWTClaimsRegistry(
            leeway=LEEWAY_S,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": self._audience},
            exp={"essential": True},
            nbf={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
        )


def key_in(folder: Path, name: str) -> ECKey:
    """The private P-256 key in a file that only we can read, made when it is not there.

    Several processes may start at once on an empty folder: the first key that is linked into
    place wins and all of them use it.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / name
    if not path.exists():
        _create_key(path)
    return ECKey.import_key(path.read_bytes())


def _create_key(path: Path) -> None:
    key = ECKey.generate_key("P-256", private=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(key.as_pem(private=True))
        file.flush()
        os.fsync(file.fileno())
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        pass  # another process was first: its key is the key
    finally:
        draft.unlink()


def _caller(claims: dict[str, Any], address: str | None) -> Caller:
    subject, scope = claims["sub"], claims.get("scope", "")
    client, studies = claims.get("client_id"), claims.get("studies")
    if not isinstance(scope, str) or not (client is None or isinstance(client, str)):
        raise InvalidToken("a claim has the wrong type")
    if studies is not None and not (
        isinstance(studies, list) and all(isinstance(uid, str) for uid in studies)
    ):
        raise InvalidToken("the studies claim is not a list of UIDs")
    for name, kind in CONTEXT_CLAIMS.items():
        if name in claims and not (claims[name] and isinstance(claims[name], kind)):
            raise InvalidToken("a claim of the launch context has the wrong type")
    scopes = Scopes.parse(scope)
    return Caller(
        subject=subject,
        kind=scopes.context,
        scopes=scopes,
        client=client,
        address=address,
        studies=None if studies is None else frozenset(studies),
        patient=claims.get("patient"),
        encounter=claims.get("encounter"),
        fhir_user=claims.get("fhirUser"),
        fhir_context=tuple(claims.get("fhirContext", ())),
        session=claims.get("sid"),
        token_id=claims.get("jti"),
        reads_itself="fhirUser" in claims and not _KNOWS_USER.isdisjoint(scope.split()),
    )
