"""The gateway's tables: set up once, from nothing and from what an earlier version left."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from fhir_gateway.schema import MIGRATIONS, make_pool, migrate

FIRST_FORM = """
create schema gateway;
create table gateway.migration (number integer primary key, at timestamptz not null default now());
insert into gateway.migration (number) values (1);
create table gateway.feed_cursor (
    only_row boolean primary key default true check (only_row),
    sequence bigint not null default 0
);
insert into gateway.feed_cursor values (true, 42);
create table gateway.pending_study (
    study_uid text primary key,
    first_sequence bigint not null,
    last_sequence bigint not null,
    due_at timestamptz not null,
    attempts integer not null default 0,
    reason text
);
create index pending_study_due on gateway.pending_study (due_at);
insert into gateway.pending_study values ('1.2.3', 1, 42, now());
"""


@pytest.fixture
def database_of_its_own(postgres, unique):
    name = f"schema_{unique}"
    postgres.create_database(name)
    return postgres.dsn(name)


async def migrated(dsn, times=1):
    pool = make_pool(dsn)
    await pool.open(wait=True)
    await asyncio.gather(*(migrate(pool) for _ in range(times)))
    await pool.close()


def rows(dsn, query):
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()


async def test_processes_that_start_at_once_agree_on_the_schema(database_of_its_own):
    await migrated(database_of_its_own, times=4)

    applied = [n for (n,) in rows(database_of_its_own, "select number from gateway.migration")]
    assert sorted(applied) == sorted(int(one.name[:4]) for one in MIGRATIONS.glob("*.sql"))
    assert rows(database_of_its_own, "select sequence from gateway.feed_cursor") == [(0,)]


async def test_tables_of_an_earlier_version_keep_their_rows(database_of_its_own):
    with psycopg.connect(database_of_its_own) as connection:
        connection.execute(FIRST_FORM)

    await migrated(database_of_its_own)
    await migrated(database_of_its_own)

    assert rows(database_of_its_own, "select sequence from gateway.feed_cursor") == [(42,)]
    assert rows(database_of_its_own, "select study_uid from gateway.pending_study") == [("1.2.3",)]
    assert rows(database_of_its_own, "select uid from gateway.workitem_link") == []
