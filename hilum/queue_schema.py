"""The job queue's tables, in a schema of their own."""

from __future__ import annotations

import procrastinate
import psycopg
from psycopg import sql

LOCK = 7_403_001  # advisory lock: of several processes that start at once, one makes the tables


def ensure(dsn: str, schema: str) -> bool:
    """Make the queue's tables when they are not there. True when this call made them."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("select pg_advisory_lock(%s)", (LOCK,))
        found = connection.execute(
            "select to_regclass(%s) is not null", (f"{schema}.procrastinate_jobs",)
        ).fetchone()
        if found and found[0]:
            return False
        manager = procrastinate.App(
            connector=procrastinate.SyncPsycopgConnector(conninfo=dsn)
        ).schema_manager
        name = sql.Identifier(schema)
        with connection.transaction():
            connection.execute(sql.SQL("create schema if not exists {}").format(name))
            connection.execute(sql.SQL("set local search_path to {}").format(name))
            connection.execute(manager.get_schema())
        return True
