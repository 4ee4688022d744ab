"""The archive and its database: migrations, lost connections, processes side by side."""

from __future__ import annotations

import threading

import psycopg
import pytest

from archive import Archive, ArchiveUnavailable
from database import MigrationError, migrate
from tests.archive.phantom import slice_of


def test_lost_connections_are_replaced_and_nothing_is_lost(archive, config, put):
    kept = [put(archive, slice_of()).key]

    with psycopg.connect(config.dsn, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
    kept.append(put(archive, slice_of()).key)

    assert [change.key for change in archive.changes(0, 10)] == kept


def test_an_index_that_refuses_a_write_is_told_as_unavailable_and_recovers(archive, config, put):
    with psycopg.connect(config.dsn, autocommit=True) as connection:
        connection.execute("alter table archive.change rename to change_away")
        with pytest.raises(ArchiveUnavailable):
            put(archive, slice_of())
        connection.execute("alter table archive.change_away rename to change")

    assert put(archive, slice_of()).outcome == "stored"


def test_archives_that_open_at_once_agree_on_the_schema(config):
    opened, failures = [], []

    def start():
        try:
            opened.append(Archive.open(config))
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    for archive in opened:
        archive.close()

    assert not failures
    assert len(opened) == 4


def test_migrations_are_applied_once_in_order_and_go_on_after_a_failure(config, tmp_path):
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0001_first.sql").write_text("create table archive.first (a int)")
    (folder / "0002_second.sql").write_text("create table archive.second (a int); select nonsense")

    with pytest.raises(psycopg.Error):
        migrate(config.dsn, "archive", folder)
    (folder / "0002_second.sql").write_text("create table archive.second (a int)")

    assert migrate(config.dsn, "archive", folder) == [2]
    assert migrate(config.dsn, "archive", folder) == []


def test_a_migration_that_was_changed_after_it_ran_is_an_error(config, tmp_path):
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0001_first.sql").write_text("create table archive.first (a int)")
    migrate(config.dsn, "archive", folder)

    (folder / "0001_first.sql").write_text("create table archive.first (a bigint)")
    with pytest.raises(MigrationError, match="0001_first"):
        migrate(config.dsn, "archive", folder)


def test_a_wrongly_named_migration_is_an_error(config, tmp_path):
    (tmp_path / "first.sql").write_text("select 1")

    with pytest.raises(MigrationError, match="NNNN"):
        migrate(config.dsn, "archive", tmp_path)
