"""`/admin/clients`: the registry of apps and backends, for administrators."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from access.sessions import Session
from authorization.clients import CODE, CREDENTIALS, KINDS, REFRESH, Client
from authorization.errors import ClientError
from authorization.pages.administration import Administration, Fields, stopped
from authorization.pages.rendering import go

LIST = "/admin/clients"
_EMPTY: Fields = {"kind": "public", "refresh": "1"}


@dataclass(frozen=True)
class ClientsPage:
    """The pages."""

    office: Administration

    def routes(self) -> list[BaseRoute]:
        """The routes, at the root of the site."""
        one = f"{LIST}/{{client_id}}"
        return [
            Route(LIST, self.list, methods=["GET"]),
            Route(LIST, self.add, methods=["POST"]),
            Route(one, self.show, methods=["GET"]),
            Route(one, self.change, methods=["POST"]),
        ]

    async def list(self, request: Request) -> Response:
        """All clients, and a form for one more."""
        return await self.office.look(request, lambda session: self._list(session, _EMPTY, ""))

    async def add(self, request: Request) -> Response:
        """Register one; the secret of a symmetric one is on the page that answers, only there."""

        async def work(session: Session, fields: Fields) -> Response:
            client = _client(fields, fields.get("client_id", ""), fields.get("kind", ""))
            what = f"client {client.client_id} registered: {client.told}"
            clients = self.office.door.clients
            secret = await self.office.recorded(request, session, what, lambda: clients.add(client))
            if secret is None:
                return go(f"{LIST}/{client.client_id}")
            return await self._show(session, client, _fields(client), "", secret)

        return await self.office.change(request, work, self._list)

    async def show(self, request: Request) -> Response:
        """One client."""

        async def found(session: Session) -> Response:
            client = await self._find(request)
            if client is None:
                return stopped(404, "There is no such client.")
            return await self._show(session, client, _fields(client), "")

        return await self.office.look(request, found)

    async def change(self, request: Request) -> Response:
        """Change it, give it a new secret, or remove it."""

        async def work(session: Session, fields: Fields) -> Response:
            client = await self._find(request)
            if client is None:
                return stopped(404, "There is no such client.")
            return await self._changed(request, session, client, fields)

        async def again(session: Session, fields: Fields, problem: str) -> Response:
            client = await self._find(request)
            if client is None:
                return stopped(404, "There is no such client.")
            return await self._show(session, client, fields, problem)

        return await self.office.change(request, work, again)

    async def _changed(
        self, request: Request, session: Session, client: Client, fields: Fields
    ) -> Response:
        clients, endings, name = self.office.door.clients, self.office.endings, client.client_id

        def remove() -> None:
            endings.of_client(name)
            clients.remove(name)

        match fields.get("do"):
            case "rotate":
                secret = await self.office.recorded(
                    request,
                    session,
                    f"client {name}: new secret",
                    lambda: clients.rotate_secret(name),
                )
                return await self._show(session, client, _fields(client), "", secret)
            case "remove":
                await self.office.recorded(request, session, f"client {name} removed", remove)
                return go(LIST)
            case "change":
                changed = _client(fields, name, client.kind, client.backend)

                def change() -> None:
                    endings.client_changed(client, changed)
                    clients.change(changed)

                what = f"client {name} changed: {changed.told}"
                await self.office.recorded(request, session, what, change)
                return go(f"{LIST}/{name}")
        raise ClientError("the form says nothing of what is to be done")

    async def _find(self, request: Request) -> Client | None:
        client_id = request.path_params["client_id"]
        return await self.office.thread(lambda: self.office.door.clients.find(client_id))

    async def _list(self, session: Session, fields: Fields, problem: str) -> Response:
        clients = await self.office.thread(self.office.door.clients.list)
        return self.office.page(
            "clients.html", session, problem, fields, clients=clients, kinds=KINDS
        )

    async def _show(
        self,
        session: Session,
        client: Client,
        fields: Fields,
        problem: str,
        secret: str | None = None,
    ) -> Response:
        return self.office.page(
            "client.html", session, problem, fields, client=client, secret=secret
        )


def _client(fields: Fields, client_id: str, kind: str, backend: bool | None = None) -> Client:
    """The client that a form describes. Raises ClientError."""
    is_backend = bool(fields.get("backend")) if backend is None else backend
    people = (CODE, REFRESH) if fields.get("refresh") else (CODE,)
    return Client(
        client_id=client_id,
        name=fields.get("name", ""),
        kind=kind,  # type: ignore[arg-type]
        scopes=" ".join(fields.get("scopes", "").split()),
        jwks=_keys(fields.get("jwks", "")),
        jwks_uri=fields.get("jwks_uri") or None,
        redirect_uris=tuple(fields.get("redirect_uris", "").split()),
        launch_url=fields.get("launch_url") or None,
        grant_types=(CREDENTIALS,) if is_backend else people,
        backend=is_backend,
        trusted=bool(fields.get("trusted")),
        origins=tuple(fields.get("origins", "").split()),
        disabled=bool(fields.get("disabled")),
    )


def _keys(text: str) -> Any:
    if not text:
        return None
    try:
        found = orjson.loads(text)
    except ValueError as error:
        raise ClientError("the key set is not JSON") from error
    if not isinstance(found, dict):
        raise ClientError("the key set is an object with the member keys")
    return found


def _fields(client: Client) -> Fields:
    """A client as its form has it."""
    flags = {
        "backend": client.backend,
        "trusted": client.trusted,
        "disabled": client.disabled,
        "refresh": REFRESH in client.grant_types,
    }
    return {
        "client_id": client.client_id,
        "name": client.name,
        "kind": client.kind,
        "scopes": client.scopes,
        "jwks": json.dumps(dict(client.jwks), indent=1) if client.jwks is not None else "",
        "jwks_uri": client.jwks_uri or "",
        "redirect_uris": "\n".join(client.redirect_uris),
        "launch_url": client.launch_url or "",
        "origins": "\n".join(client.origins),
        **{name: "1" for name, flag in flags.items() if flag},
    }
