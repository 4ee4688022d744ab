"""The registered apps: who they are, how they prove it, and what they may ask for."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from access import passwords
from authorization.client_keys import check_key_set
from authorization.errors import ClientError
from authorization.table import Pool, Table

Kind = Literal["public", "symmetric", "asymmetric"]
KINDS: tuple[Kind, ...] = ("public", "symmetric", "asymmetric")
CODE, REFRESH, CREDENTIALS = "authorization_code", "refresh_token", "client_credentials"
GRANT_TYPES = (CODE, REFRESH, CREDENTIALS)
_SECRET_BYTES = 32
_CLIENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}", re.ASCII)
_PRIVATE_SCHEME = re.compile(r"[a-z][a-z0-9+-]*(\.[a-z0-9+-]+)+", re.ASCII)  # RFC 8252 7.1
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_COLUMNS = (
    b"client_id, name, kind, jwks, jwks_uri, redirect_uris, launch_url, scopes, grant_types,"
    b" backend, trusted, origins, disabled"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One registered app.

    Attributes:
        kind: public (no credential), symmetric (a secret) or asymmetric (signs with its key).
        jwks: public keys of an asymmetric client, when they are kept here.
        jwks_uri: where they are published, when they are not.
        redirect_uris: where people may be sent back to; each is compared character by character.
        launch_url: page that begins an EHR launch.
        scopes: the most it may be granted, space-separated; of a backend what is pre-authorized.
        grant_types: of GRANT_TYPES.
        backend: a machine without a person at it (SMART Backend Services).
        trusted: people are not asked for consent.
        origins: web pages that may call the token endpoint, such as https://app.example.org.
        disabled: kept for the record, gets nothing.
    """

    client_id: str
    name: str
    kind: Kind
    scopes: str
    jwks: Mapping[str, Any] | None = None
    jwks_uri: str | None = None
    redirect_uris: tuple[str, ...] = ()
    launch_url: str | None = None
    grant_types: tuple[str, ...] = (CODE,)
    backend: bool = False
    trusted: bool = False
    origins: tuple[str, ...] = field(default=())
    disabled: bool = False

    def __post_init__(self) -> None:
        if not _CLIENT_ID.fullmatch(self.client_id):
            raise ClientError("a client id is 1 to 128 letters, digits and . _ ~ -")
        if not 1 <= len(self.name) <= 200 or not self.name.isprintable():
            raise ClientError("a client has a name of at most 200 printable characters")
        if self.kind not in KINDS:
            raise ClientError(f"{self.kind!r} is not a kind; there are {', '.join(KINDS)}")
        _check_grants(self)
        _check_keys(self)
        _check_addresses(self)

    @property
    def told(self) -> str:
        """What it may be granted and where, for the audit trail."""
        words = [self.kind, "backend" * self.backend, "trusted" * self.trusted]
        words += ["disabled" * self.disabled, f"scopes {self.scopes}", *self.redirect_uris]
        return ", ".join(one for one in words if one)

    def may_redirect_to(self, uri: str) -> bool:
        """Whether this very text is registered: no prefix, no other case, no other port."""
        return uri in self.redirect_uris


