"""`hilum clients`: which apps may ask for access."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import orjson
import psycopg
import typer
from rich.markup import escape
from rich.table import Table

from access.errors import AccessError
from authorization.clients import CODE, CREDENTIALS, KINDS, REFRESH, Client, Clients
from authorization.errors import AuthorizationError, ClientError
from fhir_gateway.leavings import Leavings
from hilum.commands.console import DataOption, database_of, fail, out, read_settings
from hilum.commands.operating import endings_of, recorded

app = typer.Typer(
    help="The SMART apps and backends that may ask for access, and what each may be granted.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

NameOption = Annotated[str | None, typer.Option(help="Name as people see it.")]
ScopeOption = Annotated[
    str | None,
    typer.Option(help="The most it may be granted: SMART scopes with spaces between them."),
]
RedirectOption = Annotated[
    list[str] | None,
    typer.Option(
        "--redirect-uri",
        help="Where people are sent back to, to the letter (repeatable).",
    ),
]
LaunchOption = Annotated[
    str | None, typer.Option("--launch-url", help="Page that begins an EHR launch; 'none'.")
]
OriginOption = Annotated[
    list[str] | None,
    typer.Option("--origin", help="Origin of its web pages, for CORS (repeatable); 'none'."),
]
JwksOption = Annotated[
    Path | None, typer.Option("--jwks", help="File with its public keys (a JSON Web Key Set).")
]
JwksUriOption = Annotated[
    str | None, typer.Option("--jwks-uri", help="URL at which it publishes them.")
]
TrustedOption = Annotated[
    bool | None,
    typer.Option(
        "--trusted/--not-trusted",
        help="Whether people are not asked for consent; a trusted backend may begin launches.",
    ),
]
RefreshOption = Annotated[
    bool | None,
    typer.Option("--refresh/--no-refresh", help="Whether it may get refresh tokens."),
]


@contextmanager
def _clients(data: Path | None) -> Iterator[Clients]:
    """The table; what is refused becomes a message and exit status 1."""
    try:
        dsn = database_of(data)
        yield Clients(dsn, Leavings(dsn).of_client)
    except (AuthorizationError, AccessError) as error:
        fail(error)
    except psycopg.OperationalError as error:
        fail(f"the database does not answer: {error}")


@app.command("list")
def show_all(data: DataOption = None) -> None:
    """Show the clients."""
    with _clients(data) as clients:
        table = Table(
            "client", "name", "kind", "scopes", "is answered at", "state", show_edge=False
        )
        for one in clients.list():
            kind = f"{one.kind} backend" if one.backend else one.kind
            words = ["disabled"] if one.disabled else []
            words += ["trusted"] if one.trusted else []
            table.add_row(
                one.client_id,
                escape(one.name),
                kind,
                escape(one.scopes),
                escape("\n".join(one.redirect_uris)),
                ", ".join(words),
            )
        out.print(table if table.row_count else "no clients; `hilum clients add ID ...`")


@app.command("add")
def add(
    client_id: str,
    kind: Annotated[
        str, typer.Option(help="public; symmetric (gets a secret); asymmetric (signs).")
    ] = "public",
    name: NameOption = None,
    scope: ScopeOption = None,
    redirect_uri: RedirectOption = None,
    launch_url: LaunchOption = None,
    origin: OriginOption = None,
    jwks: JwksOption = None,
    jwks_uri: JwksUriOption = None,
    backend: Annotated[
        bool, typer.Option("--backend", help="A machine without a person at it.")
    ] = False,
    trusted: TrustedOption = None,
    refresh: RefreshOption = None,
    data: DataOption = None,
) -> None:
    """Register a client. The secret of a symmetric one is shown once.

    For example: hilum clients add growth --redirect-uri https://growth.example.org/
    --scope 'launch openid fhirUser patient/*.rs' --origin https://growth.example.org
    """
    if kind not in KINDS:
        fail(f"{kind!r} is not a kind; there are {', '.join(KINDS)}")
    grants = (CREDENTIALS,) if backend else (CODE, REFRESH)
    with _clients(data) as clients:
        client = Client(
            client_id=client_id,
            kind=kind,
            name=name or client_id,
            scopes=scope or "",
            backend=backend,
            **{
                "grant_types": grants,
                **_given(
                    redirect_uri, launch_url, origin, jwks, jwks_uri, trusted, refresh, grants
                ),
            },
        )
        with recorded(read_settings(data), f"client {client_id} registered: {client.told}"):
            secret = clients.add(client)
        out.print(f"{client.client_id} is registered", highlight=False)
        if secret is not None:
            out.print(f"secret, shown only now: {secret}", highlight=False, soft_wrap=True)


@app.command("set")
def change(
    client_id: str,
    name: NameOption = None,
    scope: ScopeOption = None,
    redirect_uri: RedirectOption = None,
    launch_url: LaunchOption = None,
    origin: OriginOption = None,
    jwks: JwksOption = None,
    jwks_uri: JwksUriOption = None,
    trusted: TrustedOption = None,
    refresh: RefreshOption = None,
    disabled: Annotated[
        bool | None,
        typer.Option("--disabled/--enabled", help="A disabled one gets nothing; its tokens end."),
    ] = None,
    data: DataOption = None,
) -> None:
    """Change what is given of a client."""
    with _clients(data) as clients:
        client = _found(clients, client_id)
        given = _given(
            redirect_uri, launch_url, origin, jwks, jwks_uri, trusted, refresh, client.grant_types
        )
        given |= {"name": name} if name is not None else {}
        given |= {"scopes": scope} if scope is not None else {}
        given |= {"disabled": disabled} if disabled is not None else {}
        changed = replace(client, **given)
        with recorded(read_settings(data), f"client {client_id} changed: {changed.told}"):
            with endings_of(data) as endings:
                endings.client_changed(client, changed)
            clients.change(changed)
        out.print(f"{client_id} is changed", highlight=False)


@app.command("remove")
def remove(client_id: str, data: DataOption = None) -> None:
    """Remove a client for good; what it was given ends."""
    with _clients(data) as clients:
        _found(clients, client_id)
        with recorded(read_settings(data), f"client {client_id} removed"):
            with endings_of(data) as endings:
                endings.of_client(client_id)
            clients.remove(client_id)
        out.print(f"{client_id} removed", highlight=False)


@app.command("rotate-secret")
def rotate_secret(client_id: str, data: DataOption = None) -> None:
    """Give a symmetric client a new secret, which is shown once; the old one ends at once."""
    with _clients(data) as clients:
        _found(clients, client_id)
        with recorded(read_settings(data), f"client {client_id}: new secret"):
            secret = clients.rotate_secret(client_id)
        out.print(f"secret, shown only now: {secret}", highlight=False, soft_wrap=True)


def _given(
    redirect_uri: list[str] | None,
    launch_url: str | None,
    origin: list[str] | None,
    jwks: Path | None,
    jwks_uri: str | None,
    trusted: bool | None,
    refresh: bool | None,
    grants: tuple[str, ...],
) -> dict[str, Any]:
    """The members that were given, as the client has them."""
    found: dict[str, Any] = {}
    if redirect_uri is not None:
        found["redirect_uris"] = tuple(redirect_uri)
    if launch_url is not None:
        found["launch_url"] = None if launch_url == "none" else launch_url
    if origin is not None:
        found["origins"] = () if origin == ["none"] else tuple(origin)
    if jwks is not None:
        found |= {"jwks": _read_keys(jwks), "jwks_uri": None}
    if jwks_uri is not None:
        found |= {"jwks": None, "jwks_uri": jwks_uri}
    if trusted is not None:
        found["trusted"] = trusted
    if refresh is not None:
        rest = tuple(one for one in grants if one != REFRESH)
        found["grant_types"] = (*rest, REFRESH) if refresh else rest
    return found


def _read_keys(path: Path) -> Any:
    try:
        return orjson.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        fail(f"{path} is no JSON Web Key Set: {error}")


def _found(clients: Clients, client_id: str) -> Client:
    client = clients.find(client_id)
    if client is None:
        raise ClientError(f"there is no client {client_id!r}; `hilum clients list` shows all")
    return client
