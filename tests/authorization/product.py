"""The authorization server of the whole running product, with the tables at hand."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx

from access.browser import Cookie
from access.tokens import TokenAuthority
from access.users import User
from authorization.clients import Client, Clients
from authorization.context import LaunchContext
from authorization.requests import Requests
from hilum.processes.postgres import Postgres
from tests.fixtures.running import Running

ANNA = User("anna", "Dr Anna Muster", "radiologist", "Practitioner/anna")


@dataclass
class Product:
    """The running stack, its clients, and a person who agrees to everything."""

    stack: Running
    clients: Clients
    requests: Requests
    authority: TokenAuthority
    http: httpx.Client

    @classmethod
    def of(cls, stack: Running, http: httpx.Client) -> Product:
        data = stack.folder / "var"
        dsn = Postgres(data / "postgres", stack.addresses["database_port"]).dsn("hilum")
        base = stack.base
        authority = TokenAuthority.load_or_create(
            data / "keys", issuer=base, audience=f"{base}/fhir"
        )
        return cls(stack, Clients(dsn), Requests(dsn, Cookie(base)), authority, http)

    @property
    def log(self) -> str:
        """Everything that the processes have logged."""
        files = [self.stack.folder / "up.log", *(self.stack.folder / "var" / "log").glob("*")]
        return "\n".join(path.read_text(errors="replace") for path in files if path.is_file())

    @property
    def trail(self) -> str:
        """The audit spool, as it lies on the disk."""
        folder: Path = self.stack.folder / "var" / "audit"
        return "\n".join(
            path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file()
        )

    def register(self, client: Client) -> str | None:
        if self.clients.find(client.client_id) is not None:
            self.clients.remove(client.client_id)
        return self.clients.add(client)

    def tokens(
        self, client: Client, scope: str, context: LaunchContext | None = None
    ) -> tuple[dict[str, Any], str]:
        """A whole authorization of a public client; its token response and its code."""
        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
        asked = self.http.get(
            "/auth/authorize",
            params={
                "response_type": "code",
                "client_id": client.client_id,
                "redirect_uri": client.redirect_uris[0],
                "scope": scope,
                "state": "s",
                "aud": f"{self.stack.base}/fhir",
                "code_challenge": challenge.decode().rstrip("="),
                "code_challenge_method": "S256",
            },
        )
        request_id = asked.headers["location"].rpartition("/")[2]
        back = self.requests.approve(request_id, ANNA, scope, context or LaunchContext())
        code = dict(parse_qsl(urlsplit(back).query))["code"]
        answer = self.http.post(
            "/auth/token",
            data={
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": client.redirect_uris[0],
                "code_verifier": verifier,
                "client_id": client.client_id,
            },
        )
        assert answer.status_code == 200, answer.text
        return answer.json(), code
