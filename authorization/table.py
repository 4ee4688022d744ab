"""The tables of the authorization server: kept up to date, and a connection for each piece of work.

There is no pool: people and apps come here seldom, the doors with each request do not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg

from database import migrate

SCHEMA = "authorization_server"
MIGRATIONS = Path(__file__).parent / "migrations"


class Table:
    """A part of the tables. Blocking: call it from a thread."""

    def __init__(self, dsn: str) -> None:
        migrate(dsn, SCHEMA, MIGRATIONS)
        self._dsn = dsn

    def _open(self) -> psycopg.Connection[Any]:
        """A connection; as a context it commits, unless something goes wrong, and closes."""
        return psycopg.connect(self._dsn, connect_timeout=5)