class Clients(Table):
    """The table of clients.

    Args:
        database: see `Table`.
        beginning: clears what an earlier holder has left under an id, before a new one has it.
    """

    def __init__(
        self, database: str | Pool, beginning: Callable[[str], object] | None = None
    ) -> None:
        super().__init__(database)
        self._beginning = beginning

    def list(self) -> list[Client]:
        """All clients by id."""
        with self._open() as connection, connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(
                b"select " + _COLUMNS + b" from authorization_server.client order by client_id"
            )
            return [_client(row) for row in cursor]

    def find(self, client_id: str) -> Client | None:
        """The client of this id, disabled or not."""
        if not _CLIENT_ID.fullmatch(client_id):
            return None  # PostgreSQL refuses some texts with an error
        with self._open() as connection, connection.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute(
                b"select " + _COLUMNS + b" from authorization_server.client where client_id = %s",
                [client_id],
            ).fetchone()
        return _client(row) if row else None

    def add(self, client: Client) -> str | None:
        """Register a client; the secret of a symmetric one, which is shown only now.

        Raises ClientError if the id is taken.
        """
        secret = _new_secret() if client.kind == "symmetric" else None
        values = {**_values(client), "secret": passwords.rehash(secret) if secret else None}
        with self._open() as connection:
            done = connection.execute(
                b"insert into authorization_server.client (" + _COLUMNS + b", secret) values"
                b" (%(client_id)s, %(name)s, %(kind)s, %(jwks)s, %(jwks_uri)s, %(redirect_uris)s,"
                b" %(launch_url)s, %(scopes)s, %(grant_types)s, %(backend)s, %(trusted)s,"
                b" %(origins)s, %(disabled)s, %(secret)s) on conflict do nothing",
                values,
            )
            if not done.rowcount:
                raise ClientError(f"there is a client {client.client_id!r} already")
            if self._beginning is not None:
                self._beginning(client.client_id)
        return secret

    def change(self, client: Client) -> None:
        """Change all but the id, the kind and the secret. Raises ClientError if there is none."""
        with self._open() as connection:
            done = connection.execute(
                b"update authorization_server.client set name = %(name)s, jwks = %(jwks)s,"
                b" jwks_uri = %(jwks_uri)s, redirect_uris = %(redirect_uris)s,"
                b" launch_url = %(launch_url)s, scopes = %(scopes)s,"
                b" grant_types = %(grant_types)s, backend = %(backend)s, trusted = %(trusted)s,"
                b" origins = %(origins)s, disabled = %(disabled)s, changed_at = now()"
                b" where client_id = %(client_id)s and kind = %(kind)s",
                _values(client),
            )
            if not done.rowcount:
                raise ClientError(f"there is no {client.kind} client {client.client_id!r}")

    def remove(self, client_id: str) -> None:
        """Forget a client and every authorization it had. Raises ClientError if there is none.

        Access tokens that are out live on until they expire: end them first (`Endings.of_client`).
        """
        with self._open() as connection:
            done = connection.execute(
                b"delete from authorization_server.client where client_id = %s", [client_id]
            )
            if not done.rowcount:
                raise _nobody(client_id)

    def rotate_secret(self, client_id: str) -> str:
        """Give a symmetric client a new secret; the old one ends at once."""
        secret = _new_secret()
        with self._open() as connection:
            done = connection.execute(
                b"update authorization_server.client set secret = %s, changed_at = now()"
                b" where client_id = %s and kind = 'symmetric'",
                [passwords.rehash(secret), client_id],
            )
            if not done.rowcount:
                raise ClientError(f"there is no symmetric client {client_id!r}")
        return secret

    def is_secret(self, client_id: str, secret: str) -> bool:
        """Whether this is the client's secret; as slow when there is no such client."""
        kept = None
        if _CLIENT_ID.fullmatch(client_id):
            with self._open() as connection:
                row = connection.execute(
                    b"select secret from authorization_server.client where client_id = %s",
                    [client_id],
                ).fetchone()
            kept = row[0] if row else None
        return passwords.is_right(secret, kept)

    def backend_sid(self, client_id: str) -> str | None:
        """What the tokens of an enabled backend carry and end with; None: it may have none."""
        with self._open() as connection:
            row = connection.execute(
                b"select backend_sid from authorization_server.client"
                b" where client_id = %s and backend and not disabled",
                [client_id],
            ).fetchone()
        return str(row[0]) if row else None


def _client(row: dict[str, Any]) -> Client:
    lists = ("redirect_uris", "grant_types", "origins")
    return Client(**{**row, **{name: tuple(row[name]) for name in lists}})


