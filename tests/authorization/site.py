"""A site with the authorization server and the DICOMweb door on one port, and the apps on it.

Real PostgreSQL, real uvicorn, real HTTP. People are played by the calls that the pages make.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import uvicorn
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils
from joserfc.jwk import ECKey, KeySet, RSAKey
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.routing import Mount

from access import SpoolReader
from access.audit import AuditSpool
from access.browser import Cookie, WithSession
from access.http import OwnTokens, caller_of
from access.revocation import Revocations
from access.sessions import Sessions
from access.tokens import TokenAuthority
from access.users import User, Users
from archive import Archive, ArchiveConfig
from authorization import app as authorization_app
from authorization import discovery
from authorization.clients import CODE, CREDENTIALS, REFRESH, Client
from authorization.config import AuthorizationConfig
from authorization.context import LaunchContext
from authorization.cors import Origins, RegisteredOrigins
from authorization.ending import Endings
from dicomweb.app import create_app
from tests.fixtures.stores import free_port
from ui import login

PASSWORD = "correct horse battery"
ANNA = User("anna", "Dr Anna Muster", "radiologist", "Practitioner/anna")
VIEW = User("view", "", "viewer")
BACK = "https://app.example.org/back"
WIDE = (
    "openid fhirUser profile launch launch/patient launch/encounter launch/imagingstudy"
    " online_access offline_access patient/*.cruds user/*.cruds patient/*.* user/*.*"
)
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
NOON = datetime(2024, 5, 6, 12, tzinfo=UTC)  # people have signed in then, unless said otherwise
_REFRESHING = (CODE, REFRESH)


def public_app(client_id: str = "public-app", **changes: Any) -> Client:
    base = Client(
        client_id=client_id,
        name="An app",
        kind="public",
        scopes=WIDE,
        redirect_uris=(BACK,),
        grant_types=_REFRESHING,
        origins=("https://app.example.org",),
    )
    return replace(base, **changes)


def rsa_key(kid: str = "rsa") -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": kid})


def ec_key(kid: str = "ec") -> ECKey:
    return ECKey.generate_key("P-384", {"kid": kid})


def public_set(*keys: Any) -> dict[str, Any]:
    return KeySet(list(keys)).as_dict(private=False)


def signed(key: Any, claims: dict[str, Any], alg: str, **header: Any) -> str:
    """A JWT with exactly these claims and headers, whatever is wrong about them."""
    named = {"alg": alg, "typ": "JWT", "kid": key.kid, **header}
    head = {name: value for name, value in named.items() if value is not None}
    text = b".".join(_base64(json.dumps(part).encode()) for part in (head, claims))
    digest = getattr(hashes, f"SHA{alg[2:]}")()
    private = key.private_key
    if alg.startswith("ES"):
        size = (private.curve.key_size + 7) // 8
        pair = utils.decode_dss_signature(private.sign(text, ec.ECDSA(digest)))
        signature = b"".join(number.to_bytes(size) for number in pair)
    elif alg.startswith("PS"):
        filling = padding.PSS(padding.MGF1(digest), digest.digest_size)
        signature = private.sign(text, filling, digest)
    else:
        signature = private.sign(text, padding.PKCS1v15(), digest)
    return (text + b"." + _base64(signature)).decode()


def _base64(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


@dataclass
class Asked:
    """An authorization request that was sent, and what was answered."""

    answer: httpx.Response
    verifier: str
    state: str
    redirect_uri: str

    @property
    def location(self) -> str:
        return self.answer.headers["location"]

    @property
    def error(self) -> str | None:
        """The error that goes back to the app; None if a person is asked."""
        return dict(parse_qsl(urlsplit(self.location).query)).get("error")

    @property
    def request_id(self) -> str:
        assert "/auth/steps/" in self.location, self.location
        return self.location.rpartition("/")[2]


@dataclass
class Site:
    """The running site."""

    base: str
    server: authorization_app.AuthorizationServer
    authority: TokenAuthority
    sessions: Sessions
    users: Users
    audit_folder: Path
    http: httpx.Client = field(repr=False)

    @property
    def token_url(self) -> str:
        return f"{self.base}/auth/token"

    def register(self, client: Client) -> str | None:
        """Register it anew; its secret if it has one."""
        if self.server.clients.find(client.client_id) is not None:
            self.server.clients.remove(client.client_id)
        return self.server.clients.add(client)

    def ask(self, client: Client, scope: str = "user/*.rs", post: bool = False, **changes) -> Asked:
        """Send an authorization request as the app's page would; None leaves a parameter out."""
        verifier, state = secrets.token_urlsafe(48), changes.pop("state", secrets.token_urlsafe(8))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
        asked = {
            "response_type": "code",
            "client_id": client.client_id,
            "redirect_uri": client.redirect_uris[0],
            "scope": scope,
            "state": state,
            "aud": f"{self.base}/fhir",
            "code_challenge": challenge.decode().rstrip("="),
            "code_challenge_method": "S256",
            **changes,
        }
        found = {name: value for name, value in asked.items() if value is not None}
        url = f"{self.base}/auth/authorize"
        self.http.cookies.clear()
        sent = {"data" if post else "params": found}
        answer = self.http.request("POST" if post else "GET", url, **sent)
        return Asked(answer, verifier, state, str(found.get("redirect_uri")))

    def agree(
        self,
        asked: Asked,
        user: User = ANNA,
        granted: str | None = None,
        context: LaunchContext | None = None,
        session: str | None = None,
        signed_in: datetime | None = NOON,
    ) -> dict[str, str]:
        """The person agrees; what the app finds in the query of its redirect URI."""
        requests = self.server.requests
        request = requests.find(asked.request_id, browser_of(asked.answer))
        location = requests.approve(
            asked.request_id,
            user,
            request.scope if granted is None else granted,
            context or LaunchContext(),
            session=session,
            signed_in=signed_in,
        )
        assert location.startswith(asked.redirect_uri)
        return dict(parse_qsl(urlsplit(location).query, keep_blank_values=True))

    def code(self, client: Client, scope: str = "user/*.rs", **answers: Any) -> tuple[Asked, str]:
        asked = self.ask(client, scope)
        return asked, self.agree(asked, **answers)["code"]

    def redeem(self, client: Client, asked: Asked, code: str, **changes: Any) -> httpx.Response:
        """Send the code to the token endpoint; None leaves a field out."""
        fields = {
            "grant_type": CODE,
            "code": code,
            "redirect_uri": asked.redirect_uri,
            "code_verifier": asked.verifier,
            "client_id": client.client_id,
            **changes,
        }
        return self.post("token", **fields)

    def tokens(self, client: Client, scope: str = "user/*.rs", **answers: Any) -> dict[str, Any]:
        """A whole authorization of a public client; its token response."""
        answer = self.redeem(client, *self.code(client, scope, **answers))
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def refresh(self, client: Client, token: str, **changes: Any) -> httpx.Response:
        return self.post(
            "token",
            grant_type=REFRESH,
            refresh_token=token,
            client_id=client.client_id,
            **changes,
        )

    def post(self, endpoint: str, auth: Any = None, headers: Any = None, **fields: Any):
        """Post a form below /auth."""
        sent = {name: value for name, value in fields.items() if value is not None}
        return self.http.post(
            f"{self.base}/auth/{endpoint}", data=sent, auth=auth, headers=headers or {}
        )

    def assertion(self, client_id: str, key: Any, alg: str | None = None, **changes: Any) -> str:
        """A client assertion; None leaves a claim out; `header` changes the header."""
        header = changes.pop("header", {})
        claims = {
            "iss": client_id,
            "sub": client_id,
            "aud": self.token_url,
            "exp": int(time.time()) + 120,
            "jti": secrets.token_urlsafe(12),
            **changes,
        }
        return signed(
            key,
            {name: value for name, value in claims.items() if value is not None},
            alg or ("RS384" if isinstance(key, RSAKey) else "ES384"),
            **header,
        )

    def backend(self, assertion: str, scope: str = "system/*.rs", **changes: Any):
        """Ask for a backend's token."""
        return self.post(
            "token",
            grant_type=CREDENTIALS,
            scope=scope,
            client_assertion_type=changes.pop("client_assertion_type", ASSERTION_TYPE),
            client_assertion=assertion,
            **changes,
        )

    def studies(self, token: str) -> httpx.Response:
        """Show an access token at the DICOMweb door."""
        return self.http.get(
            f"{self.base}/dicomweb/studies", headers={"Authorization": f"Bearer {token}"}
        )

    def audits(self) -> list[Any]:
        return [one.record for one in SpoolReader(self.audit_folder).next_batch(100_000).records]


