"""EHR launch: an app is started from a page of ours, or by a system that we trust."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode

import anyio.to_thread
import orjson
import psycopg
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from access.audit import AuditUnavailable
from access.browser import session_of
from access.caller import Caller
from access.errors import Unauthorized
from access.http import OwnTokens, address_of, caller_of
from access.tokens import TokenAuthority
from access.users import User, UserError, Users
from authorization.chart import Chart, ChartAway
from authorization.clients import Client
from authorization.context import LaunchContext
from authorization.errors import ContextError
from authorization.forms import BadForm
from authorization.launches import OPEN_S, Launches
from authorization.opening import NotOpen, Opening, context_of
from authorization.pages.describing import patient_row, study_row
from authorization.pages.door import Door, fields_of, login_url
from authorization.pages.rendering import NEVER_STORED, go, page, stopped

_MAX_BYTES = 64 * 1024
_T = TypeVar("_T")


class Refused(Exception):
    """No launch begins; status and text of the answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Launching:
    """The endpoints, and what they work on.

    Attributes:
        fhir_url: what apps are told as `iss`.
    """

    door: Door
    chart: Chart
    launches: Launches
    users: Users
    authority: TokenAuthority
    fhir_url: str

    def routes(self) -> list[BaseRoute]:
        """The routes, below `/auth`."""
        return [
            Route("/launch", self.choose, methods=["GET"]),
            Route("/launch", self.begin, methods=["POST"]),
            Route("/launch/{client_id}", self.open, methods=["POST"]),
        ]

    async def begin(self, request: Request) -> Response:
        """Create a launch: JSON in, JSON out."""
        try:
            body = await _json(request)
            user, session, caller = await self._for_whom(request, body)
            client = await self._app(body.get("client_id"))
            context = await context_of(self.chart, user, Opening.parse(body))
            self.door.record_launch(caller, user, client.client_id, context.patient)
            launch = await self._keep(client, user, context, session)
        except Refused as error:
            return _problem(error.status, str(error))
        except (ContextError, NotOpen) as error:
            return _problem(400 if isinstance(error, ContextError) else 403, str(error))
        except (ChartAway, psycopg.Error, AuditUnavailable):
            return _problem(503, "try again in a moment")
        answer = {"launch": launch, "expires_in": OPEN_S, "iss": self.fhir_url}
        if client.launch_url is not None:
            answer["launch_url"] = self._url(client, launch)
        return JSONResponse(answer, status_code=201, headers=NEVER_STORED)

    async def choose(self, request: Request) -> Response:
        """The apps that one study can be opened in."""
        session = session_of(request)
        if session is None:
            return go(login_url(f"/auth/launch?{request.url.query}"))
        uid = request.query_params.get("study", "")
        try:
            study = await self.chart.study(session.user, uid) if uid else None
            if study is None:
                return _stopped(404, "There is no such study for you.")
            patient = await self.chart.read(session.user, *_subject(study))
            clients = await self._thread(self.door.clients.list)
        except (ChartAway, psycopg.Error):
            return _stopped(503, "The studies cannot be read now. Please try again in a moment.")
        apps = [one for one in clients if _is_launchable(one)]
        return page(
            "launch.html",
            user=session.user,
            csrf=session.csrf,
            uid=uid,
            study=study_row(study),
            banner=patient_row(patient) if patient else None,
            apps=apps,
        )

    async def open(self, request: Request) -> Response:
        """Begin a launch from that page and go to the app."""
        session, token = session_of(request), self.door.cookie.read(request)
        if session is None or token is None:
            return go(login_url("/"))
        try:
            fields = {name: values[-1] for name, values in (await fields_of(request)).items()}
            if not self.door.is_ours(request, session, fields.get("csrf", "")):
                return _stopped(403, "This page was open for too long. Please go back to it.")
            client = await self._app(request.path_params["client_id"])
            if client.launch_url is None:
                raise Refused(404, "the app cannot be launched")
            opening = Opening(study=fields.get("study") or None)
            context = await context_of(self.chart, session.user, opening)
            caller = _by_browser(request, session.user)
            self.door.record_launch(caller, session.user, client.client_id, context.patient)
            launch = await self._keep(client, session.user, context, token)
        except (Refused, NotOpen, BadForm) as error:
            return _stopped(getattr(error, "status", 400), str(error))
        except (ChartAway, psycopg.Error, AuditUnavailable):
            return _stopped(503, "It cannot be opened now. Please try again in a moment.")
        return page("leaving.html", client=client, location=self._url(client, launch))

    async def _for_whom(
        self, request: Request, body: dict[str, Any]
    ) -> tuple[User, str | None, Caller]:
        """The user, the session token that the launch is bound to, and who asks. Raises Refused."""
        if "authorization" in request.headers:
            return await self._by_backend(request, body)
        session, token = session_of(request), self.door.cookie.read(request)
        if session is None or token is None:
            raise Refused(401, "a session, or the token of a trusted backend, is required")
        if not self.door.cookie.is_same_origin(request):
            raise Refused(403, "launches by session come from this site's own pages only")
        if body.get("user") not in (None, session.user.username):
            raise Refused(403, "a launch by session is for the user who is signed in")
        return session.user, token, _by_browser(request, session.user)

    async def _by_backend(
        self, request: Request, body: dict[str, Any]
    ) -> tuple[User, None, Caller]:
        try:
            caller = await caller_of(request, OwnTokens(self.authority))
        except Unauthorized as error:
            raise Refused(401, str(error)) from error
        client = await self._thread(lambda: self.door.clients.find(caller.client or ""))
        if client is None or client.disabled or not (client.backend and client.trusted):
            raise Refused(403, "only a trusted backend may begin launches for others")
        name = body.get("user")
        try:
            user = await self._thread(lambda: self.users.find(str(name)))
        except UserError as error:
            raise Refused(400, "user names somebody who may sign in") from error
        if user.disabled:
            raise Refused(400, "user names somebody who may sign in")
        return user, None, caller

    async def _app(self, client_id: object) -> Client:
        """The app to be launched. Raises Refused."""
        found = None
        if isinstance(client_id, str):
            found = await self._thread(lambda: self.door.clients.find(client_id))
        if found is None or found.disabled or found.backend:
            raise Refused(400, "client_id names no app that people use")
        return found

    async def _keep(
        self, client: Client, user: User, context: LaunchContext, session: str | None
    ) -> str:
        return await self._thread(
            lambda: self.launches.begin(client.client_id, user.username, context, session)
        )

    def _url(self, client: Client, launch: str) -> str:
        address = client.launch_url or ""
        joint = "&" if "?" in address else "?"
        return f"{address}{joint}{urlencode({'iss': self.fhir_url, 'launch': launch})}"

    async def _thread(self, call: Callable[[], _T]) -> _T:
        return await anyio.to_thread.run_sync(call)


def _by_browser(request: Request, user: User) -> Caller:
    return user.caller(client="browser", address=address_of(request))


def _is_launchable(client: Client) -> bool:
    return client.launch_url is not None and not client.disabled and not client.backend


def _subject(study: dict[str, Any]) -> tuple[str, str]:
    kind, _, logical_id = str(study.get("subject", {}).get("reference", "")).partition("/")
    return kind or "Patient", logical_id


async def _json(request: Request) -> dict[str, Any]:
    """The body. Raises Refused."""
    # No other site's form can send this media type without asking first.
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Refused(415, "the body is application/json")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BYTES:
            raise Refused(413, "the body is too large")
    try:
        found = orjson.loads(body)
    except ValueError as error:
        raise Refused(400, "the body is not JSON") from error
    if not isinstance(found, dict):
        raise Refused(400, "the body is an object")
    return found


def _problem(status: int, text: str) -> Response:
    """RFC 9457."""
    return JSONResponse(
        {"type": "about:blank", "status": status, "title": text},
        status_code=status,
        media_type="application/problem+json",
        headers=NEVER_STORED,
    )


def _stopped(status: int, text: str) -> Response:
    return stopped(status, "The app cannot be opened", text)
