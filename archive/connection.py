"""Connections to the database: the writer's own, kept open, and those of a moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import orjson
import psycopg
from psycopg.types.json import set_json_loads

from archive.errors import ArchiveError, ArchiveUnavailable, NotDicom, OutOfSpace

Result = TypeVar("Result")
CONNECT_TIMEOUT_S = 10


def configure(connection: psycopg.Connection, *, durable: bool = True) -> None:
    """Settings that every connection of the archive has."""
    set_json_loads(orjson.loads, connection)
    # A plan for any value has no index for LIKE and cannot tell a rare value from a common one.
    connection.execute("set plan_cache_mode = force_custom_plan")
    if not durable:
        connection.execute("set synchronous_commit = off")


@contextmanager
def connected(dsn: str) -> Iterator[psycopg.Connection]:
    """A connection of a moment; each statement is its own transaction. Raises ArchiveError."""
    try:
        with psycopg.connect(dsn, autocommit=True) as connection:
            set_json_loads(orjson.loads, connection)
            yield connection
    except psycopg.Error as error:
        raise database_error(error) from error


def database_error(error: Exception) -> ArchiveError:
    """What a failed statement means to the caller."""
    if isinstance(error, psycopg.errors.DiskFull):
        return OutOfSpace("the database has no room")
    if isinstance(error, psycopg.DataError | psycopg.errors.ProgramLimitExceeded):
        return NotDicom("an attribute cannot be indexed")
    return ArchiveUnavailable(f"the index does not answer ({type(error).__name__})")


class OwnConnection:
    """One connection for one thread. Work that meets a lost connection is done again, once.

    Work must therefore do no harm when it is done twice.
    """

    def __init__(self, dsn: str, *, durable: bool) -> None:
        self._dsn = dsn
        self._durable = durable
        self._connection: psycopg.Connection | None = None

    def run(self, work: Callable[[psycopg.Connection], Result]) -> Result:
        """The result of `work`; raises psycopg.Error."""
        connection = self._open()
        try:
            return work(connection)
        except psycopg.OperationalError:
            if not connection.closed:
                raise
        return work(self._open())

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()

    def _open(self) -> psycopg.Connection:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._dsn, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S
            )
            configure(self._connection, durable=self._durable)
        return self._connection
