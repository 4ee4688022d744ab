"""The two stores, real: HAPI on PostgreSQL, and the archive behind its DICOMweb door."""

from __future__ import annotations

import pytest

from records import Records
from reports.publish import Deps
from reports.store import DicomwebStore
from tests.dicomweb.server import running
from tests.fixtures.stores import everything_allowed
from tests.reports.filed import file_report


@pytest.fixture(scope="session")
def archive(postgres, tmp_path_factory):
    """A DICOMweb server with an archive of its own."""
    postgres.create_database("reports_tests")
    with running(postgres.dsn("reports_tests"), tmp_path_factory.mktemp("archive")) as server:
        yield server


@pytest.fixture
async def records(hapi):
    async with Records(hapi.config.base_url, everything_allowed()) as opened:
        yield opened


@pytest.fixture
def deps(records, archive):
    store = DicomwebStore(archive.base, archive.token_for, 30)
    return Deps(records, store, "Hilum demonstration site")


@pytest.fixture
async def filed(records):
    """A preliminary report that nobody has rendered yet."""
    return await file_report(records)
