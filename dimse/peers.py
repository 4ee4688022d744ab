"""DICOM peers by name, kept in the database so that every process knows the same ones."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import psycopg
from psycopg.rows import dict_row
from pydicom.charset import python_encoding
from pydicom.uid import UID

from database import migrate

SCHEMA = "dimse"
MIGRATIONS = Path(__file__).parent / "migrations"

# What a peer may do here. MPPS goes with the worklist, storage commitment with storing.
Right = Literal["store", "query", "retrieve", "worklist"]
RIGHTS: tuple[Right, ...] = get_args(Right)
ALL_RIGHTS: frozenset[Right] = frozenset(RIGHTS)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:_-]{0,252}|::1")
_ADDRESS = re.compile(r"(?P<ae>[^@]+)@(?P<host>.+):(?P<port>\d{1,5})")
_SUBJECT_CHARS = 256
_DESCRIPTION_CHARS = 500


class PeerError(Exception):
    """A peer's name, AE title, address or other field is not valid, or there is no such peer."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A DICOM application entity: where it listens, what it may do here, how we speak with it.

    Attributes:
        rights: What it may do when it calls us.
        addresses: Networks (CIDR) that it may call from; empty for anywhere.
        tls: We call it over TLS, and it must call us over TLS.
        tls_subject: A name of its client certificate (`ct1.example`, or with its kind `CN=CT 1`,
            `DNS=ct1.example`); it may call only with such a certificate.
        character_set: Specific Character Set that it understands; None leaves the choice to us.
        transfer_syntaxes: What it likes to be sent, best first; empty for any.
    """

    name: str
    ae_title: str
    host: str
    port: int
    rights: frozenset[Right] = ALL_RIGHTS
    addresses: tuple[str, ...] = ()
    tls: bool = False
    tls_subject: str | None = None
    character_set: str | None = None
    transfer_syntaxes: tuple[str, ...] = ()
    description: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise PeerError("a peer's name is letters, digits, dot, dash and underscore")
        check_ae_title(self.ae_title)
        if not _HOST.fullmatch(self.host):
            raise PeerError("a peer's host is a name or an address")
        if not 1 <= self.port <= 65535:
            raise PeerError("a port is a number from 1 to 65535")
        check_rights(self.rights)
        for network in self.addresses:
            check_network(network)
        _check_text("a certificate's name", self.tls_subject, _SUBJECT_CHARS)
        _check_text("a description", self.description, _DESCRIPTION_CHARS)
        _check_character_set(self.character_set)
        for syntax in self.transfer_syntaxes:
            if not UID(syntax).is_transfer_syntax:
                raise PeerError(f"{syntax!r} is not the UID of a transfer syntax")

    @classmethod
    def parse(cls, text: str) -> Peer:
        """A peer from `AET@HOST:PORT`, named by its AE title."""
        found = _ADDRESS.fullmatch(text.strip())
        if found is None:
            raise PeerError("a peer's address is AET@HOST:PORT")
        name = re.sub(r"[^A-Za-z0-9._-]", "-", found["ae"].strip()).lstrip("._-") or "peer"
        return cls(name, found["ae"].strip(), found["host"].strip("[]"), int(found["port"]))

    def allows_address(self, address: str) -> bool:
        """Whether it may call from this IP address."""
        return not self.addresses or is_inside(address, self.addresses)

    def __str__(self) -> str:
        return f"{self.ae_title}@{self.host}:{self.port}"


def check_ae_title(title: str) -> None:
    """Raise PeerError unless PS3.5 allows this AE title: 1-16 characters, no control, no `\\`."""
    ascii_only = title.isascii() and title.isprintable()
    if not ascii_only or not len(title.strip()) >= 1 or len(title) > 16 or "\\" in title:
        raise PeerError("an AE title is 1 to 16 printable ASCII characters without backslash")


def check_rights(rights: Iterable[str]) -> frozenset[Right]:
    """The rights. Raises PeerError for a word that is none."""
    unknown = sorted(set(rights) - ALL_RIGHTS)
    if unknown:
        raise PeerError(f"{unknown[0]!r} is not a right; there are {', '.join(RIGHTS)}")
    return frozenset(right for right in RIGHTS if right in set(rights))


def check_network(text: str) -> None:
    """Raise PeerError unless this is an IP address or a network such as 10.1.0.0/16."""
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise PeerError(
            f"{text!r} is not an IP address or network such as 10.1.0.7 or 10.1.0.0/16 ({error})"
        ) from error


def is_inside(address: str, networks: Iterable[str]) -> bool:
    """Whether an IP address lies in one of the networks; an IPv4 one may come as ::ffff:a.b.c.d."""
    try:
        one = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(one, ipaddress.IPv6Address) and one.ipv4_mapped is not None:
        one = one.ipv4_mapped
    return any(one in ipaddress.ip_network(network) for network in networks)


def _check_text(what: str, text: str | None, longest: int) -> None:
    if text is None:
        return
    if len(text) > longest or not all(char.isprintable() for char in text):
        raise PeerError(f"{what} is at most {longest} printable characters")


def _check_character_set(text: str | None) -> None:
    if text is not None and any(part not in python_encoding for part in text.split("\\")):
        raise PeerError(
            f"{text!r} is not a Specific Character Set; for example ISO_IR 192 (UTF-8), ISO_IR 100"
        )


_COLUMNS = tuple(field.name for field in fields(Peer))
_LISTS = ("addresses", "transfer_syntaxes")


def _row(peer: Peer) -> list[Any]:
    """The values of a peer in the order of _COLUMNS."""
    values = {name: getattr(peer, name) for name in _COLUMNS}
    values["rights"] = [right for right in RIGHTS if right in peer.rights]
    values.update({name: list(values[name]) for name in _LISTS})
    return [values[name] for name in _COLUMNS]


def _peer(row: dict[str, Any]) -> Peer:
    lists = {name: tuple(row[name]) for name in _LISTS}
    return Peer(**{**row, **lists, "rights": frozenset(row["rights"])})


class Peers:
    """The table of peers."""

    def __init__(self, dsn: str) -> None:
        migrate(dsn, SCHEMA, MIGRATIONS)
        self._dsn = dsn

    @property
    def dsn(self) -> str:
        """URL of the database that holds the table."""
        return self._dsn

    def add(self, peer: Peer) -> None:
        """Add a peer, or replace the one of the same name."""
        updates = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])
        places = ", ".join(["%s"] * len(_COLUMNS))
        with psycopg.connect(self._dsn) as connection:
            connection.execute(
                f"insert into dimse.peer ({', '.join(_COLUMNS)}) values ({places})"  # noqa: S608
                f" on conflict (name) do update set {updates}".encode(),
                _row(peer),
            )

    def remove(self, name: str) -> None:
        """Remove a peer. Raises PeerError if there is none of this name."""
        with psycopg.connect(self._dsn) as connection:
            if not connection.execute("delete from dimse.peer where name = %s", [name]).rowcount:
                raise PeerError(f"there is no peer named {name!r}")

    def list(self) -> list[Peer]:
        """All peers by name."""
        with psycopg.connect(self._dsn) as connection:
            return read_peers(connection)

    def find(self, name: str) -> Peer:
        """The peer of this name. Raises PeerError if there is none."""
        for peer in self.list():
            if peer.name == name:
                return peer
        raise PeerError(f"there is no peer named {name!r}; `hilum peers list` shows all")


def read_peers(connection: psycopg.Connection[Any]) -> list[Peer]:
    """All peers by name, over a connection that is open."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            f"select {', '.join(_COLUMNS)} from dimse.peer order by name".encode()  # noqa: S608
        )
        return [_peer(row) for row in rows]
