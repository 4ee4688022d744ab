"""A real PostgreSQL and archives on it; see tests/fixtures/stores.py."""

from __future__ import annotations

import psycopg
import pytest

from archive import Archive, ArchiveConfig, Source
from tests.archive.phantom import bytes_of


@pytest.fixture(scope="session")
def own_database(postgres):
    postgres.create_database("archive_own")
    return postgres.dsn("archive_own")


@pytest.fixture
def config(own_database, tmp_path):
    """An archive of the test's own: empty schema, empty folder."""
    with psycopg.connect(own_database, autocommit=True) as connection:
        connection.execute("drop schema if exists archive cascade")
    return ArchiveConfig(tmp_path / "archive", own_database, min_free_bytes=0, connections=6)


@pytest.fixture
def archive(config):
    with Archive.open(config) as archive:
        yield archive


@pytest.fixture(scope="session")
def shared(postgres, tmp_path_factory):
    """An archive for tests that bring their own UIDs and look at nothing else."""
    postgres.create_database("archive_shared")
    root = tmp_path_factory.mktemp("shared-archive")
    with Archive.open(ArchiveConfig(root, postgres.dsn("archive_shared"), 0)) as archive:
        yield archive


@pytest.fixture(scope="session")
def put():
    """Store a data set, or the bytes of a file, and return the archive's answer."""

    def store(archive, content, source=Source("local"), **restrictions):  # noqa: B008
        data = content if isinstance(content, bytes) else bytes_of(content)
        with archive.receive() as incoming:
            incoming.write(data)
            return archive.store(incoming, source, **restrictions)

    return store
