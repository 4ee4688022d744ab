"""DICOM peers by name, kept in the database so that every process knows the same ones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.rows import class_row

from archive.migrate import migrate

SCHEMA = "dimse"
MIGRATIONS = Path(__file__).parent / "migrations"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:_-]{0,252}|::1")
_ADDRESS = re.compile(r"(?P<ae>[^@]+)@(?P<host>.+):(?P<port>\d{1,5})")


class PeerError(Exception):
    """A peer's name, AE title or address is not valid, or there is no such peer."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A DICOM application entity and where it listens."""

    name: str
    ae_title: str
    host: str
    port: int

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise PeerError("a peer's name is letters, digits, dot, dash and underscore")
        check_ae_title(self.ae_title)
        if not _HOST.fullmatch(self.host):
            raise PeerError("a peer's host is a name or an address")
        if not 1 <= self.port <= 65535:
            raise PeerError("a port is a number from 1 to 65535")

    @classmethod
    def parse(cls, text: str) -> Peer:
        """A peer from `AET@HOST:PORT`, named by its AE title."""
        found = _ADDRESS.fullmatch(text.strip())
        if found is None:
            raise PeerError("a peer's address is AET@HOST:PORT")
        name = re.sub(r"[^A-Za-z0-9._-]", "-", found["ae"].strip()).lstrip("._-") or "peer"
        return cls(name, found["ae"].strip(), found["host"].strip("[]"), int(found["port"]))

    def __str__(self) -> str:
        return f"{self.ae_title}@{self.host}:{self.port}"


def check_ae_title(title: str) -> None:
    """Raise PeerError unless PS3.5 allows this AE title: 1-16 characters, no control, no `\\`."""
    ascii_only = title.isascii() and title.isprintable()
    if not ascii_only or not len(title.strip()) >= 1 or len(title) > 16 or "\\" in title:
        raise PeerError("an AE title is 1 to 16 printable ASCII characters without backslash")


class Peers:
    """The table of peers."""

    def __init__(self, dsn: str) -> None:
        migrate(dsn, SCHEMA, MIGRATIONS)
        self._dsn = dsn

    def add(self, peer: Peer) -> None:
        """Add a peer, or replace the one of the same name."""
        with psycopg.connect(self._dsn) as connection:
            connection.execute(
                "insert into dimse.peer (name, ae_title, host, port) values (%s, %s, %s, %s)"
                " on conflict (name) do update set ae_title = excluded.ae_title,"
                " host = excluded.host, port = excluded.port",
                [peer.name, peer.ae_title, peer.host, peer.port],
            )

    def remove(self, name: str) -> None:
        """Remove a peer. Raises PeerError if there is none of this name."""
        with psycopg.connect(self._dsn) as connection:
            if not connection.execute("delete from dimse.peer where name = %s", [name]).rowcount:
                raise PeerError(f"there is no peer named {name!r}")

    def list(self) -> list[Peer]:
        """All peers by name."""
        with psycopg.connect(self._dsn, row_factory=class_row(Peer)) as connection:
            return connection.execute(
                "select name, ae_title, host, port from dimse.peer order by name"
            ).fetchall()

    def find(self, name: str) -> Peer:
        """The peer of this name. Raises PeerError if there is none."""
        for peer in self.list():
            if peer.name == name:
                return peer
        raise PeerError(f"there is no peer named {name!r}")