def _values(client: Client) -> dict[str, Any]:
    values = {name: getattr(client, name) for name in Client.__dataclass_fields__}
    lists = ("redirect_uris", "grant_types", "origins")
    jwks = Jsonb(dict(client.jwks)) if client.jwks is not None else None
    return {**values, **{name: list(values[name]) for name in lists}, "jwks": jwks}


def _new_secret() -> str:
    return secrets.token_urlsafe(_SECRET_BYTES)


def _nobody(client_id: str) -> ClientError:
    return ClientError(f"there is no client {client_id!r}; `hilum clients list` shows all")


def _check_grants(client: Client) -> None:
    unknown = [one for one in client.grant_types if one not in GRANT_TYPES]
    if unknown or not client.grant_types:
        raise ClientError(f"grant types are {', '.join(GRANT_TYPES)}")
    if client.backend != (CREDENTIALS in client.grant_types):
        raise ClientError(f"a backend, and nobody else, has the grant type {CREDENTIALS}")
    if client.backend and (client.kind != "asymmetric" or CODE in client.grant_types):
        raise ClientError("a backend is an asymmetric client and has no other grant type")
    if client.backend and REFRESH in client.grant_types:
        raise ClientError("a backend gets no refresh tokens: it asks again")
    if not client.scopes.split():
        raise ClientError("a client is registered with the scopes that it may be granted")
    if not client.scopes.isprintable() or not client.scopes.isascii():
        raise ClientError("scopes are printable ASCII, with spaces between them")
    if client.backend and not all(one.startswith("system/") for one in client.scopes.split()):
        raise ClientError("the scopes of a backend begin with system/")


def _check_keys(client: Client) -> None:
    has = [one for one in (client.jwks, client.jwks_uri) if one is not None]
    if client.kind != "asymmetric" and has:
        raise ClientError(f"a {client.kind} client has no keys")
    if client.kind == "asymmetric" and len(has) != 1:
        raise ClientError("an asymmetric client has a key set or the URL of one, not both")
    if client.jwks is not None:
        check_key_set(client.jwks)
    if client.jwks_uri is not None and not is_web(client.jwks_uri):
        raise ClientError("the URL of a key set begins with https://")


def _check_addresses(client: Client) -> None:
    if CODE in client.grant_types and not client.redirect_uris:
        raise ClientError("an app that people use is registered with a redirect URI")
    for uri in client.redirect_uris:
        if not is_web(uri) and not _is_private(uri):
            raise ClientError(
                f"{uri!r}: a redirect URI is https, http on this machine, or has a scheme of the "
                "app's own such as org.example.app:/back; without fragment or user"
            )
    if client.launch_url is not None and not is_web(client.launch_url):
        raise ClientError("a launch URL is https, or http on this machine")
    for origin in client.origins:
        if not is_web(origin) or "/" in origin.partition("://")[2] or "?" in origin:
            raise ClientError(f"{origin!r}: an origin is a scheme, a host and maybe a port")


def is_web(uri: str) -> bool:
    """Whether it is an https URL, or http on the loopback (RFC 8252 7.3)."""
    parts = _split(uri)
    if parts is None or not parts[1]:
        return False
    return parts[0] == "https" or (parts[0] == "http" and parts[1] in _LOOPBACK)


def _is_private(uri: str) -> bool:
    parts = _split(uri)
    return parts is not None and _PRIVATE_SCHEME.fullmatch(parts[0]) is not None


def _split(uri: str) -> tuple[str, str | None] | None:
    """Scheme and host; None for what is no such URI or carries a fragment or a user."""
    if not uri.isascii() or not uri.isprintable() or " " in uri or "#" in uri or "\\" in uri:
        return None
    try:
        parts = urlsplit(uri)
        if parts.username is not None or parts.password is not None or parts.port == 0:
            return None
        return parts.scheme, parts.hostname
    except ValueError:
        return None
