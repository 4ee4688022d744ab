"""What can go wrong at the guard: one root, one case per cause, never a token in a text."""

from __future__ import annotations


class AccessError(Exception):
    """Root of what the guard refuses."""


class InvalidToken(AccessError):
    """The token is not one of ours, not for us, not valid now, or damaged."""


class Unauthorized(AccessError):
    """No usable credential came with the request (HTTP 401).

    Attributes:
        challenge: value for the WWW-Authenticate header (RFC 6750 section 3).
    """

    status = 401

    def __init__(self, message: str, *, error: str | None = None) -> None:
        super().__init__(message)
        self.challenge = 'Bearer realm="hilum"' + (f', error="{error}"' if error else "")


class Undecided(AccessError):
    """Whether the caller may do this cannot be found out now (HTTP 503)."""

    status = 503


class Forbidden(AccessError):
    """The caller is known and may not do this (HTTP 403)."""

    status = 403
