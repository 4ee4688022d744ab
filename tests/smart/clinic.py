"""A running stack with people, patients and apps; and a browser's worth of HTTP for a user."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import secrets
from dataclasses import dataclass, replace
from html import unescape
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx

from access import AuditRecord, SpoolReader
from access.users import User, UserError, Users
from authorization.clients import CODE, REFRESH, Client, Clients
from hilum.commands.console import database_of
from tests.fixtures.running import Running

PASSWORD = "correct horse battery"
SYSTEM = "https://clinic.example.org/patient-ids"
BACK = "https://app.example.org/back"
SCOPES = (
    "launch launch/patient launch/encounter launch/imagingstudy openid fhirUser profile"
    " online_access offline_access patient/*.rs user/*.rs patient/Observation.cruds"
)
APP = Client(
    client_id="clinic-app",
    name="Growth chart",
    kind="public",
    scopes=SCOPES,
    redirect_uris=(BACK,),
    launch_url="https://app.example.org/launch",
    grant_types=(CODE, REFRESH),
    origins=("https://app.example.org",),
)


@dataclass
class Clinic:
    """The stack and who and what is in it; `patients` by family name."""

    stack: Running
    patients: dict[str, str]
    encounter: str
    study: dict[str, Any]

    @property
    def base(self) -> str:
        return self.stack.base

    @property
    def dsn(self) -> str:
        return database_of(self.stack.folder / "var")

    @property
    def users(self) -> Users:
        return Users(self.dsn)

    @property
    def clients(self) -> Clients:
        return Clients(self.dsn)

    def add_user(self, user: User) -> User:
        with contextlib.suppress(UserError):
            self.users.add(user, PASSWORD)
        return user

    def register(self, client: Client = APP, **changes: Any) -> Client:
        """Register it anew, so that nobody has consented to it yet."""
        client = replace(client, **changes)
        if self.clients.find(client.client_id) is not None:
            self.clients.remove(client.client_id)
        self.clients.add(client)
        return client

    def trail(self) -> list[AuditRecord]:
        """Everything in the audit trail, in the order of time, shipped or not."""
        # Under a name of its own: the shipper acknowledges what it has read.
        reader = SpoolReader(self.stack.folder / "var" / "audit", "read-by-tests")
        records = [one.record for one in reader.next_batch(1_000_000).records]
        return sorted(records, key=lambda one: one.at)

    def person(self, username: str) -> Person:
        """A browser in which this user is signed in."""
        person = Person(self.base)
        person.sign_in(username)
        return person


class Person:
    """A browser without scripts: it keeps cookies, fills in forms and follows links."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.http = httpx.Client(
            base_url=base, headers={"Origin": base}, timeout=60, trust_env=False
        )
        self.verifier = secrets.token_urlsafe(48)
        self.page: httpx.Response | None = None

    def sign_in(self, username: str, password: str = PASSWORD) -> httpx.Response:
        nonce = field(self.http.get("/login", params={"again": "1"}).text, "form")
        return self.http.post(
            "/login",
            data={"form": nonce, "next": "/", "username": username, "password": password},
        )

    def ask(self, client: Client, scope: str, **more: str) -> httpx.Response:
        """Open an app's authorization request; the page that comes, whatever redirects."""
        challenge = hashlib.sha256(self.verifier.encode()).digest()
        parameters = {
            "response_type": "code",
            "client_id": client.client_id,
            "redirect_uri": client.redirect_uris[0],
            "scope": scope,
            "state": "s t/ä",
            "aud": f"{self.base}/fhir",
            "code_challenge": base64.urlsafe_b64encode(challenge).decode().rstrip("="),
            "code_challenge_method": "S256",
            **more,
        }
        return self.follow(self.http.get("/auth/authorize", params=parameters))

    def follow(self, answer: httpx.Response) -> httpx.Response:
        """Go where we send the browser, as long as it is here."""
        while answer.is_redirect and answer.headers["location"].startswith(("/", self.base)):
            answer = self.http.get(answer.headers["location"])
        self.page = answer
        return answer

    def send(self, do: str, **fields: Any) -> httpx.Response:
        """Fill in the page's form for one action."""
        assert self.page is not None
        here = urlsplit(str(self.page.url)).path
        data = {"csrf": field(self.page.text, "csrf"), "do": do, **fields}
        return self.follow(self.http.post(here, data=data))

    def answered(self) -> dict[str, str]:
        """What the app was told: by a redirect, or by the page that goes on by itself."""
        assert self.page is not None
        found = re.search(r'content="0;url=([^"]+)"', self.page.text)
        location = self.page.headers.get("location") or (unescape(found[1]) if found else "")
        assert location, f"{self.page.status_code} {self.page.text}"
        return dict(parse_qsl(urlsplit(location).query))

    def tokens(self, client: Client) -> dict[str, Any]:
        """Redeem the code that the app was told."""
        answered = self.answered()
        assert "code" in answered, answered
        answer = self.http.post(
            "/auth/token",
            data={
                "grant_type": "authorization_code",
                "code": answered["code"],
                "redirect_uri": client.redirect_uris[0],
                "client_id": client.client_id,
                "code_verifier": self.verifier,
            },
        )
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


def field(page: str, name: str) -> str:
    """The value of a hidden field."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found, f"no field {name} in {page}"
    return unescape(found[1])


def rows(page: str) -> dict[str, str]:
    """The rows of a picker: value by title."""
    pairs = re.findall(r'name="value" value="([^"]+)" class="row"><strong>([^<]*)</strong>', page)
    return {unescape(title): value for value, title in pairs}


def ticked(page: str) -> list[str]:
    """The scopes that a consent page shows."""
    return [unescape(one) for one in re.findall(r'name="scope" value="([^"]+)"', page)]


def told(page: str) -> str:
    """The text of a page, without its tags."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())
