"""What is handed out: access tokens, refresh tokens and id_tokens."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from authlib.oauth2.rfc6749.errors import InvalidScopeError
from joserfc import jwt

from access.sessions import Sessions
from access.tokens import LEEWAY_S, MAX_TOKEN_CHARS, TokenAuthority
from access.users import User, UserError, Users
from authorization.approvals import Approval, Approvals
from authorization.clients import REFRESH, Client
from authorization.config import AuthorizationConfig
from authorization.identity_keys import ALGORITHM, IdentityKeys
from authorization.narrowing import narrow, narrowed_to_user

_IDENTITY_S = 600


@dataclass(frozen=True)
class Issuer:
    """Issues on authorizations and to backends, and ends what was issued."""

    config: AuthorizationConfig
    authority: TokenAuthority
    approvals: Approvals
    users: Users
    sessions: Sessions
    keys: IdentityKeys

    def user_of(self, approval: Approval) -> User | None:
        """Whose authorization it is; None: may not sign in any more, or is somebody else now."""
        try:
            user = self.users.find(approval.username)
        except UserError:
            return None
        is_other = user.fhir_user != approval.fhir_user
        if user.disabled or is_other:
            return None
        return user

    def is_alive(self, approval: Approval) -> bool:
        """Whether more may be issued: online access ends with the session of its browser."""
        session = approval.session_sha256
        return session is None or not approval.is_online or self.sessions.lives(session)

    def tokens(self, approval: Approval, user: User, client: Client, scope: str) -> dict[str, Any]:
        """The token response of an authorization (SMART App Launch 2.2, section 2.0.10).

        Args:
            approval: that was given.
            user: who gave it; what they may not do any more is left out.
            client: whom it was given to; what it may not have any more is left out.
            scope: all of it, or less.
        """
        granted = narrowed_to_user(narrow(scope, client.scopes), user)
        lifetime_s = self.config.access_s
        if approval.is_online:
            lifetime_s = min(lifetime_s, self.config.online_s)
        answer: dict[str, Any] = {
            **approval.context.fields(),
            "access_token": self._access(approval, granted, lifetime_s),
            "token_type": "Bearer",
            "expires_in": lifetime_s,
            "scope": granted,
        }
        lasts = approval.is_online and approval.session_sha256 is not None
        if REFRESH in client.grant_types and (lasts or approval.has("offline_access")):
            answer["refresh_token"] = self.approvals.issue_refresh(
                approval.sid, self.config.offline_s
            )
        if "openid" in granted.split():
            answer["id_token"] = self._identity(approval, granted)
        return answer

    def backend(self, client: Client, scope: str, sid: str) -> dict[str, Any]:
        """The token response of a backend: short, and nothing to refresh; it ends with `sid`."""
        token = self._minted(
            subject=client.client_id,
            scope=scope,
            lifetime_s=self.config.backend_s,
            client=client.client_id,
            context={"sid": sid},
        )
        return {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": self.config.backend_s,
            "scope": scope,
        }

    def end(self, sid: str) -> None:
        """End an authorization and every access token of it, at once."""
        self.approvals.revoke(sid)
        longest = timedelta(seconds=self.config.access_s + 2 * LEEWAY_S)
        self._revocations.revoke(sid=sid, until=datetime.now(UTC) + longest)

    def end_token(self, jti: str, expires: float) -> None:
        """End one access token."""
        until = datetime.fromtimestamp(expires, UTC) + timedelta(seconds=2 * LEEWAY_S)
        self._revocations.revoke(jti=jti, until=until)

    @property
    def _revocations(self) -> Any:
        found = self.authority.revocations
        if found is None:
            raise RuntimeError("an authority without revocations cannot end tokens")
        return found

    def _access(self, approval: Approval, scope: str, lifetime_s: int) -> str:
        context: dict[str, Any] = {**approval.context.claims(), "sid": approval.sid}
        if approval.fhir_user is not None:
            context["fhirUser"] = approval.fhir_user
        return self._minted(
            subject=approval.username,
            scope=scope,
            lifetime_s=lifetime_s,
            client=approval.client_id,
            context=context,
        )

    def _minted(self, **claims: Any) -> str:
        """An access token. Raises InvalidScopeError: no door would read one that is so long."""
        token = self.authority.mint(**claims)
        if len(token) > MAX_TOKEN_CHARS:
            raise InvalidScopeError("the scopes are too many for one token; ask for fewer")
        return token

    def _identity(self, approval: Approval, scope: str) -> str:
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.config.base_url,
            "sub": approval.username,
            "aud": approval.client_id,
            "iat": now,
            "exp": now + _IDENTITY_S,
        }
        if approval.signed_in_at is not None:
            claims["auth_time"] = int(approval.signed_in_at.timestamp())
        if approval.nonce is not None:
            claims["nonce"] = approval.nonce
        asked: Mapping[str, bool] = dict.fromkeys(scope.split(), True)
        if approval.fhir_user is not None and ("fhirUser" in asked or "profile" in asked):
            claims["fhirUser"] = f"{self.config.fhir_url}/{approval.fhir_user}"
        kid, key = self.keys.signing()
        header = {"alg": ALGORITHM, "typ": "JWT", "kid": kid}
        return jwt.encode(header, claims, key, algorithms=[ALGORITHM])
