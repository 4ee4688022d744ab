"""The pages of the authorization server put together: their routes below `/auth`."""

from __future__ import annotations

from collections.abc import Mapping

import httpx
from starlette.routing import BaseRoute

from access.browser import Cookie
from access.users import Users
from authorization.app import AuthorizationServer
from authorization.chart import Chart
from authorization.choices import Choices
from authorization.launches import Launches
from authorization.pages.door import Door
from authorization.pages.launching import Launching
from authorization.pages.steps import Steps
from authorization.pages.style import Style


def routes(
    server: AuthorizationServer,
    users: Users,
    cookie: Cookie,
    http: httpx.AsyncClient,
    looks: Mapping[str, str] | None = None,
) -> list[BaseRoute]:
    """The routes of all pages, to be given to `create_app` as `more`.

    Args:
        server: what `create_server` made.
        users: for launches that a backend begins.
        cookie: of the browser sessions.
        http: reaches our own doors; its base URL is that of the site.
        looks: members of the style document that differ from the usual.
    """
    config, authority = server.config, server.issuer.authority
    door = Door(server.requests, server.clients, cookie, server.audit)
    chart = Chart(http, authority)
    launches = Launches(config.dsn)
    style = Style(config.base_url, looks or {})
    steps = Steps(door, chart, Choices(config.dsn), launches, style)
    launching = Launching(door, chart, launches, users, authority, config.fhir_url)
    return [*steps.routes(), *launching.routes(), *style.routes()]
