"""What can go wrong in the authorization server: one root, a case per cause, never a secret."""

from __future__ import annotations


class AuthorizationError(Exception):
    """Root of what the authorization server refuses."""


class ClientError(AuthorizationError):
    """A client cannot be registered or changed so; the text says why."""


class RequestGone(AuthorizationError):
    """There is no such open request in this browser: unknown, answered, or too old."""

    def __init__(self) -> None:
        super().__init__("this sign-in was open for too long, or was answered already")


class NotGrantable(AuthorizationError):
    """The answer would grant more than was asked, or misses what a scope needs."""


class ContextError(AuthorizationError):
    """A launch context breaks a rule of SMART App Launch; the text says which."""
