"""A query for everything in 100,000 studies: bounded memory, stopped at once when cancelled."""

from __future__ import annotations

import socket
import subprocess
import threading
import time

import psutil
import psycopg
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE

from archive import Archive, ArchiveConfig
from dimse.query.flow import Flow
from dimse.query.request import STUDY_ROOT
from dimse.query.scp import QueryConfig, service
from tests.archive.phantom import slice_of
from tests.dimse.test_find import store
from tests.fixtures.peers import needs

STUDIES = 100_000

pytestmark = [pytest.mark.slow, needs("findscu")]


@pytest.fixture(scope="module")
def full(postgres, tmp_path_factory):
    """An archive whose index holds 100,000 studies, made of one by the database."""
    postgres.create_database("dimse_large")
    dsn = postgres.dsn("dimse_large")
    with Archive.open(ArchiveConfig(tmp_path_factory.mktemp("large"), dsn, 0)) as archive:
        store(archive, slice_of(StudyInstanceUID="1.2.3"))
        with psycopg.connect(dsn) as connection:
            connection.execute(
                "insert into archive.study select made.* from archive.study one,"
                " generate_series(1, %s) number,"
                " lateral jsonb_populate_record(one, jsonb_build_object("
                "  'study_uid', '1.2.3.' || number,"
                "  'attributes', one.attributes || jsonb_build_object('0020000D',"
                "   jsonb_build_object('vr', 'UI', 'Value',"
                "   jsonb_build_array('1.2.3.' || number))))) made",
                [STUDIES - 1],
            )
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("vacuum analyze archive.study")
        yield archive


@pytest.fixture
def finder(open_door, full):
    return open_door(services=lambda _archive, ledger: [service(full, ledger, QueryConfig())])


def identifier():
    keys = Dataset()
    keys.QueryRetrieveLevel, keys.PatientName, keys.StudyInstanceUID = "STUDY", "*", ""
    keys.StudyDate, keys.StudyDescription, keys.ModalitiesInStudy = "", "", ""
    return keys


def test_a_cancelled_query_ends_at_once(finder):
    ae = AE("ASKER")
    ae.add_requested_context(STUDY_ROOT)
    association = ae.associate("127.0.0.1", finder.port)
    context = association.accepted_contexts[0].context_id

    statuses = []
    for status, _ in association.send_c_find(identifier(), STUDY_ROOT, msg_id=7):
        statuses.append(status.Status)
        if len(statuses) == 50:
            association.send_c_cancel(7, context)
    association.release()

    assert statuses[-1] == 0xFE00
    # What was on its way when the cancel came, and not one in twenty of all.
    assert len(statuses) < STUDIES / 20


def test_a_query_that_takes_longer_than_the_server_waits_ends_with_a_status(finder):
    """E3 14."""
    ae = AE("ASKER")
    ae.add_requested_context(STUDY_ROOT)
    association = ae.associate("127.0.0.1", finder.port)
    answers = association.send_c_find(identifier(), STUDY_ROOT)
    assert next(answers)[0].Status == 0xFF00
    stopping = threading.Thread(target=finder.server.stop, args=[5])
    stopping.start()

    final = [status for status, _ in answers][-1]

    stopping.join()
    assert final.Status == 0xA700
    assert "stopping" in final.ErrorComment


def test_a_peer_that_does_not_read_costs_no_memory_and_is_dropped(finder, monkeypatch):
    monkeypatch.setattr(Flow.__init__, "__defaults__", (3.0,))
    ae = AE("ASKER")
    ae.add_requested_context(STUDY_ROOT)
    association = ae.associate("127.0.0.1", finder.port)
    process = psutil.Process()
    before = process.memory_info().rss
    transport = association.dul.socket.socket
    transport.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    association.dul._read_pdu_data = lambda: time.sleep(0.5)

    answers = association.send_c_find(identifier(), STUDY_ROOT)
    association._reactor_checkpoint.set()
    threading.Thread(target=lambda: next(answers, None), daemon=True).start()
    deadline = time.monotonic() + 30
    while finder.server.associations and time.monotonic() < deadline:
        time.sleep(0.1)

    assert finder.server.associations == 0
    assert process.memory_info().rss - before < 64 * 1024 * 1024
    association.dul.kill_dul()


def test_thousands_of_answers_leave_memory_flat_and_dcmtk_may_cancel(finder):
    process = psutil.Process()
    client = subprocess.Popen(
        ["findscu", "-S", "-v", "--cancel", "15000", "-aec", "HILUM",
         "127.0.0.1", str(finder.port),
         "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientName=*", "-k", "StudyInstanceUID"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    before, highest, found = process.memory_info().rss, 0, 0
    for line in client.stdout:
        found += b"Find Response:" in line
        if found % 1000 == 1:
            highest = max(highest, process.memory_info().rss)

    assert client.wait() == 0
    assert 15_000 <= found < STUDIES / 4
    assert highest - before < 64 * 1024 * 1024