def browser_of(answer: httpx.Response) -> HTTPConnection:
    """The browser that was just given a cookie, as it comes back with it."""
    cookie = answer.headers["set-cookie"].partition(";")[0]
    return HTTPConnection({"type": "http", "headers": [(b"cookie", cookie.encode())]})


def claims_of(token: str) -> dict[str, Any]:
    """The claims of a JWT, unverified."""
    payload = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))


@contextlib.contextmanager
def running_site(dsn: str, folder: Path, **lifetimes: Any) -> Iterator[Site]:
    """The site on a free port; keyword arguments go to the configuration."""
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    config = AuthorizationConfig(dsn=dsn, base_url=base, keys=folder / "keys", **lifetimes)
    with contextlib.ExitStack() as stack:
        archive = stack.enter_context(Archive.open(ArchiveConfig(folder / "archive", dsn)))
        revocations = Revocations(dsn)
        stack.callback(revocations.close)
        authority = TokenAuthority.load_or_create(
            folder / "keys", issuer=base, audience=config.fhir_url, revocations=revocations
        )
        audit = AuditSpool(folder / "audit", "web")
        stack.callback(audit.close)
        endings = Endings(dsn, revocations)
        users = Users(dsn, endings.of_user)
        sessions = Sessions(dsn, ending=endings.of_session)
        stack.callback(sessions.shut)
        for user in (ANNA, VIEW):
            with contextlib.suppress(Exception):
                users.add(user, PASSWORD)
        cookie = Cookie(base)
        server = authorization_app.create_server(config, authority, users, sessions, cookie, audit)
        stack.callback(server.pool.close)
        pixels = create_app(archive, lambda r: caller_of(r, OwnTokens(authority)), audit)
        app = Starlette(
            routes=[
                *discovery.routes(config),
                Mount("/auth", authorization_app.create_app(server)),
                Mount("/dicomweb", pixels),
                *login.make(users, sessions, cookie, audit).routes(),
            ],
            lifespan=pixels.router.lifespan_context,
        )
        app.add_middleware(RegisteredOrigins, origins=Origins(server.clients))
        app.add_middleware(WithSession, sessions=sessions, cookie=cookie)
        stack.enter_context(_serving(app, port))
        http = stack.enter_context(httpx.Client(timeout=30, trust_env=False))
        yield Site(base, server, authority, sessions, users, folder / "audit", http)


@contextlib.contextmanager
def _serving(app: Starlette, port: int) -> Iterator[None]:
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not running.started and time.monotonic() < deadline:
        time.sleep(0.01)
    assert running.started
    yield
    running.should_exit = True
    thread.join(20)
