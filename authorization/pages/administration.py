"""What the administrators' pages share: who may come in, and how a form's answer goes out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import anyio.to_thread
import psycopg
import structlog
from starlette.requests import Request
from starlette.responses import Response

from access.audit import AuditUnavailable
from access.browser import session_of
from access.errors import AccessError
from access.sessions import Session
from authorization.ending import Endings
from authorization.errors import AuthorizationError
from authorization.pages.door import Door, fields_of, login_url
from authorization.pages.rendering import go, page

log = structlog.get_logger(__name__)

_T = TypeVar("_T")
Fields = dict[str, str]
Work = Callable[[Session, Fields], Awaitable[Response]]
# A page shown again, with what was wrong about the form.
Again = Callable[[Session, Fields, str], Awaitable[Response]]


@dataclass(frozen=True)
class Administration:
    """The tables, and what ends with a change of them."""

    door: Door
    endings: Endings

    async def look(
        self, request: Request, show: Callable[[Session], Awaitable[Response]]
    ) -> Response:
        """A page for an administrator; others sign in, or are told that it is not for them."""
        session = session_of(request)
        if session is None:
            return go(login_url(request.url.path))
        if session.user.role != "administrator":
            return stopped(403, "This page is for administrators.")
        try:
            return await show(session)
        except (psycopg.Error, AuditUnavailable) as error:
            log.error("no page", error=type(error).__name__)
            return stopped(503, "That cannot be done now. Please try again in a moment.")

    async def change(self, request: Request, work: Work, again: Again) -> Response:
        """Take a form; what is wrong with it is said on the same page, and nothing is lost."""

        async def judged(session: Session) -> Response:
            fields: Fields = {}
            try:
                found = await fields_of(request)
                fields = {name: values[-1].strip() for name, values in found.items()}
                if not self.door.is_ours(request, session, fields.get("csrf", "")):
                    return stopped(403, "This page was open for too long. Please go back to it.")
                return await work(session, fields)
            except AuditUnavailable:
                raise
            except (AccessError, AuthorizationError) as error:
                text = str(error)
                return await again(session, fields, f"{text[:1].upper()}{text[1:]}.")

        return await self.look(request, judged)

    async def recorded(
        self, request: Request, session: Session, what: str, change: Callable[[], _T]
    ) -> _T:
        """Make a change that is in the audit trail before."""
        return await self.thread(lambda: self.door.recorded(request, session.user, what, change))

    @staticmethod
    def page(
        template: str, session: Session, problem: str, fields: Fields, **more: object
    ) -> Response:
        """A page with a form, and what was wrong about it."""
        return page(
            template,
            400 if problem else 200,
            None,
            user=session.user,
            csrf=session.csrf,
            problem=problem,
            # Empty where nothing was typed.
            fields=defaultdict(str, fields),
            **more,
        )

    @staticmethod
    async def thread(call: Callable[[], _T]) -> _T:
        """A blocking call off the event loop."""
        return await anyio.to_thread.run_sync(call)


def stopped(status: int, text: str) -> Response:
    """A page that says why there is none."""
    return page("stopped.html", status, title="Not possible", text=text)
