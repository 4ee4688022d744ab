"""The gateway's own tables: schema `gateway`, migrated in order at start."""

from __future__ import annotations

from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

Pool = AsyncConnectionPool[AsyncConnection[DictRow]]

MIGRATION_LOCK = 0x48_49_4C_01  # "HIL" 1
LEADER_LOCK = 0x48_49_4C_02
WORKITEM_LOCK = 0x48_49_4C_03

MIGRATIONS = (
    """
    create table gateway.feed_cursor (
        only_row boolean primary key default true check (only_row),
        sequence bigint not null default 0
    );
    insert into gateway.feed_cursor default values;
    create table gateway.pending_study (
        study_uid text primary key,
        first_sequence bigint not null,
        last_sequence bigint not null,
        due_at timestamptz not null,
        attempts integer not null default 0,
        reason text
    );
    create index pending_study_due on gateway.pending_study (due_at);
    create table gateway.published_study (
        study_uid text primary key,
        imaging_study_id text not null,
        content_hash text not null,
        last_change bigint not null,
        published_at timestamptz not null default now()
    );
    create table gateway.export_job (
        id uuid primary key,
        subject text not null,
        client text,
        request text not null,
        upstream text not null,
        types text[] not null,
        state text not null check (state in ('running', 'complete', 'failed')),
        transaction_time text,
        files jsonb not null default '[]',
        reason text,
        created_at timestamptz not null default now(),
        expires_at timestamptz
    );
    """,
    """
    create table gateway.workitem_link (
        uid text primary key,
        task_id text not null,
        ended boolean not null default false
    );
    create index workitem_link_task on gateway.workitem_link (task_id);
    create index workitem_link_open on gateway.workitem_link (uid) where not ended;
    create table gateway.workitem_cursor (
        only_row boolean primary key default true check (only_row),
        at timestamptz not null
    );
    insert into gateway.workitem_cursor (at) values (now() - interval '7 days');
    """,
)


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
    async with pool.connection() as connection, connection.transaction():
        await connection.execute("select pg_advisory_xact_lock(%s)", [MIGRATION_LOCK])
        await connection.execute("create schema if not exists gateway")
        await connection.execute(
            "create table if not exists gateway.migration "
            "(number integer primary key, at timestamptz not null default now())"
        )
        cursor = await connection.execute(
            "select coalesce(max(number), 0) n from gateway.migration"
        )
        row = await cursor.fetchone()
        done = row["n"] if row else 0
        for number, statements in enumerate(MIGRATIONS[done:], start=done + 1):
            await connection.execute(statements.encode())
            await connection.execute("insert into gateway.migration values (%s)", [number])
