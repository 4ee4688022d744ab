"""The pages of the authorization server put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import httpx
from starlette.routing import BaseRoute

from access.browser import Cookie
from access.sessions import Sessions
from access.users import Users
from authorization.app import AuthorizationServer
from authorization.chart import Chart
from authorization.choices import Choices
from authorization.ending import Endings
from authorization.launches import Launches
from authorization.pages.administration import Administration
from authorization.pages.apps_page import AppsPage
from authorization.pages.clients_page import ClientsPage
from authorization.pages.door import Door
from authorization.pages.launching import Launching
from authorization.pages.steps import Steps
from authorization.pages.style import Style
from authorization.pages.users_page import UsersPage
from authorization.trust.federated import Federated
from authorization.trust.provider import Provider


@dataclass(frozen=True)
class Pages:
    """Routes of all pages: below `/auth`, and at the root of the site."""

    steps: list[BaseRoute]
    administration: list[BaseRoute]
    door: Door
    users: Users

    def federated(self, provider: Provider, sessions: Sessions) -> Federated:
        """By which people sign in at another provider; its routes are at the root of the site."""
        door = self.door
        return Federated(provider, self.users, sessions, door.requests, door.cookie, door.audit)


def make(
    server: AuthorizationServer,
    users: Users,
    cookie: Cookie,
    http: httpx.AsyncClient,
    looks: Mapping[str, str] | None = None,
) -> Pages:
    """The pages of a site.

    Args:
        server: what `create_server` made.
        users: for launches that a backend begins, and for the registry.
        cookie: of the browser sessions.
        http: reaches our own doors; its base URL is that of the site.
        looks: members of the style document that differ from the usual.
    """
    config, authority = server.config, server.issuer.authority
    if authority.revocations is None:
        raise ValueError("an authority without revocations cannot end what was allowed")
    door = Door(server.requests, server.clients, cookie, server.audit)
    chart = Chart(http, authority)
    launches, choices = Launches(server.pool), Choices(server.pool)
    endings = Endings(server.pool, authority.revocations)
    style = Style(config.base_url, looks or {})
    steps = Steps(door, chart, choices, launches, style)
    launching = Launching(door, chart, launches, users, authority, config.fhir_url)
    apps, office = AppsPage(door, choices, endings), Administration(door, endings)
    return Pages(
        [*steps.routes(), *launching.routes(), *style.routes(), *apps.routes()],
        [*ClientsPage(office).routes(), *UsersPage(office, users).routes()],
        door,
        users,
    )
