"""`/auth/apps`: the apps that a user has let in, and how to take that back."""

from __future__ import annotations

from dataclasses import dataclass

import anyio.to_thread
import psycopg
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from access.audit import AuditUnavailable
from access.browser import session_of
from authorization.choices import Choices
from authorization.ending import Endings
from authorization.forms import BadForm
from authorization.pages import words
from authorization.pages.administration import stopped
from authorization.pages.door import Door, fields_of, login_url
from authorization.pages.rendering import go, page

PATH = "/auth/apps"


@dataclass(frozen=True)
class AppsPage:
    """The page."""

    door: Door
    choices: Choices
    endings: Endings

    def routes(self) -> list[BaseRoute]:
        """The routes, below `/auth`."""
        return [
            Route("/apps", self.show, methods=["GET"]),
            Route("/apps", self.take_back, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """The apps, and what each may do."""
        session = session_of(request)
        if session is None:
            return go(login_url(PATH))
        user = session.user
        try:
            given = await anyio.to_thread.run_sync(lambda: self._given(user.username))
        except psycopg.Error:
            return stopped(503, "The database is away. Please try again in a moment.")
        return page("apps.html", user=user, csrf=session.csrf, given=given)

    async def take_back(self, request: Request) -> Response:
        """End what one app was given."""
        session = session_of(request)
        if session is None:
            return go(login_url(PATH))
        try:
            fields = {name: values[-1] for name, values in (await fields_of(request)).items()}
        except BadForm as error:
            return stopped(400, f"{str(error).capitalize()}.")
        if not self.door.is_ours(request, session, fields.get("csrf", "")):
            return stopped(403, "This page was open for too long. Please go back to it.")
        user, client_id = session.user, fields.get("client_id", "")[:128]

        def end() -> int:
            return self.endings.of_user_and_client(user.username, client_id)

        what = f"user {user.username}: took back what client {client_id} was allowed"
        try:
            await anyio.to_thread.run_sync(lambda: self.door.recorded(request, user, what, end))
        except (psycopg.Error, AuditUnavailable):
            return stopped(503, "That cannot be done now. Please try again in a moment.")
        return go(PATH)

    def _given(self, username: str) -> list[tuple[str, str, list[words.Line]]]:
        """Client id, name and scopes of each app."""
        names = {one.client_id: one.name for one in self.door.clients.list()}
        scopes = {one.client_id: one.granted for one in self.choices.consents(username)}
        scopes |= self.endings.live_of(username)
        return [
            (client_id, names.get(client_id, client_id), words.lines(granted))
            for client_id, granted in sorted(scopes.items())
        ]
