"""The steps between an app's question and its answer: sign in, choose, agree; each a page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import anyio.to_thread
import psycopg
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from access.audit import AuditUnavailable
from access.browser import session_of
from access.sessions import Session
from authorization.chart import Chart, ChartAway
from authorization.choices import Choices, Consent
from authorization.errors import NotGrantable, RequestGone
from authorization.forms import BadForm
from authorization.launches import Launches, NoLaunch
from authorization.narrowing import narrowed_to_user
from authorization.pages import words
from authorization.pages.door import Door, fields_of, login_url
from authorization.pages.pickers import Pickers
from authorization.pages.rendering import go, onward, page, stopped
from authorization.pages.situation import Situation
from authorization.pages.style import Style
from authorization.requests import AuthorizationRequest

log = structlog.get_logger(__name__)

_STALE = "This page was open for too long, or was not ours. Please try again."
_T = TypeVar("_T")


class Instead(Exception):
    """Another answer than the one that was being made."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


@dataclass(frozen=True)
class Steps:
    """The pages, and what they work on."""

    door: Door
    chart: Chart
    choices: Choices
    launches: Launches
    style: Style

    def routes(self) -> list[BaseRoute]:
        """The routes, below `/auth`."""
        path = "/steps/{request_id}"
        return [
            Route(path, self.show, methods=["GET"]),
            Route(path, self.answer, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """The page of the next step; or the answer, when there is nothing to ask."""
        return await self._guarded(request, self._next)

    async def answer(self, request: Request) -> Response:
        """Take what a person answered, and go on."""

        async def judge(here: Situation) -> Response:
            fields = await fields_of(request)
            if not self.door.is_ours(request, here.session, fields.get("csrf", [""])[-1]):
                return await self._next(here, _STALE, 403)
            return await self._answered(here, fields)

        return await self._guarded(request, judge)

    async def _guarded(
        self, request: Request, work: Callable[[Situation], Awaitable[Response]]
    ) -> Response:
        """What goes wrong becomes a page that says so."""
        try:
            return await work(await self._situation(request))
        except Instead as instead:
            return instead.response
        except RequestGone as error:
            return _stopped(410, str(error))
        except (NotGrantable, BadForm) as error:
            return _stopped(400, str(error))
        except ChartAway as error:
            return _stopped(503, str(error))
        except (psycopg.Error, AuditUnavailable) as error:
            log.error("no step", error=type(error).__name__)
            return _stopped(503, "that cannot be done now; please try again in a moment")

    async def _situation(self, request: Request) -> Situation:
        """Who stands where. Raises Instead: somebody has to sign in first, or cannot go on."""
        request_id = request.path_params["request_id"]
        asked = await self._thread(lambda: self.door.requests.find(request_id, request))
        session, token = session_of(request), self.door.cookie.read(request)
        if session is None or token is None:
            raise Instead(go(login_url(request.url.path)))
        await self._check_fresh(request, asked, session)
        client = await self._thread(lambda: self.door.clients.find(asked.client_id))
        if client is not None and not client.may_redirect_to(asked.redirect_uri):
            raise RequestGone  # the address was taken from the app in the meantime
        if client is None or client.disabled:
            raise Instead(await self._deny(asked, "unauthorized_client", "the app is disabled"))
        offered = narrowed_to_user(asked.scope, session.user)
        if not offered:
            text = "the user may grant none of these scopes"
            raise Instead(await self._deny(asked, "access_denied", text))
        choice = await self._thread(lambda: self.choices.find(request_id, session.user.username))
        return Situation(asked, client, session, token, offered, choice)

    async def _check_fresh(
        self, request: Request, asked: AuthorizationRequest, session: Session
    ) -> None:
        """Raises Instead: the user has to sign in anew, or did and nobody vouches for it."""
        if asked.since is None or session.is_since(asked.since):
            return
        if session.opened_at < asked.created_at:
            raise Instead(go(login_url(request.url.path, again=True)))
        # They come from another provider, which was told what the app wants.
        text = "the identity provider does not say that the user has signed in anew"
        self.door.record_denial(session.user.caller(client=asked.client_id), text)
        raise Instead(await self._deny(asked, "login_required", text))

    async def _next(self, here: Situation, problem: str = "", status: int = 200) -> Response:
        step = here.step
        if step == "launch":
            return await self._launch(here)
        if step == "patient" and here.user.patient is not None:
            return await self._pick(here, "patient", here.user.patient)
        if step == "consent":
            return await self._consent(here, problem, status)
        return await self._pickers.show(here, step, problem, status)

    async def _answered(self, here: Situation, fields: dict[str, list[str]]) -> Response:
        do = fields.get("do", [""])[-1]
        if do == "deny":
            self.door.record_denial(here.caller, "the user said no")
            return await self._deny(here.request, "access_denied", "the user said no")
        if do in ("search", "more"):
            return await self._pickers.search(here, fields)
        if do in ("patient", "encounter", "study") and do == here.step:
            return await self._pick(here, do, fields.get("value", [""])[-1])
        if do == "consent" and here.step == "consent":
            return await self._agreed(here, fields)
        return go(here.here)  # an older page: the step that it shows is over

    async def _launch(self, here: Situation) -> Response:
        """Resolve the app's launch parameter, once."""

        def take() -> Situation:
            context = self.launches.take(
                here.request.launch or "", here.client.client_id, here.user.username, here.token
            )
            choice = here.chose("launch", context)
            self.choices.keep(here.request.request_id, here.user.username, choice)
            return replace(here, choice=choice)

        try:
            return await self._next(await self._thread(take))
        except NoLaunch as error:
            self.door.record_denial(here.caller, str(error))
            return await self._deny(here.request, "invalid_request", str(error))

    async def _pick(self, here: Situation, what: str, value: str) -> Response:
        """Take one row of a picker, if this user may see it."""
        choice = await self._pickers.pick(here, what, value)
        if choice is None:
            if what == "patient" and here.user.patient is not None:
                return _stopped(403, "your own record is not in this store")
            return await self._pickers.show(here, here.step, "That one is not there any more.", 404)
        request_id, username = here.request.request_id, here.user.username
        await self._thread(lambda: self.choices.keep(request_id, username, choice))
        if what == "patient" and here.user.patient is not None:
            return await self._next(replace(here, choice=choice))
        return go(here.here)

    async def _consent(self, here: Situation, problem: str, status: int) -> Response:
        """Ask for consent; or answer at once, when it was given before or is not needed."""
        granted = await self._standing(here)
        if granted is not None and not problem:
            return await self._approve(here, granted, onward)
        return page(
            "consent.html",
            status,
            here.request.redirect_uri,
            **await self._pickers.shared(here, problem),
            lines=words.lines(here.grantable),
            chosen=await self._pickers.chosen(here),
            place=here.request.redirect_uri.partition("?")[0],
        )

    async def _standing(self, here: Situation) -> str | None:
        """The scopes that need no question; None: ask."""
        if "consent" in (here.request.prompt or "").split():
            return None
        if here.client.trusted:
            return here.grantable
        kept = await self._thread(
            lambda: self.choices.consent(here.user.username, here.client.client_id)
        )
        return kept.answers(here.grantable) or None if kept else None

    async def _agreed(self, here: Situation, fields: dict[str, list[str]]) -> Response:
        ticked = fields.get("scope", [])
        asked = here.grantable.split()
        granted = [one for one in asked if one in ticked or words.is_required(one)]
        if all(words.is_required(one) for one in granted):
            self.door.record_denial(here.caller, "nothing was granted")
            return await self._deny(here.request, "access_denied", "nothing was granted")
        if fields.get("remember"):
            consent = Consent(here.client.client_id, here.grantable, " ".join(granted))
            await self._thread(lambda: self.choices.remember(here.user.username, consent))
        return await self._approve(here, " ".join(granted), go)

    async def _approve(
        self, here: Situation, scope: str, leave: Callable[[str], Response]
    ) -> Response:
        context = replace(here.choice.context, smart_style_url=self.style.url)
        location = await self._thread(
            lambda: self.door.requests.approve(
                here.request.request_id,
                here.user,
                scope,
                context,
                session=here.token,
                signed_in=here.session.signed_in_at,
            )
        )
        response = leave(location)
        self.door.requests.unbind(response, here.request.request_id)
        return response

    async def _deny(self, asked: AuthorizationRequest, error: str, text: str) -> Response:
        location = await self._thread(
            lambda: self.door.requests.deny(asked.request_id, error, text)
        )
        response = onward(location)
        self.door.requests.unbind(response, asked.request_id)
        return response

    @property
    def _pickers(self) -> Pickers:
        return Pickers(self.chart)

    async def _thread(self, call: Callable[[], _T]) -> _T:
        return await anyio.to_thread.run_sync(call)


def _stopped(status: int, text: str) -> Response:
    return stopped(status, "This app cannot go on", text)
