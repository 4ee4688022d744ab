"""Numbered SQL files, applied once each, under a lock, in order; safe to run from every process."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import structlog
from psycopg import sql

log = structlog.get_logger(__name__)

_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")


class MigrationError(Exception):
    """An applied migration was changed afterwards, or its file is named wrongly."""


def migrate(dsn: str, schema: str, folder: Path) -> list[int]:
    """Bring `schema` up to date; returns the numbers applied now.

    Each file is one transaction together with its record, so that an interrupted run goes on
    where it stopped. A file that was changed after it had been applied is an error.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("select pg_advisory_lock(hashtext(%s))", [f"migrate:{schema}"])
        done = _recorded(connection, schema)
        applied = []
        for number, name, text in _files(folder):
            digest = hashlib.sha256(text.encode()).hexdigest()
            if number in done:
                if done[number] != digest:
                    raise MigrationError(f"{schema}: {name} was changed after it was applied")
                continue
            with connection.transaction():
                connection.execute(text)
                connection.execute(
                    sql.SQL(
                        "insert into {}.migration (number, name, sha256) values (%s, %s, %s)"
                    ).format(sql.Identifier(schema)),
                    [number, name, digest],
                )
            log.info("migration applied", schema=schema, name=name)
            applied.append(number)
        return applied


def _recorded(connection: psycopg.Connection, schema: str) -> dict[int, str]:
    connection.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(schema)))
    connection.execute(
        sql.SQL(
            "create table if not exists {}.migration (number int primary key, name text not null,"
            " sha256 text not null, applied_at timestamptz not null default now())"
        ).format(sql.Identifier(schema))
    )
    rows = connection.execute(
        sql.SQL("select number, sha256 from {}.migration").format(sql.Identifier(schema))
    )
    return dict(rows.fetchall())


def _files(folder: Path) -> Iterator[tuple[int, str, str]]:
    for path in sorted(folder.glob("*.sql")):
        found = _NAME.fullmatch(path.name)
        if found is None:
            raise MigrationError(f"{path.name} is not named NNNN_what.sql")
        yield int(found[1]), path.name, path.read_text(encoding="utf-8")
