"""Tokens that clients ask about or give up: revocation (RFC 7009) and introspection (RFC 7662)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson
from authlib.oauth2.rfc6749.errors import InvalidClientError, InvalidRequestError
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7662 import IntrospectionEndpoint

from access.caller import Caller
from access.errors import InvalidToken
from authorization.issuing import Issuer
from authorization.protocol import ANY_METHOD, AUTH_METHODS, FormRequest, KnownClient

_BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class Presented:
    """A live token of ours.

    Attributes:
        client_id: whom it was issued to.
        claims: what introspection says of it; the JWT's own for an access token.
        id: `jti` of an access token, `sid` behind a refresh token.
    """

    kind: Literal["access_token", "refresh_token"]
    client_id: str
    claims: Mapping[str, Any]
    id: str
    is_live: bool = True

    def check_client(self, client: KnownClient) -> bool:
        """Whether it was issued to this client."""
        return bool(client.get_client_id() == self.client_id)

    def is_expired(self) -> bool:
        """Whether it has ended."""
        return not self.is_live

    def is_revoked(self) -> bool:
        """Whether it has ended."""
        return not self.is_live


def find(issuer: Issuer, token: str) -> Presented | None:
    """A token of ours, of either kind; None: unknown, damaged or expired."""
    try:
        caller = issuer.authority.verify(token)
    except InvalidToken:
        return _refresh(issuer, token)
    claims = _claims(token)
    return Presented("access_token", caller.client or "", claims, str(claims["jti"]))


def _has_token(request: FormRequest) -> None:
    """Raises InvalidRequestError. A hint that means nothing does not matter (RFC 7009 2.2.1)."""
    if "token" not in request.form:
        raise InvalidRequestError("token is missing")


class Revocation(RevocationEndpoint):  # type: ignore[misc]
    """RFC 7009: an access token ends alone, a refresh token with its whole family."""

    CLIENT_AUTH_METHODS = ANY_METHOD

    def check_params(self, request: FormRequest, client: object) -> None:
        """There is a token."""
        del client
        _has_token(request)

    def query_token(self, token: str, hint: str | None) -> Presented | None:
        """The token, whatever the hint says."""
        del hint
        return find(self.server.issuer, token)

    def revoke_token(self, token: Presented, request: FormRequest) -> None:
        """End it, at once."""
        del request
        issuer: Issuer = self.server.issuer
        if token.kind == "refresh_token":
            issuer.end(token.id)
        else:
            issuer.end_token(token.id, token.claims["exp"])


class Introspection(IntrospectionEndpoint):  # type: ignore[misc]
    """RFC 7662 as SMART has it: for the client itself, and for machines of the site."""

    CLIENT_AUTH_METHODS = AUTH_METHODS

    def check_params(self, request: FormRequest, client: object) -> None:
        """There is a token."""
        del client
        _has_token(request)

    def authenticate_endpoint_client(self, request: FormRequest) -> Caller | KnownClient:
        """Who asks: a client that proves itself, or the bearer of an access token."""
        told = request.headers.get("Authorization", "")
        if told[: len(_BEARER)].lower() != _BEARER:
            client: KnownClient = super().authenticate_endpoint_client(request)
            return client
        issuer: Issuer = self.server.issuer
        try:
            return issuer.authority.verify(told[len(_BEARER) :].strip())
        except InvalidToken as error:
            raise InvalidClientError(
                description="the bearer token is not valid", status_code=401
            ) from error

    def query_token(self, token: str, hint: str | None) -> Presented | None:
        """The token, whatever the hint says."""
        del hint
        return find(self.server.issuer, token)

    def check_permission(
        self, token: Presented, client: Caller | KnownClient, request: FormRequest
    ) -> bool:
        """Whether it is the asker's own token, or the asker a machine of the site."""
        del request
        if isinstance(client, Caller):
            contexts = {grant.context for grant in client.scopes.grants}
            return contexts == {"system"} or (
                client.client is not None and client.client == token.client_id
            )
        return client.registered.backend or token.check_client(client)

    def introspect_token(self, token: Presented) -> dict[str, Any]:
        """What the token says, and who the user is if the app may know."""
        claims = token.claims
        kept = ["scope", "client_id", "exp", "iat", "patient", "encounter", "intent", "fhirContext"]
        kept += ["aud", "jti"]
        if "openid" in str(claims.get("scope", "")).split() or token.kind == "refresh_token":
            kept += ["iss", "sub", "fhirUser"]
        found = {name: claims[name] for name in kept if claims.get(name) is not None}
        if "fhirUser" in found:
            issuer: Issuer = self.server.issuer
            found["fhirUser"] = f"{issuer.config.fhir_url}/{found['fhirUser']}"
        return {"active": True, "token_type": "Bearer", **found}


def _refresh(issuer: Issuer, token: str) -> Presented | None:
    found = issuer.approvals.look_at_refresh(token)
    if found is None:
        return None
    approval = found.approval
    claims: dict[str, Any] = {
        **approval.context.claims(),
        "scope": approval.scope,
        "client_id": approval.client_id,
        "exp": int(found.expires_at.timestamp()),
        "iat": int(found.issued_at.timestamp()),
    }
    if approval.has("openid"):
        claims |= {"iss": issuer.config.base_url, "sub": approval.username}
        claims["fhirUser"] = approval.fhir_user
    return Presented("refresh_token", approval.client_id, claims, approval.sid, found.is_live)


def _claims(token: str) -> dict[str, Any]:
    """The claims of a token that was verified."""
    payload = token.split(".")[1]
    found = orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return dict(found)
