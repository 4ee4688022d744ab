"""What the authorization server is told at its start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class AuthorizationConfig:
    """Where it lives and how long what it issues lives.

    Attributes:
        dsn: of our database.
        base_url: of the site, without a trailing slash; also the issuer.
        keys: folder of the keys that sign id_tokens.
        access_s: life of an access token, in seconds.
        online_s: life of one that came with online access: the app has to show up that often.
        backend_s: life of one of a backend.
        offline_s: time within which a refresh token has to be used.
        key_s: age at which the key for id_tokens is followed by a new one.
        key_hosts: hosts that a client's key set may be fetched from though they are on this
            machine or on a private network, and without TLS.
    """

    dsn: str
    base_url: str
    keys: Path
    access_s: int = 3600
    online_s: int = 600
    backend_s: int = 300
    offline_s: int = 90 * 24 * 3600
    key_s: int = 90 * 24 * 3600
    key_hosts: tuple[str, ...] = ()

    @property
    def fhir_url(self) -> str:
        """The FHIR base: what `aud` must say, to the letter."""
        return f"{self.base_url}/fhir"

    @property
    def authorize_url(self) -> str:
        """The authorization endpoint."""
        return f"{self.base_url}/auth/authorize"

    @property
    def token_url(self) -> str:
        """The token endpoint; client assertions name it as their audience."""
        return f"{self.base_url}/auth/token"

    @property
    def revoke_url(self) -> str:
        """The revocation endpoint."""
        return f"{self.base_url}/auth/revoke"

    @property
    def introspect_url(self) -> str:
        """The introspection endpoint."""
        return f"{self.base_url}/auth/introspect"

    @property
    def jwks_url(self) -> str:
        """The public keys of the id_tokens."""
        return f"{self.base_url}/auth/jwks"

    @property
    def manage_url(self) -> str:
        """The page on which people see which apps they let in, and take that back."""
        return f"{self.base_url}/auth/apps"
