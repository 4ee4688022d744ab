"""Peers are told once of each study that is complete, and again after one was away."""

from __future__ import annotations

import threading

import psycopg
import pytest
from pydicom.uid import generate_uid
from pynetdicom import AE, evt

from archive import Archive, ArchiveConfig
from dimse.peer_table import PeerTable
from dimse.peers import Peer, Peers
from dimse.routing.availability import NOTIFICATION, AvailabilityConfig, AvailabilityNotifier
from dimse.routing.availability_table import AvailabilityTable
from tests.dimse.committing import stored, wait_for
from tests.dimse.test_scu import free_port


@pytest.fixture(scope="module")
def dsn(postgres):
    postgres.create_database("dimse_availability")
    return postgres.dsn("dimse_availability")


@pytest.fixture
def own_archive(dsn, tmp_path):
    with Archive.open(ArchiveConfig(tmp_path / "archive", dsn, 0)) as archive:
        yield archive


@pytest.fixture
def told(dsn, own_archive):
    """A running notifier, and what its peer was told: (port, notifications, start the peer)."""
    port, notes, servers = free_port(), [], []
    table = AvailabilityTable(dsn)
    with psycopg.connect(dsn) as connection:
        connection.execute("truncate dimse.availability, dimse.availability_cursor, dimse.peer")
    Peers(dsn).add(Peer("ris", "RIS", "127.0.0.1", port))
    peers = PeerTable(dsn, refresh_s=0.1)
    config = AvailabilityConfig(("ris",), quiet_s=0.3, poll_s=0.05, delays_s=(0.2,) * 50)
    notifier = AvailabilityNotifier(own_archive, table, peers, config)

    def listen():
        ae = AE("RIS")
        ae.add_supported_context(NOTIFICATION)

        def take(event):
            notes.append(event.attribute_list)
            return 0x0000, None

        servers.append(
            ae.start_server(
                ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_CREATE, take)]
            )
        )

    table.follow(own_archive, (), 0)
    notifier.start()
    yield notes, listen, table
    notifier.close()
    peers.close()
    for server in servers:
        server.shutdown()


def test_a_study_that_has_become_quiet_is_told_once_with_all_its_instances(told, own_archive):
    notes, listen, _ = told
    listen()
    study = generate_uid()
    keys = [stored(own_archive, StudyInstanceUID=study) for _ in range(3)]

    wait_for(lambda: notes)
    threading.Event().wait(1.0)

    (note,) = notes
    assert note.StudyInstanceUID == study
    instances = {
        item.ReferencedSOPInstanceUID: (item.InstanceAvailability, item.RetrieveAETitle)
        for series in note.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert instances == {key.instance: ("ONLINE", "HILUM") for key in keys}


def test_a_peer_that_is_away_is_told_later(told, own_archive, dsn):
    notes, listen, _ = told
    key = stored(own_archive)

    def noted():
        with psycopg.connect(dsn) as connection:
            return connection.execute(
                "select 1 from dimse.availability where note like '%could not be reached%'"
            ).fetchone()

    wait_for(noted)
    listen()
    wait_for(lambda: notes)

    assert notes[0].StudyInstanceUID == key.study
