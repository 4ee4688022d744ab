"""The gateway's own tables: schema `gateway`, from the numbered files in `migrations/`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

import database

Pool = AsyncConnectionPool[AsyncConnection[DictRow]]

SCHEMA = "gateway"
MIGRATIONS = Path(__file__).parent / "migrations"
FIRST_LOCK = 0x48_49_4C_01  # "HIL" 1
LEADER_LOCK = 0x48_49_4C_02
WORKITEM_LOCK = 0x48_49_4C_03
SUBSCRIPTION_LOCK = 0x48_49_4C_21
ORDER_LOCK = 0x48_49_4C_04
PERFORMED_LOCK = 0x48_49_4C_05
MERGE_LOCK = 0x48_49_4C_06


def make_pool(dsn: str, *, size: int = 4) -> Pool:
    """A connection pool that is not open yet; rows come as dictionaries."""
    return AsyncConnectionPool(
        dsn,
        min_size=1,
        max_size=size,
        open=False,
        timeout=10.0,
        kwargs={"row_factory": dict_row},
        connection_class=AsyncConnection[DictRow],
        check=AsyncConnectionPool.check_connection,
        name="gateway",
    )


async def migrate(pool: Pool) -> None:
    """Bring the schema up to date; several processes may do this at once."""
    await asyncio.to_thread(_migrate, str(pool.conninfo))


def _migrate(dsn: str) -> None:
    _drop_first_record(dsn)
    database.migrate(dsn, SCHEMA, MIGRATIONS)


def _drop_first_record(dsn: str) -> None:
    """Forget a record of another form, which earlier versions kept: numbers without files.

    What it stood for is file 1, which changes nothing where it is there already.
    """
    with psycopg.connect(dsn) as connection:
        connection.execute("select pg_advisory_xact_lock(%s)", [FIRST_LOCK])
        of_that_form = connection.execute(
            "select 1 from information_schema.tables t where table_schema = %(schema)s"
            " and table_name = 'migration' and not exists (select 1 from"
            " information_schema.columns c where c.table_schema = %(schema)s"
            " and c.table_name = t.table_name and c.column_name = 'sha256')",
            {"schema": SCHEMA},
        ).fetchone()
        if of_that_form:
            connection.execute("drop table gateway.migration")
