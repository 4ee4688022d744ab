"""From an HTTP request to its caller (RFC 6750: bearer token in the Authorization header only)."""

from __future__ import annotations

import re
from typing import Protocol

from starlette.requests import Request

from access.caller import Caller
from access.errors import Forbidden, InvalidToken, Unauthorized
from access.tokens import TokenAuthority

__all__ = ["Forbidden", "OwnTokens", "Unauthorized", "Verifier", "address_of", "caller_of"]

_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9\-._~+/]+=*)\Z", re.ASCII)


class Verifier(Protocol):
    """Tells whom a token speaks for; it may have to ask another server."""

    async def verify(self, token: str, address: str | None) -> Caller:
        """The caller. Raises InvalidToken."""


class OwnTokens:
    """Verifies the tokens that this installation signs."""

    def __init__(self, authority: TokenAuthority) -> None:
        self._authority = authority

    async def verify(self, token: str, address: str | None) -> Caller:
        """The caller. Raises InvalidToken."""
        return self._authority.verify(token, address=address)


def address_of(request: Request) -> str | None:
    """Network address of the peer, as the server sees it (no forwarded headers)."""
    return request.client.host if request.client else None


async def caller_of(request: Request, verifier: Verifier) -> Caller:
    """The caller behind a request.

    A token in the query or the body is never looked at: URLs end up in logs.

    Raises:
        Unauthorized: no bearer token, several of them, or one that is not valid.
    """
    values = request.headers.getlist("authorization")
    if not values:
        raise Unauthorized("a bearer token is required")
    match = _BEARER.match(values[0]) if len(values) == 1 else None
    if match is None:
        raise Unauthorized("one Authorization header with a bearer token", error="invalid_request")
    try:
        return await verifier.verify(match[1], address_of(request))
    except InvalidToken as error:
        raise Unauthorized("the token is not valid", error="invalid_token") from error
