"""User identity negotiation (PS3.7 D.3.3.7): who, beside the machine, asks for an association."""

from __future__ import annotations

from dataclasses import dataclass

USERNAME, PASSCODE, KERBEROS, SAML, JWT = 1, 2, 3, 4, 5


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """The identity item of an A-ASSOCIATE-RQ.

    Attributes:
        kind: 1 username, 2 username and passcode, 3 Kerberos, 4 SAML, 5 JSON Web Token.
        primary: Username, ticket, assertion or token.
        secondary: The passcode of kind 2, else empty.
        response_requested: Whether the A-ASSOCIATE-AC must confirm it.
    """

    kind: int
    primary: bytes
    secondary: bytes
    response_requested: bool
