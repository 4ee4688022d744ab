"""A server that commits, and modalities that ask it to."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt

from archive import Archive, ArchiveConfig, InstanceKey, Source
from dimse.association.admission import Admission, AdmissionConfig
from dimse.commitment.message import COMMITMENT, WELL_KNOWN
from dimse.commitment.scp import service
from dimse.commitment.table import CommitmentTable
from dimse.commitment.work import CommitConfig, CommitWorker
from dimse.peer_table import PeerTable
from dimse.peers import Peers
from tests.archive.phantom import bytes_of, slice_of

CT = "1.2.840.10008.5.1.4.1.1.2"
FAST = CommitConfig(settle_s=0.1, lease_s=2.0, poll_s=0.1, delays_s=(0.2,), attempts=50)


@dataclass
class Reports:
    """What a peer was told."""

    events: list[tuple[int, Dataset]] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)

    def take(self, event):
        self.events.append((event.event_type, event.event_information))
        self.arrived.set()
        return 0x0000, None

    def wait(self):
        assert self.arrived.wait(20), "no report came"
        return self.events[0]


@pytest.fixture(scope="session")
def commit_dsn(postgres):
    postgres.create_database("dimse_commit")
    return postgres.dsn("dimse_commit")


@pytest.fixture
def table(commit_dsn):
    table = CommitmentTable(commit_dsn)
    with psycopg.connect(commit_dsn) as connection:
        connection.execute(
            "truncate dimse.commitment, dimse.commitment_request, dimse.peer restart identity"
        )
    return table


@pytest.fixture
def commit_archive(commit_dsn, tmp_path):
    config = ArchiveConfig(tmp_path / "archive", commit_dsn, 0)
    with Archive.open(config) as archive:
        yield archive


@pytest.fixture
def open_pacs(open_door, commit_archive, table, commit_dsn):
    """Start a server that commits; several in turn are one that was restarted."""
    started = []

    def start(peers=()):
        for peer in peers:
            Peers(commit_dsn).add(peer)
        known = PeerTable(Peers(commit_dsn).dsn, refresh_s=0.1)
        worker = CommitWorker(commit_archive, table, known, FAST)
        door = open_door(
            Admission(AdmissionConfig(), known),
            services=lambda _archive, ledger: [service(worker, table, ledger)],
        )
        worker.start()

        def stop():
            door.server.stop(timeout_s=2)
            worker.close()
            known.close()

        started.append(stop)
        return door, stop

    yield start
    for stop in started:
        stop()


def stored(archive, **changes):
    """Store an instance; returns its key."""
    dataset = slice_of(**changes)
    with archive.receive() as incoming:
        incoming.write(bytes_of(dataset))
        archive.store(incoming, Source("local"))
    return InstanceKey(dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID)


def action(*references, transaction=None):
    """Action Information for (class, instance) pairs."""
    found = Dataset()
    found.TransactionUID = transaction or generate_uid()
    found.ReferencedSOPSequence = []
    for sop_class, instance in references:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
        found.ReferencedSOPSequence.append(item)
    return found


@contextmanager
def modality(port, reports=None, title="MR1"):
    """An association of a modality that takes reports on it."""
    ae = AE(title)
    ae.add_requested_context(COMMITMENT)
    handlers = [(evt.EVT_N_EVENT_REPORT, reports.take)] if reports else []
    association = ae.associate("127.0.0.1", port, evt_handlers=handlers)
    assert association.is_established
    yield association
    if association.is_established:
        association.release()


@contextmanager
def listening(port, reports, title="MR1"):
    """A modality's own server, which takes reports with the roles reversed."""
    ae = AE(title)
    ae.add_supported_context(COMMITMENT, scu_role=False, scp_role=True)
    ae.add_supported_context(COMMITMENT, scu_role=True, scp_role=True)
    server = ae.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, reports.take)]
    )
    yield
    server.shutdown()


def ask(association, information):
    status, _ = association.send_n_action(information, 1, COMMITMENT, WELL_KNOWN)
    return status.Status


def rows(dsn):
    with psycopg.connect(dsn) as connection:
        return connection.execute("select state, note from dimse.commitment").fetchall()


def wait_for(what, seconds=20):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.05)
