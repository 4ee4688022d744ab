"""User identity negotiation (PS3.7 D.3.3.7): who, beside the machine, asks for an association."""

from __future__ import annotations

from dataclasses import dataclass

from access import Caller, InvalidToken, TokenAuthority
from access.users import LoginRefused, TooManyAttempts, UserError, Users
from dimse.peers import Right

USERNAME, PASSCODE, KERBEROS, SAML, JWT = 1, 2, 3, 4, 5
_NAMES = {KERBEROS: "a Kerberos ticket", SAML: "a SAML assertion"}
_LONGEST_FIELD = 16_384

# The scope that opens each right: resource type and SMART interaction.
_SCOPE_OF: dict[Right, tuple[str, str]] = {
    "store": ("ImagingStudy", "c"),
    "query": ("ImagingStudy", "s"),
    "retrieve": ("ImagingStudy", "r"),
    "worklist": ("ServiceRequest", "s"),
}


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


class IdentityRefused(Exception):
    """The identity is not one of ours, or not proved; the text is for the audit."""


class Identities:
    """Checks identities against the users and the tokens of this installation."""

    def __init__(self, users: Users | None, authority: TokenAuthority | None) -> None:
        self._users = users
        self._authority = authority

    def caller(self, identity: UserIdentity, address: str, calling_ae: str) -> Caller:
        """The person or program that the identity stands for.

        A passcode takes about a tenth of a second: not for an accept loop.

        Raises:
            IdentityRefused: unknown, wrong, or of a kind that we do not take.
        """
        if max(len(identity.primary), len(identity.secondary)) > _LONGEST_FIELD:
            raise IdentityRefused("the identity is too long")
        if identity.kind == JWT:
            return self._by_token(identity.primary, address)
        if identity.kind in (USERNAME, PASSCODE):
            return self._by_name(identity, address, calling_ae)
        what = _NAMES.get(identity.kind, f"an identity of type {identity.kind}")
        raise IdentityRefused(f"{what} is not taken; username, passcode or JWT are")

    def _by_token(self, token: bytes, address: str) -> Caller:
        if self._authority is None:
            raise IdentityRefused("tokens are not taken here")
        try:
            return self._authority.verify(token.decode("ascii").strip("\0 "), address=address)
        except (InvalidToken, UnicodeDecodeError) as error:
            raise IdentityRefused("the token is not valid") from error

    def _by_name(self, identity: UserIdentity, address: str, calling_ae: str) -> Caller:
        if self._users is None:
            raise IdentityRefused("there are no users here")
        try:
            name = identity.primary.decode()
            if identity.kind == PASSCODE:
                user = self._users.authenticate(name, identity.secondary.decode())
            else:
                user = self._users.find(name)
        except UnicodeDecodeError as error:
            raise IdentityRefused("username or passcode is not UTF-8") from error
        except (LoginRefused, TooManyAttempts, UserError) as error:
            why = "too many attempts" if isinstance(error, TooManyAttempts) else "wrong"
            raise IdentityRefused(f"username or passcode: {why}") from error
        if user.disabled:
            raise IdentityRefused("username or passcode: wrong")
        return user.caller(address=address, client=calling_ae)


def is_proved(identity: UserIdentity) -> bool:
    """Whether an identity that was not refused proves anything: a bare username does not."""
    return identity.kind in (PASSCODE, JWT)


def rights_of(caller: Caller) -> frozenset[Right]:
    """The rights that a user's scopes open.

    What is held to one patient or to some codes opens none: DIMSE cannot be narrowed so.
    """
    return frozenset(
        right
        for right, (resource, interaction) in _SCOPE_OF.items()
        if caller.may_on_all(resource, interaction)  # type: ignore[arg-type]
    )
