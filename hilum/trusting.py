"""From the settings to the other servers whose word counts: logins and tokens."""

from __future__ import annotations

import httpx

from access.http import OwnTokens, Verifier
from access.tokens import TokenAuthority
from authorization.trust.external import ExternalServer, ExternalTokens
from authorization.trust.provider import FederationConfig
from hilum.settings import Settings


def federation_config(settings: Settings) -> FederationConfig | None:
    """The provider at which people may sign in; None: there is none."""
    part = settings.federation
    if part.issuer is None:
        return None
    return FederationConfig(
        issuer=part.issuer,
        redirect_uri=f"{settings.base_url}/login/federated/back",
        signed_out_uri=f"{settings.base_url}/login/federated/out",
        client_secret=part.client_secret.get_secret_value(),
        **part.model_dump(exclude={"issuer", "client_secret"}),
    )


def verifier(settings: Settings, authority: TokenAuthority, ours: httpx.AsyncClient) -> Verifier:
    """Tells whom tokens speak for: ours, and those of the EHRs that the settings list.

    Args:
        settings: name the EHRs.
        authority: signs ours.
        ours: reaches our own FHIR door, where the EHRs' patients are looked up.
    """
    servers = tuple(
        ExternalServer(
            client_secret=one.client_secret.get_secret_value(),
            **one.model_dump(exclude={"client_secret"}),
        )
        for one in settings.external
    )
    own = OwnTokens(authority)
    return ExternalTokens(own, servers, ours, authority) if servers else own
