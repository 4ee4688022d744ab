"""The tables of the settings file about other servers whose word counts: logins and tokens."""

from __future__ import annotations

from pydantic import Field, SecretStr

from access.roles import Role
from hilum.sections import Section


class Federation(Section):
    """An OpenID Connect provider at which people may sign in."""

    issuer: str | None = Field(
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
    introspection_url: str = Field(description="Its RFC 7662 endpoint.")
    token_url: str = Field(description="Its token endpoint, for our own credentials.")
    fhir_url: str = Field(description="Base of its FHIR server.")
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
