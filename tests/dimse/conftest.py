"""A real archive behind a real DIMSE server on a free port."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from access import AuditSpool
from archive import Archive, ArchiveConfig
from dimse import DimseConfig, DimseServer, Peer
from dimse.association.admission import Admission, AdmissionConfig
from dimse.association.ledger import Ledger
from dimse.peers import Peers
from tests.dimse.certificates import Authority
from tests.dimse.committing import commit_archive, commit_dsn, open_pacs, table

__all__ = ["commit_archive", "commit_dsn", "open_pacs", "table"]


@dataclass(frozen=True)
class Door:
    """A running server with what stands behind it."""

    server: DimseServer
    archive: Archive
    audit_folder: Path

    @property
    def port(self) -> int:
        return self.server.address[1]

    @property
    def peer(self) -> Peer:
        return Peer("us", "HILUM", "127.0.0.1", self.port)

    def audit(self) -> str:
        return "".join(path.read_text() for path in self.audit_folder.glob("*.ndjson"))


@pytest.fixture(scope="session")
def archive(postgres, tmp_path_factory):
    postgres.create_database("dimse_tests")
    config = ArchiveConfig(tmp_path_factory.mktemp("archive"), postgres.dsn("dimse_tests"), 0)
    with Archive.open(config) as archive:
        yield archive


@pytest.fixture
def open_door(archive, tmp_path):
    """Start a server with a configuration, an admission and services of the test's own.

    `services`: a list, or a function of archive and ledger that gives one.
    """
    started = []

    def start(admission=None, services=(), **settings):
        audit = AuditSpool(tmp_path / f"audit-{len(started)}", "dimse")
        admission = admission or Admission(AdmissionConfig())
        if callable(services):
            services = services(archive, Ledger(audit))
        server = DimseServer(DimseConfig(port=0, **settings), archive, audit, admission, services)
        server.start()
        started.append((server, audit))
        return Door(server, archive, tmp_path / f"audit-{len(started) - 1}")

    yield start
    for server, audit in started:
        server.stop(timeout_s=2)
        audit.close()


@pytest.fixture
def door(open_door):
    return open_door()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def ours(authority):
    return authority.issue("hilum", "localhost", "127.0.0.1")


@pytest.fixture(scope="module")
def modality(authority):
    return authority.issue("CT 1", "ct1.example")


@pytest.fixture(scope="session")
def peers_dsn(postgres):
    postgres.create_database("peer_tests")
    return postgres.dsn("peer_tests")


@pytest.fixture
def peers(peers_dsn):
    peers = Peers(peers_dsn)
    yield peers
    with psycopg.connect(peers_dsn) as connection:
        connection.execute("truncate dimse.peer")
