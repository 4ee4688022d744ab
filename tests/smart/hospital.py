"""A hospital beside us, as a process of its own: OpenID provider, introspection, FHIR patients.

`python -m tests.smart.hospital PORT`. Nobody types a password: whoever comes is signed in with
the claims that were set at `/control`, where a test also says what is to be wrong. Its key, a PEM
in HOSPITAL_KEY, is the same after a restart.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from typing import Any

import uvicorn
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from starlette.applications import Starlette
from starlette.authentication import AuthenticationError
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.fixtures.running import HOSPITAL_SECRET

CLIENT, SECRET = "hilum", HOSPITAL_SECRET


class Hospital:
    """What it knows. `wrong` names one defect of the next answers."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.key = RSAKey.import_key(os.environ["HOSPITAL_KEY"], {"kid": "hospital-1"})
        self.claims: dict[str, Any] = {}
        self.wrong = ""
        self.codes: dict[str, dict[str, str]] = {}
        self.tokens: dict[str, dict[str, Any]] = {}
        self.patients: dict[str, dict[str, Any]] = {}
        self.own: set[str] = set()
        self.asked: dict[str, int] = {}
        self.slow_s = 0.0  # of each introspection
        self.busy = 0  # with introspections
        self.busiest = 0
        self.seen_at: float | None = None  # when whoever comes has signed in here
        self.ended: list[dict[str, str]] = []  # sign-outs that were asked for

    def routes(self) -> list[Route]:
        return [
            Route("/control", self.control, methods=["GET", "POST"]),
            Route("/.well-known/openid-configuration", self.discovery),
            Route("/authorize", self.authorize),
            Route("/token", self.token, methods=["POST"]),
            Route("/jwks", self.jwks),
            Route("/end", self.end),
            Route("/introspect", self.introspect, methods=["POST"]),
            Route("/fhir/Patient/{patient}", self.patient),
        ]

    async def control(self, request: Request) -> Response:
        if request.method == "POST":
            for name, value in (await request.json()).items():
                setattr(self, name, value)
        return JSONResponse({"asked": self.asked, "busiest": self.busiest, "ended": self.ended})

    async def discovery(self, _: Request) -> Response:
        issuer = "https://other.example" if self.wrong == "metadata" else self.base
        found = {
            "issuer": issuer,
            "authorization_endpoint": f"{self.base}/authorize",
            "token_endpoint": f"{self.base}/token",
            "jwks_uri": f"{self.base}/jwks",
            "end_session_endpoint": f"{self.base}/end",
        }
        if self.wrong == "no end":
            del found["end_session_endpoint"]
        if self.wrong == "plain":
            found["token_endpoint"] = "http://hospital.example/token"
        return JSONResponse(found)

    async def jwks(self, _: Request) -> Response:
        return JSONResponse(KeySet([self.key]).as_dict(private=False))

    async def end(self, request: Request) -> Response:
        asked = dict(request.query_params)
        self.ended.append(asked)
        back = f"{asked['post_logout_redirect_uri']}?state={asked['state']}"
        return RedirectResponse(back, status_code=302)

    async def authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        age = time.time() - (self.seen_at or 0)
        if self.wrong != "lazy" and ("prompt" in asked or age > int(asked.get("max_age", 10**9))):
            self.seen_at = time.time()
        assert asked["response_type"] == "code" and asked["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        answer = f"code={code}&state={asked['state']}"
        if self.wrong == "refused":
            answer = f"error=access_denied&state={asked['state']}"
        if self.wrong == "state":
            answer = f"code={code}&state=another"
        return RedirectResponse(f"{asked['redirect_uri']}?{answer}", status_code=302)

    async def token(self, request: Request) -> Response:
        form = await self._form(request)
        if form["grant_type"] == "client_credentials":
            token = secrets.token_urlsafe(16)
            self.own.add(token)
            return JSONResponse({"access_token": token, "token_type": "Bearer", "expires_in": 300})
        asked = self.codes.pop(form["code"])
        if create_s256_code_challenge(form["code_verifier"]) != asked["code_challenge"]:
            return JSONResponse({"error": "invalid_grant"}, status_code=400)
        identity = self._identity(asked)
        return JSONResponse({"access_token": "x", "token_type": "Bearer", "id_token": identity})

    def _identity(self, asked: dict[str, str]) -> str:
        now, wrong = int(time.time()), self.wrong
        claims = {
            "iss": "https://other.example" if wrong == "iss" else self.base,
            "aud": "somebody-else" if wrong == "aud" else CLIENT,
            "nonce": "another" if wrong == "nonce" else asked["nonce"],
            "iat": now,
            "exp": now - 3600 if wrong == "expired" else now + 300,
            **({"auth_time": int(self.seen_at or 0)} if "max_age" in asked else {}),
            **self.claims,
        }
        if wrong == "auth_time":
            claims["auth_time"] = now + 3600
        if wrong == "azp":
            claims |= {"aud": [CLIENT, "other"], "azp": "other"}
        key = RSAKey.generate_key(2048, {"kid": "hospital-1"}) if wrong == "key" else self.key
        token = jwt.encode({"alg": "RS256", "kid": "hospital-1"}, claims, key)
        if wrong == "none":
            head = "eyJhbGciOiJub25lIiwia2lkIjoiaG9zcGl0YWwtMSJ9"
            token = f"{head}.{token.split('.')[1]}."
        return token

    async def introspect(self, request: Request) -> Response:
        form = await self._form(request)
        self._count("introspect")
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        await asyncio.sleep(self.slow_s)
        self.busy -= 1
        return JSONResponse(self.tokens.get(form["token"], {"active": False}))

    async def patient(self, request: Request) -> Response:
        self._count("patient")
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.own:
            return JSONResponse({}, status_code=401)
        found = self.patients.get(request.path_params["patient"])
        return JSONResponse(found or {}, status_code=200 if found else 404)

    def _count(self, what: str) -> None:
        self.asked[what] = self.asked.get(what, 0) + 1

    async def _form(self, request: Request) -> dict[str, str]:
        """The fields of a client that has shown its secret."""
        import base64
        from urllib.parse import parse_qsl

        shown = request.headers.get("authorization", "").removeprefix("Basic ")
        if base64.b64decode(shown).decode() != f"{CLIENT}:{SECRET}":
            raise AuthenticationError
        return dict(parse_qsl((await request.body()).decode()))


async def _unauthorized(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": "invalid_client"}, status_code=401)


def main() -> None:
    port = int(sys.argv[1])
    handlers: Any = {AuthenticationError: _unauthorized}
    app = Starlette(routes=Hospital(port).routes(), exception_handlers=handlers)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
