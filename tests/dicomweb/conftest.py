"""One DICOMweb server for all tests of this folder: each test brings its own UIDs."""

from __future__ import annotations

import pytest

from tests.dicomweb.server import file_of, running, slice_of


@pytest.fixture(scope="session")
def dsn(postgres):
    postgres.create_database("dicomweb_tests")
    return postgres.dsn("dicomweb_tests")


@pytest.fixture(scope="session")
def server(dsn, tmp_path_factory):
    with running(dsn, tmp_path_factory.mktemp("dicomweb")) as server:
        yield server


@pytest.fixture
def web(server):
    with server.client() as client:
        yield client


@pytest.fixture
def stored(server):
    """A slice that is in the archive."""
    dataset = slice_of()
    assert server.stow(file_of(dataset)).status_code == 200
    return dataset
