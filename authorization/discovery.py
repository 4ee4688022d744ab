"""How apps find us: SMART and OpenID Connect discovery, for anyone from anywhere."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from authorization.client_keys import ALGORITHM_OF
from authorization.clients import GRANT_TYPES
from authorization.config import AuthorizationConfig
from authorization.grants import METHOD
from authorization.identity_keys import ALGORITHM
from authorization.narrowing import PLAIN
from authorization.protocol import AUTH_METHODS, NONE

SMART, OPENID = ".well-known/smart-configuration", ".well-known/openid-configuration"
IMAGING = "http://fhir.org/argonaut/smart-imaging/capabilities/"
# Each is proved by tests: docs/conformance/fhir-smart.md says by which.
CAPABILITIES = (
    "launch-ehr",
    "launch-standalone",
    "authorize-post",
    "client-public",
    "client-confidential-symmetric",
    "client-confidential-asymmetric",
    "sso-openid-connect",
    "context-banner",
    "context-style",
    "context-ehr-patient",
    "context-ehr-encounter",
    "context-standalone-patient",
    "context-standalone-encounter",
    "permission-offline",
    "permission-online",
    "permission-patient",
    "permission-user",
    "permission-v1",
    "permission-v2",
    "smart-imaging-access",
    f"{IMAGING}app-launch",
    f"{IMAGING}backend-services",
)
SCOPES = (
    *sorted(PLAIN),
    "patient/ImagingStudy.rs",
    "user/ImagingStudy.rs",
    "system/ImagingStudy.rs",
    "patient/*.rs",
    "patient/*.cruds",
    "user/*.rs",
    "user/*.cruds",
    "system/*.rs",
    "system/*.cruds",
)
ANYWHERE = {"Access-Control-Allow-Origin": "*", "Cache-Control": "public, max-age=60"}


def smart_configuration(config: AuthorizationConfig) -> dict[str, Any]:
    """The SMART configuration (SMART App Launch 2.2, chapter Conformance)."""
    return {
        "issuer": config.base_url,
        "jwks_uri": config.jwks_url,
        "authorization_endpoint": config.authorize_url,
        "token_endpoint": config.token_url,
        "revocation_endpoint": config.revoke_url,
        "introspection_endpoint": config.introspect_url,
        "management_endpoint": config.manage_url,
        "grant_types_supported": list(GRANT_TYPES),
        "response_types_supported": ["code"],
        "scopes_supported": list(SCOPES),
        "code_challenge_methods_supported": [METHOD],
        "token_endpoint_auth_methods_supported": [NONE, *AUTH_METHODS],
        "token_endpoint_auth_signing_alg_values_supported": sorted(ALGORITHM_OF.values()),
        "capabilities": list(CAPABILITIES),
    }


def openid_configuration(config: AuthorizationConfig) -> dict[str, Any]:
    """The provider metadata of OpenID Connect Discovery 1.0, section 3."""
    shared = smart_configuration(config)
    for name in ("capabilities", "management_endpoint"):
        shared.pop(name)
    return {
        **shared,
        "response_modes_supported": ["query"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [ALGORITHM],
        "claims_supported": ["iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "fhirUser"],
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
    }


def routes(config: AuthorizationConfig) -> list[BaseRoute]:
    """Both documents, below the FHIR base and below the issuer; to stand before other routes."""

    async def smart(_: Request) -> Response:
        return JSONResponse(smart_configuration(config), headers=ANYWHERE)

    async def openid(_: Request) -> Response:
        return JSONResponse(openid_configuration(config), headers=ANYWHERE)

    async def preflight(_: Request) -> Response:
        allowed = {"Access-Control-Allow-Methods": "GET", "Access-Control-Allow-Headers": "*"}
        return Response(status_code=204, headers={**ANYWHERE, **allowed})

    found: list[BaseRoute] = []
    for path in ("/fhir/", "/"):
        for name, endpoint in ((SMART, smart), (OPENID, openid)):
            found.append(Route(f"{path}{name}", endpoint, methods=["GET"]))
            found.append(Route(f"{path}{name}", preflight, methods=["OPTIONS"]))
    return found
