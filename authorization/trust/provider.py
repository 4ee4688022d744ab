"""An external OpenID Connect provider: its metadata and keys, its tokens and what they claim.

Source: OpenID Connect Core 1.0, sections 3.1.2 and 3.1.3; RFC 7636; RFC 9207.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from access.roles import ROLES
from access.users import User, UserError, normal
from authorization.clients import is_web
from authorization.errors import AuthorizationError

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384"]
LEEWAY_S = 60
_KEPT_S = 300
_TIMEOUT_S = 10.0
_KEYS_AGAIN_S = 5.0
# Proxies refuse longer lines. Without the hint the provider goes by its own cookie, and may ask.
_LONGEST_HINT = 3_000
_AWAY = "the provider does not answer; please try again in a moment"


class ProviderError(AuthorizationError):
    """The provider answers something that cannot be trusted, or vouches for nobody."""


class ProviderAway(ProviderError):
    """The provider does not answer now."""


@dataclass(frozen=True, slots=True)
class FederationConfig:
    """One provider, and how its claims become a user.

    Attributes:
        issuer: as it names itself; its metadata lie below.
        client_id: we, as registered there.
        client_secret: proves it.
        redirect_uri: our address to which it sends people back.
        signed_out_uri: our address to which it sends people whom it has signed out.
        label: what the button says.
        scope: what we ask for.
        username_claim: names the user here, at the first sign-in.
        name_claim: how the user is shown.
        role_claim: a text or a list of them.
        roles: our role by a value of that claim; the first that fits counts.
        fhir_user_claim: holds a reference such as `Practitioner/17`.
    """

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    redirect_uri: str
    signed_out_uri: str
    label: str = "single sign-on"
    scope: str = "openid profile"
    username_claim: str = "preferred_username"
    name_claim: str = "name"
    role_claim: str = "groups"
    roles: Mapping[str, str] = field(default_factory=dict)
    fhir_user_claim: str | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """An id_token, and its claims, which were checked."""

    id_token: str = field(repr=False)
    claims: dict[str, Any] = field(repr=False)

    @property
    def signed_in_at(self) -> datetime | None:
        """When the person had proved who they are; None: the provider does not say."""
        at = self.claims.get("auth_time")
        return datetime.fromtimestamp(at, UTC) if at is not None else None


class Provider:
    """The provider as we speak with it."""

    def __init__(self, config: FederationConfig, http: httpx.AsyncClient | None = None) -> None:
        self.config = config
        self._http = http or httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False)
        self._metadata: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, KeySet] | None = None

    async def authorize_url(
        self,
        state: str,
        nonce: str,
        challenge: str,
        again: bool = False,
        max_age: int | None = None,
    ) -> str:
        """Where to send the browser.

        Args:
            state: comes back with the answer.
            nonce: comes back in the id_token.
            challenge: of PKCE, S256.
            again: the provider is to ask even whom it knows.
            max_age: seconds ago that the person may have signed in there; None: any.

        Raises ProviderError.
        """
        metadata = await self._discover()
        asked = {
            "response_type": "code",
            "client_id": self.config.client_id,
            "redirect_uri": self.config.redirect_uri,
            "scope": self.config.scope,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        if again:
            asked["prompt"] = "login"
        if max_age is not None:
            asked["max_age"] = str(max_age)
        return _with(metadata["authorization_endpoint"], asked)

    async def sign_out_url(self, id_token: str, state: str) -> str | None:
        """Where to send the browser to sign out there; None: the provider has no such place.

        Args:
            id_token: that the provider gave at the sign-in.
            state: comes back with the browser.

        Raises ProviderError.
        Source: OpenID Connect RP-Initiated Logout 1.0, section 2.
        """
        endpoint = (await self._discover()).get("end_session_endpoint")
        if endpoint is None:
            return None
        told = {
            "client_id": self.config.client_id,
            "post_logout_redirect_uri": self.config.signed_out_uri,
            "state": state,
        }
        if len(id_token) <= _LONGEST_HINT:
            told["id_token_hint"] = id_token
        return _with(endpoint, told)

    async def identity(self, code: str, verifier: str, nonce: str) -> Identity:
        """Who a code stands for. Raises ProviderError."""
        metadata = await self._discover()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.config.redirect_uri,
            "code_verifier": verifier,
        }
        credentials = httpx.BasicAuth(self.config.client_id, self.config.client_secret)
        answer = await self._fetch("POST", metadata["token_endpoint"], data=form, auth=credentials)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise ProviderError("the provider gave no id_token")
        return Identity(token, await self._checked(token, nonce))

    async def _checked(self, token: str, nonce: str) -> dict[str, Any]:
        try:
            decoded = await self._decoded(token)
            registry = jwt.JWTClaimsRegistry(
                leeway=LEEWAY_S,
                iss={"essential": True, "value": self.config.issuer},
                aud={"essential": True, "value": self.config.client_id},
                sub={"essential": True},
                exp={"essential": True},
                iat={"essential": True},
                nonce={"essential": True, "value": nonce},
            )
            registry.validate(decoded.claims)
        except (JoseError, ValueError) as error:
            raise ProviderError(f"the id_token is not valid: {type(error).__name__}") from error
        claims = dict(decoded.claims)
        for_whom, azp = claims["aud"], claims.get("azp")
        names_azp = azp is not None or (isinstance(for_whom, list) and len(for_whom) > 1)
        if names_azp and azp != self.config.client_id:
            raise ProviderError("the id_token was made for another client")
        at = claims.get("auth_time")
        if at is not None and not (
            isinstance(at, int | float) and 0 <= at < time.time() + LEEWAY_S
        ):
            raise ProviderError("the id_token names no time that has been as auth_time")
        return claims

    async def _decoded(self, token: str) -> jwt.Token:
        """The signature is checked; a key that we do not know makes us look once more."""
        try:
            return jwt.decode(token, await self._key_set(), algorithms=ALGORITHMS)
        except (JoseError, ValueError):
            fresh = await self._key_set(again=True)
            return jwt.decode(token, fresh, algorithms=ALGORITHMS)

    async def _discover(self) -> dict[str, Any]:
        if self._metadata is not None and time.monotonic() - self._metadata[0] < _KEPT_S:
            return self._metadata[1]
        url = f"{self.config.issuer.rstrip('/')}/.well-known/openid-configuration"
        found = await self._fetch("GET", url)
        needed = ["authorization_endpoint", "token_endpoint", "jwks_uri"]
        needed += ["end_session_endpoint"] if "end_session_endpoint" in found else []
        if found.get("issuer") != self.config.issuer:
            raise ProviderError("the provider's metadata name another issuer")
        if not all(is_web(str(found.get(name))) for name in needed):
            raise ProviderError("the provider's metadata lack an endpoint with https")
        self._metadata = time.monotonic(), found
        return found

    async def _key_set(self, again: bool = False) -> KeySet:
        known = self._keys
        if known is not None:
            age = time.monotonic() - known[0]
            if age < (_KEYS_AGAIN_S if again else _KEPT_S):
                return known[1]
        found = await self._fetch("GET", (await self._discover())["jwks_uri"])
        try:
            keys = KeySet.import_key_set(found)  # type: ignore[arg-type]
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise ProviderError("the provider's keys cannot be read") from error
        self._keys = time.monotonic(), keys
        return keys

    async def _fetch(self, method: str, url: str, **more: Any) -> dict[str, Any]:
        try:
            answer = await self._http.request(method, url, **more)
            found: Any = answer.json() if answer.status_code == httpx.codes.OK else None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ProviderAway(_AWAY) from error
        except (ValueError, RecursionError) as error:
            raise ProviderError("the provider's answer cannot be read") from error
        if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise ProviderAway(_AWAY)
        if not isinstance(found, dict):
            raise ProviderError(f"the provider refused (HTTP {answer.status_code})")
        return found


def _with(endpoint: str, parameters: Mapping[str, str]) -> str:
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(parameters)}"


def user_of(config: FederationConfig, claims: Mapping[str, Any]) -> User:
    """The user that claims describe. Raises ProviderError: no role, no name, no reference."""
    values = claims.get(config.role_claim, [])
    given = [values] if isinstance(values, str) else values if isinstance(values, list) else []
    role = next((ours for theirs, ours in config.roles.items() if theirs in given), None)
    known = next((one for one in ROLES if one == role), None)
    if known is None:
        raise ProviderError(
            "the provider gives you no role here; ask those who run it for a group that has one"
        )
    reference = claims.get(config.fhir_user_claim) if config.fhir_user_claim else None
    name = claims.get(config.name_claim)
    try:
        return User(
            normal(str(claims.get(config.username_claim, ""))),
            name if isinstance(name, str) else "",
            known,
            _relative(reference) if isinstance(reference, str) else None,
        )
    except UserError as error:
        raise ProviderError(f"the provider's claims make no user here: {error}") from error


def _relative(reference: str) -> str:
    """The last two parts of a reference: the provider may write it with a server before it."""
    return "/".join(reference.rstrip("/").split("/")[-2:])
