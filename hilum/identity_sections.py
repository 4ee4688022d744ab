"""The tables of the settings file about other servers whose word counts: logins and tokens."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from access.roles import Role
from authorization.clients import is_web
from hilum.sections import Section


def _safe(url: str) -> str:
    """The URL, if nobody between us and its host can read or change what is said there."""
    if not is_web(url):
        raise ValueError(
            "secrets and identities travel there, so it must be an https:// URL of the server "
            "(http:// is for this machine only); put TLS in front of it and name that address"
        )
    return url


Url = Annotated[str, AfterValidator(_safe)]


class Federation(Section):
    """An OpenID Connect provider at which people may sign in."""

    issuer: Url | None = Field(
        None, description="Issuer URL of the provider. Default: people sign in here only."
    )
    client_id: str = Field("hilum", description="We, as registered there.")
    client_secret: SecretStr = Field(SecretStr(""), description="Our secret there.")
    label: str = Field("single sign-on", description="What the link on the login page says.")
    scope: str = Field("openid profile", description="Scopes that we ask for.")
    username_claim: str = Field(
        "preferred_username", description="Claim that names the user here, at the first sign-in."
    )
    name_claim: str = Field("name", description="Claim with the name as it is shown.")
    role_claim: str = Field("groups", description="Claim with the groups of a user.")
    roles: dict[str, Role] = Field(
        default_factory=dict,
        description="Role by group; the first that fits counts, and nobody comes in without one; "
        "in the environment as JSON.",
    )
    fhir_user_claim: str | None = Field(
        None, description="Claim with who the user is in FHIR, such as Practitioner/17."
    )


class External(Section):
    """An EHR whose access tokens are accepted ([[external]])."""

    issuer: str = Field(description="Issuer, as its tokens name it.")
    introspection_url: Url = Field(description="Its RFC 7662 endpoint.")
    token_url: Url = Field(description="Its token endpoint, for our own credentials.")
    fhir_url: Url = Field(description="Base of its FHIR server.")
    client_id: str = Field(description="We, as registered there.")
    client_secret: SecretStr = Field(description="Our secret there.")
    systems: dict[str, str] = Field(
        default_factory=dict,
        description="Our identifier system by theirs: how its patients are found here.",
    )
    audiences: tuple[str, ...] = Field(
        (), description="FHIR bases of which its tokens must name one as aud."
    )
    opaque: bool = Field(
        False,
        description="Whether tokens that say nothing of their issuer are taken to be its.",
    )

    @property
    def name(self) -> str:
        """What `hilum settings` shows of it."""
        return self.issuer


def _distinct(listed: tuple[External, ...]) -> tuple[External, ...]:
    """The EHRs, if it is clear whom a token is of."""
    issuers = [one.issuer for one in listed]
    twice = sorted({one for one in issuers if issuers.count(one) > 1})
    if twice:
        raise ValueError(
            f"{', '.join(twice)}: an issuer has one [[external]] table; make one of them, with "
            "all its systems and audiences"
        )
    if sum(one.opaque for one in listed) > 1:
        raise ValueError("one [[external]] table at most may have opaque = true")
    return listed


Externals = Annotated[tuple[External, ...], AfterValidator(_distinct)]
