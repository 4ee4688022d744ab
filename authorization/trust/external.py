"""Access tokens of an EHR: introspected there (RFC 7662), its patient found here by identifier.

SMART Imaging Access, external mode: the EHR launches the app and issues its token; we ask the
EHR whom the token is for, fetch that Patient with credentials of our own, and serve our data of
the one Patient who has the same identifier. What cannot be found out is refused.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import orjson
import structlog

from access.caller import Caller
from access.errors import InvalidToken, Undecided
from access.http import Verifier
from access.scopes import Scopes
from access.tokens import TokenAuthority
from authorization.context import is_id

log = structlog.get_logger(__name__)

REMEMBER_S = 30.0
_MEMORY = 1_000
# Tokens that are being asked about: at one EHR at a time, and waiting for all of them.
_AT_ONCE = 10
_WAITING = 200
_TIMEOUT_S = 5.0
_OWN_TOKEN_S = 60
_EARLY_S = 30.0


@dataclass(frozen=True, slots=True)
class ExternalServer:
    """An EHR whose tokens we accept.

    Attributes:
        issuer: as its tokens and its introspection name it.
        introspection_url: its RFC 7662 endpoint.
        token_url: where we get a token for its FHIR server (client_credentials).
        fhir_url: base of its FHIR server.
        client_id: we, as registered there.
        client_secret: proves it, at both endpoints.
        systems: our identifier system by theirs; identifiers of other systems do not count.
        audiences: FHIR bases that its tokens may name as `aud`; empty: it need not name any.
        opaque: whether tokens that say nothing of their issuer are taken to be its.
    """

    issuer: str
    introspection_url: str
    token_url: str
    fhir_url: str
    client_id: str
    client_secret: str = field(repr=False)
    systems: Mapping[str, str] = field(default_factory=dict)
    audiences: tuple[str, ...] = ()
    opaque: bool = False


class ExternalTokens:
    """Verifies tokens: ours as ever, those of the listed servers by asking them."""

    def __init__(
        self,
        own: Verifier,
        servers: tuple[ExternalServer, ...],
        ours: httpx.AsyncClient,
        authority: TokenAuthority,
        theirs: httpx.AsyncClient | None = None,
    ) -> None:
        self._own = own
        self._servers = {one.issuer: one for one in servers}
        self._ours = ours
        self._authority = authority
        self._theirs = theirs or httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False)
        self._known: OrderedDict[bytes, tuple[float, float, Caller]] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[tuple[Caller, float]]] = {}
        self._turns = {one.issuer: asyncio.Semaphore(_AT_ONCE) for one in servers}
        self._credentials: dict[str, tuple[float, str]] = {}

    async def verify(self, token: str, address: str | None) -> Caller:
        """The caller.

        Raises:
            InvalidToken: not ours and not one of theirs, over, or for nobody whom we know.
            Undecided: the EHR or our store does not answer.
        """
        server = self._server_of(token)
        if server is None:
            return await self._own.verify(token, address)
        key = hashlib.sha256(token.encode()).digest()
        kept = self._known.get(key)
        if kept is not None and time.monotonic() < kept[0] and time.time() < kept[1]:
            return replace(kept[2], address=address)
        self._known.pop(key, None)
        # Shielded: others may wait for the same answer when this request is given up.
        caller, _ = await asyncio.shield(self._asked_once(server, key, token))
        return replace(caller, address=address)

    def _asked_once(
        self, server: ExternalServer, key: bytes, token: str
    ) -> asyncio.Task[tuple[Caller, float]]:
        """The one question about a token, whose answer all its requests share."""
        task = self._asking.get(key)
        if task is None:
            if len(self._asking) >= _WAITING:
                raise Undecided("too many tokens of other servers are being asked about")
            task = asyncio.create_task(self._ask(server, token))
            self._asking[key] = task
            task.add_done_callback(lambda done: self._answered(key, done))
        return task

    def _answered(self, key: bytes, done: asyncio.Task[tuple[Caller, float]]) -> None:
        self._asking.pop(key, None)
        if done.cancelled() or done.exception() is not None:
            return
        caller, expires = done.result()
        self._known[key] = time.monotonic() + REMEMBER_S, expires, caller
        while len(self._known) > _MEMORY:
            self._known.popitem(last=False)

    def _server_of(self, token: str) -> ExternalServer | None:
        """The listed server that a token says it is of, or that has opaque ones."""
        issuer = _unverified_issuer(token)
        if issuer is not None:
            return self._servers.get(issuer)
        if token.count(".") == 2:
            return None
        return next((one for one in self._servers.values() if one.opaque), None)

    async def _ask(self, server: ExternalServer, token: str) -> tuple[Caller, float]:
        async with self._turns[server.issuer]:
            return await self._judged(server, token)

    async def _judged(self, server: ExternalServer, token: str) -> tuple[Caller, float]:
        found = await self._post(server, server.introspection_url, {"token": token})
        expires = _end_of(server, found)
        scopes = Scopes.parse(str(found.get("scope", "")))
        granted = Scopes(frozenset(one for one in scopes.grants if one.context == "patient"))
        patient = found.get("patient")
        # Without a patient nothing is granted: a missing context is never access to everyone.
        if not granted.grants or not isinstance(patient, str) or not is_id(patient):
            raise InvalidToken("the token is for no patient")
        ours = await self._mapped(server, patient)
        caller = Caller(
            subject=_theirs(server, found.get("sub") or found.get("username") or "unknown user"),
            kind="patient",
            scopes=granted,
            client=_theirs(server, found.get("client_id") or "unknown client"),
            patient=ours,
        )
        return caller, expires

    async def _mapped(self, server: ExternalServer, patient: str) -> str:
        """Our id of the EHR's Patient, by identifier and its issuer."""
        theirs = await self._read(server, f"{server.fhir_url.rstrip('/')}/Patient/{patient}")
        if theirs.get("resourceType") != "Patient" or theirs.get("id") != patient:
            raise InvalidToken("the EHR has no such patient")
        found: set[str] = set()
        for identifier in _identifiers(server, theirs):
            found |= await self._search(identifier)
        if len(found) != 1:
            log.warning("external patient not mapped", server=server.issuer, matches=len(found))
            raise InvalidToken("the EHR's patient is none of ours, or not one alone")
        return found.pop()

    async def _search(self, identifier: str) -> set[str]:
        """Ids of our Patients with an identifier."""
        own = self._authority.mint(
            subject="external-tokens",
            scope="system/Patient.rs",
            lifetime_s=_OWN_TOKEN_S,
            client="hilum-external",
        )
        try:
            answer = await self._ours.get(
                "/fhir/Patient",
                params={"identifier": identifier, "_count": "5"},
                headers={"Authorization": f"Bearer {own}"},
            )
            bundle = orjson.loads(answer.content)
        except (httpx.HTTPError, ValueError) as error:
            raise Undecided("our store does not answer") from error
        if answer.status_code != httpx.codes.OK:
            raise Undecided("our store does not answer")
        patients = [entry["resource"] for entry in bundle.get("entry", [])]
        return {one["id"] for one in patients if one.get("active", True)}

    async def _read(self, server: ExternalServer, url: str) -> dict[str, Any]:
        answer = await self._get(server, url)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            # It has forgotten the token that we kept: it was restarted, or took it back.
            self._credentials.pop(server.issuer, None)
            answer = await self._get(server, url)
        if answer.status_code in (403, 404, 410):
            raise InvalidToken("the EHR has no such patient for us")
        return _object(server, answer)

    async def _get(self, server: ExternalServer, url: str) -> httpx.Response:
        token = await self._own_token(server)
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/fhir+json"}
        try:
            return await self._theirs.get(url, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _away(server, error) from error

    async def _own_token(self, server: ExternalServer) -> str:
        """Our own token for the EHR's FHIR server, kept until it is nearly over."""
        kept = self._credentials.get(server.issuer)
        if kept is not None and time.monotonic() < kept[0]:
            return kept[1]
        form = {"grant_type": "client_credentials", "scope": "system/Patient.rs"}
        found = await self._post(server, server.token_url, form)
        token, lifetime = found.get("access_token"), found.get("expires_in", 60)
        if not isinstance(token, str) or not isinstance(lifetime, int | float):
            raise Undecided(f"{server.issuer} gave us no token")
        self._credentials[server.issuer] = time.monotonic() + lifetime - _EARLY_S, token
        return token

    async def _post(
        self, server: ExternalServer, url: str, form: Mapping[str, str]
    ) -> dict[str, Any]:
        credentials = httpx.BasicAuth(server.client_id, server.client_secret)
        try:
            answer = await self._theirs.post(url, data=dict(form), auth=credentials)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _away(server, error) from error
        return _object(server, answer)


def _theirs(server: ExternalServer, name: object) -> str:
    """A name of theirs, which is never one of ours: no user or client here has such a name."""
    return f"{server.issuer}|{name}"


def _identifiers(server: ExternalServer, patient: Mapping[str, Any]) -> list[str]:
    """Their Patient's identifiers as we search for them; those of unknown systems are left out."""
    listed = patient.get("identifier")
    return [
        f"{server.systems[one['system']]}|{one['value']}"
        for one in (listed if isinstance(listed, list) else [])
        if isinstance(one, dict)
        and isinstance(one.get("system"), str)
        and one["system"] in server.systems
        and _is_plain(one.get("value"))
        and one.get("use") != "old"
    ]


def _end_of(server: ExternalServer, found: Mapping[str, Any]) -> float:
    """When an introspected token ends. Raises InvalidToken: inactive, over, or not for us."""
    if found.get("active") is not True:
        raise InvalidToken("the EHR says that it is not active")
    if found.get("iss", server.issuer) != server.issuer:
        raise InvalidToken("the EHR says that another server issued it")
    named = found.get("aud", [])
    audiences = named if isinstance(named, list) else [named]
    if server.audiences and not any(one in server.audiences for one in audiences):
        raise InvalidToken("it is for another resource server")
    expires = found.get("exp")
    if not isinstance(expires, int | float) or expires <= time.time():
        raise InvalidToken("it is over, or has no end")
    return float(expires)


def _unverified_issuer(token: str) -> str | None:
    """What a JWT says of its issuer; it only decides whom we ask."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = orjson.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    issuer = claims.get("iss") if isinstance(claims, dict) else None
    return issuer if isinstance(issuer, str) else None


def _object(server: ExternalServer, answer: httpx.Response) -> dict[str, Any]:
    try:
        found: Any = orjson.loads(answer.content) if answer.status_code == httpx.codes.OK else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        log.warning("external server", server=server.issuer, status=answer.status_code)
        raise Undecided(f"{server.issuer} does not answer as it should")
    return found


def _away(server: ExternalServer, error: Exception) -> Undecided:
    log.warning("external server away", server=server.issuer, kind=type(error).__name__)
    return Undecided(f"{server.issuer} does not answer")


def _is_plain(value: object) -> bool:
    """Whether an identifier is one search value: text without comma, bar, dollar, backslash."""
    return isinstance(value, str) and bool(value) and not set(value) & set(",|$\\")
