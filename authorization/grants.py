"""The three grants of the token endpoint, on Authlib's: code with PKCE, refresh, backend."""

from __future__ import annotations

import hmac
import re
from typing import Any

from authlib.oauth2.rfc6749.errors import (
    InvalidClientError,
    InvalidGrantError,
    InvalidRequestError,
    InvalidScopeError,
)
from authlib.oauth2.rfc6749.grants import (
    AuthorizationCodeGrant,
    ClientCredentialsGrant,
    RefreshTokenGrant,
)
from authlib.oauth2.rfc7636 import CodeChallenge, create_s256_code_challenge

from authorization.approvals import Approval, RefreshToken, Reused
from authorization.clients import REFRESH
from authorization.issuing import Issuer
from authorization.narrowing import covers, narrow
from authorization.protocol import ANY_METHOD, SIGNED, FormRequest, KnownClient, Protocol

METHOD = "S256"
CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}", re.ASCII)
_Response = tuple[int, dict[str, Any], list[tuple[str, str]]]


class IssuingProtocol(Protocol):
    """The server with what its grants issue by."""

    def __init__(self, issuer: Issuer, *parts: Any) -> None:
        super().__init__(*parts)
        self.issuer = issuer
        self.register_grant(CodeGrant, [S256()])
        self.register_grant(RefreshGrant)
        self.register_grant(BackendGrant)

    def name_of(self, request: FormRequest) -> str:
        """The client id in a form; of a refreshing app that gives none, that of its token.

        The SMART JavaScript client leaves it out; the token says whose it is, and a client that
        has a credential still has to show it.
        """
        token = request.form.get("refresh_token")
        named = super().name_of(request)
        if named or token is None or request.form.get("grant_type") != REFRESH:
            return named
        found = self.issuer.approvals.look_at_refresh(token)
        return found.approval.client_id if found is not None else ""


class S256(CodeChallenge):  # type: ignore[misc]
    """PKCE for every client, S256 only. Authlib's own takes `plain` when no method is named."""

    def validate_code_verifier(self, grant: Any, result: object) -> None:
        """The verifier is that of the challenge. Raises InvalidGrantError."""
        del result
        verifier = grant.request.form.get("code_verifier", "")
        challenge = grant.request.approval.code_challenge
        if not _VERIFIER.fullmatch(verifier) or not hmac.compare_digest(
            create_s256_code_challenge(verifier), challenge
        ):
            raise InvalidGrantError("code_verifier is missing or wrong")


class IssuedCode:
    """An authorization as Authlib asks about its code."""

    def __init__(self, approval: Approval) -> None:
        self._approval = approval

    def get_redirect_uri(self) -> str:
        """Where the code was sent to."""
        return self._approval.redirect_uri


class CodeGrant(AuthorizationCodeGrant):  # type: ignore[misc]
    """authorization_code: a code counts once, for its client, redirect URI and verifier."""

    TOKEN_ENDPOINT_AUTH_METHODS = ANY_METHOD

    def query_authorization_code(self, code: str, client: KnownClient) -> IssuedCode | None:
        """The authorization of a code, used up by this. Raises InvalidGrantError: used before."""
        issuer: Issuer = self.server.issuer
        try:
            approval = issuer.approvals.take(code, client.get_client_id())
        except Reused as error:
            issuer.end(error.sid)
            raise InvalidGrantError(str(error)) from error
        if approval is None:
            return None
        self.request.approval = approval
        return IssuedCode(approval)

    def create_token_response(self) -> _Response:
        """The first tokens of an authorization."""
        issuer: Issuer = self.server.issuer
        approval: Approval = self.request.approval
        user = issuer.user_of(approval)
        if user is None:
            raise InvalidGrantError("the user may not sign in any more")
        if not issuer.is_alive(approval):
            raise InvalidGrantError("the user has signed out")
        client = self.request.client.registered
        return 200, issuer.tokens(approval, user, client, approval.scope), _headers()


class RefreshGrant(RefreshTokenGrant):  # type: ignore[misc]
    """refresh_token: each counts once; one that comes again ends the whole family."""

    TOKEN_ENDPOINT_AUTH_METHODS = ANY_METHOD

    def _validate_request_token(self, client: KnownClient) -> RefreshToken:
        issuer: Issuer = self.server.issuer
        token = self.request.form.get("refresh_token")
        if token is None:
            raise InvalidRequestError("refresh_token is missing")
        try:
            found = issuer.approvals.find_refresh(token)
        except Reused as error:
            issuer.end(error.sid)
            raise InvalidGrantError(str(error)) from error
        if found is None or found.approval.client_id != client.get_client_id():
            raise InvalidGrantError("the refresh token is unknown, too old or withdrawn")
        return found

    def _validate_token_scope(self, token: RefreshToken) -> None:
        scope = self.request.payload.scope
        if scope and not covers(token.approval.scope, scope):
            raise InvalidScopeError("more than was granted")

    def create_token_response(self) -> _Response:
        """New tokens in place of the old ones."""
        issuer: Issuer = self.server.issuer
        token: RefreshToken = self.request.refresh_token
        approval = token.approval
        self.request.approval = approval
        user = issuer.user_of(approval)
        if user is None or not issuer.is_alive(approval):
            issuer.end(approval.sid)
            raise InvalidGrantError("the session or the account of the user has ended")
        try:
            issuer.approvals.use_refresh(token)
        except Reused as error:
            issuer.end(error.sid)
            raise InvalidGrantError(str(error)) from error
        client = self.request.client.registered
        scope = self.request.payload.scope or approval.scope
        return 200, issuer.tokens(approval, user, client, scope), _headers()


class BackendGrant(ClientCredentialsGrant):  # type: ignore[misc]
    """client_credentials: SMART Backend Services."""

    TOKEN_ENDPOINT_AUTH_METHODS = (SIGNED,)

    def validate_requested_scope(self) -> None:
        """What was pre-authorized of what is asked. Raises InvalidScopeError: nothing of it."""
        asked = self.request.payload.scope or ""
        if any(one.startswith(("patient/", "user/")) for one in asked.split()):
            raise InvalidScopeError("a backend has system/ scopes only")
        self.request.scope = narrow(asked, self.request.client.registered.scopes)
        if not self.request.scope:
            raise InvalidScopeError("none of the scopes is pre-authorized")

    def create_token_response(self) -> _Response:
        """One short access token."""
        issuer: Issuer = self.server.issuer
        client = self.request.client.registered
        sid = self.server.clients.backend_sid(client.client_id)
        if sid is None:
            raise InvalidClientError("the client was disabled or removed just now")
        return 200, issuer.backend(client, self.request.scope, sid), _headers()


def _headers() -> list[tuple[str, str]]:
    return [("Cache-Control", "no-store"), ("Pragma", "no-cache")]
