"""Locks between all gateways of an installation: one writes a study or a new patient at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg


class Locks:
    """Named locks of one PostgreSQL session; they fall with it, so a dead process holds none."""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self._connection = connection

    async def take(self, kind: str, name: str) -> None:
        """Wait until nobody else has it. First a study, then an accession number or patient."""
        await self._connection.execute(
            "select pg_advisory_lock(hashtextextended(%s, 20))", [f"{kind}\x1f{name}"]
        )


@asynccontextmanager
async def locks(dsn: str) -> AsyncIterator[Locks]:
    """Locks until the end of the block."""
    connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    async with connection:
        yield Locks(connection)
