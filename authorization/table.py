"""The tables of the authorization server: kept up to date; a connection for each piece of work."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool

from database import migrate

SCHEMA = "authorization_server"
MIGRATIONS = Path(__file__).parent / "migrations"
Pool = ConnectionPool[psycopg.Connection[Any]]


def make_pool(dsn: str, size: int) -> Pool:
    """Connections for a server: a refresh takes five, and to open them took most of its time."""
    check = ConnectionPool.check_connection
    return ConnectionPool(dsn, min_size=1, max_size=size, timeout=5, check=check, open=True)


class Table:
    """A part of the tables. Blocking: call it from a thread.

    Args:
        database: the connections of a server, or the DSN for a command that needs a few.
    """

    def __init__(self, database: str | Pool) -> None:
        self._pool = None if isinstance(database, str) else database
        self._dsn = database if isinstance(database, str) else str(database.conninfo)
        migrate(self._dsn, SCHEMA, MIGRATIONS)

    def _open(self) -> AbstractContextManager[psycopg.Connection[Any]]:
        """A connection; as a context it commits, unless something goes wrong, and is let go."""
        if self._pool is not None:
            return self._pool.connection()
        return psycopg.connect(self._dsn, connect_timeout=5)
