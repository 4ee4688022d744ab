"""Storage commitment: success only after reading again, told here or there, and after a restart."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage, generate_uid
from pynetdicom import AE, evt
from pynetdicom.presentation import build_role

from archive import Archive, ArchiveConfig, InstanceKey, Source
from dimse.association.admission import Admission, AdmissionConfig
from dimse.commitment.message import COMMITMENT, WELL_KNOWN
from dimse.commitment.request import CommitmentRefused, request_commitment
from dimse.commitment.scp import service
from dimse.commitment.table import CommitmentTable
from dimse.commitment.work import CommitConfig, CommitWorker
from dimse.peer_table import PeerTable
from dimse.peers import Peer, Peers
from dimse.scu.negotiation import Calling
from tests.archive.phantom import bytes_of, slice_of
from tests.dimse.test_scu import free_port

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


@pytest.fixture(scope="module")
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


def test_what_is_stored_is_committed_to_on_the_same_association(open_pacs, commit_archive):
    door, _ = open_pacs()
    one, two = stored(commit_archive), stored(commit_archive)
    information = action((MRImageStorage, one.instance), (MRImageStorage, two.instance))
    reports = Reports()

    with modality(door.port, reports) as association:
        status = ask(association, information)
        kind, report = reports.wait()

    assert (status, kind) == (0x0000, 1)
    assert report.TransactionUID == information.TransactionUID
    assert [item.ReferencedSOPInstanceUID for item in report.ReferencedSOPSequence] == [
        one.instance,
        two.instance,
    ]
    assert "FailedSOPSequence" not in report
    assert report.RetrieveAETitle == "HILUM"


def test_who_has_hung_up_is_called_and_told(open_pacs, commit_archive, commit_dsn):
    port, reports = free_port(), Reports()
    door, _ = open_pacs([Peer("mr", "MR1", "127.0.0.1", port)])
    key = stored(commit_archive)

    with listening(port, reports):
        with modality(door.port) as association:
            status = ask(association, action((MRImageStorage, key.instance)))
        kind, report = reports.wait()
        wait_for(lambda: rows(commit_dsn) == [("reported", "")])

    assert (status, kind) == (0x0000, 1)
    assert report.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == key.instance


def test_what_is_missing_wrong_or_damaged_fails_with_its_reason(open_pacs, commit_archive):
    door, _ = open_pacs()
    good, wrong, damaged = (stored(commit_archive) for _ in range(3))
    path = commit_archive.instance(damaged).path
    data = bytearray(path.read_bytes())
    data[-1] ^= 0xFF
    path.chmod(0o600)
    path.write_bytes(data)
    unknown = generate_uid()
    reports = Reports()

    with modality(door.port, reports) as association:
        ask(
            association,
            action(
                (MRImageStorage, good.instance),
                (CT, wrong.instance),
                (MRImageStorage, damaged.instance),
                (MRImageStorage, unknown),
            ),
        )
        kind, report = reports.wait()

    failed = {
        item.ReferencedSOPInstanceUID: item.FailureReason for item in report.FailedSOPSequence
    }
    assert kind == 2
    assert failed == {wrong.instance: 0x0119, damaged.instance: 0x0110, unknown: 0x0112}
    assert [item.ReferencedSOPInstanceUID for item in report.ReferencedSOPSequence] == [
        good.instance
    ]


def test_a_report_is_kept_over_a_restart_until_the_modality_listens(
    open_pacs, commit_archive, commit_dsn
):
    port, reports = free_port(), Reports()
    peer = Peer("mr", "MR1", "127.0.0.1", port)
    door, stop = open_pacs([peer])
    key = stored(commit_archive)
    with modality(door.port) as association:
        ask(association, action((MRImageStorage, key.instance)))
    wait_for(lambda: "could not be reached" in rows(commit_dsn)[0][1])
    stop()

    open_pacs()
    with listening(port, reports):
        kind, _ = reports.wait()
        wait_for(lambda: rows(commit_dsn)[0][0] == "reported")

    assert kind == 1


def test_a_modality_that_is_not_in_the_peer_table_is_told_once_it_is(
    open_pacs, commit_archive, commit_dsn
):
    port, reports = free_port(), Reports()
    door, _ = open_pacs()
    key = stored(commit_archive)

    with modality(door.port) as association:
        ask(association, action((MRImageStorage, key.instance)))
    wait_for(lambda: "no address" in rows(commit_dsn)[0][1])
    with listening(port, reports):
        Peers(commit_dsn).add(Peer("mr", "MR1", "127.0.0.1", port))
        kind, _ = reports.wait()

    assert kind == 1


def test_the_same_request_again_is_reported_again_and_another_under_its_uid_is_refused(
    open_pacs, commit_archive
):
    door, _ = open_pacs()
    one, two = stored(commit_archive), stored(commit_archive)
    transaction = generate_uid()
    reports = Reports()

    with modality(door.port, reports) as association:
        information = action((MRImageStorage, one.instance), transaction=transaction)
        first = ask(association, information)
        reports.wait()
        again = ask(association, information)
        wait_for(lambda: len(reports.events) == 2)
        other = ask(association, action((MRImageStorage, two.instance), transaction=transaction))

    assert [first, again, other] == [0x0000, 0x0000, 0x0210]


def test_a_request_that_crosses_a_report_is_answered_and_the_report_too(open_pacs, commit_archive):
    """Each side may have one request of its own outstanding."""
    door, _ = open_pacs()
    one, two = stored(commit_archive), stored(commit_archive)

    class Slow(Reports):
        def take(self, event):
            answer = super().take(event)
            if len(self.events) == 1:
                time.sleep(0.5)  # the next request is sent before this is answered
            return answer

    reports = Slow()
    with modality(door.port, reports) as association:
        first = ask(association, action((MRImageStorage, one.instance)))
        reports.wait()
        second = ask(association, action((MRImageStorage, two.instance)))
        wait_for(lambda: len(reports.events) == 2)

    assert [first, second] == [0x0000, 0x0000]


@pytest.mark.parametrize(
    ("action_type", "instance", "information", "status"),
    [
        (2, WELL_KNOWN, action((CT, "1.2.3")), 0x0123),
        (1, "1.2.3", action((CT, "1.2.3")), 0x0112),
        (1, WELL_KNOWN, action(), 0x0115),
        (1, WELL_KNOWN, action((CT, "")), 0x0115),
        (1, WELL_KNOWN, action((CT, "1.2.3"), transaction="x"), 0x0115),
    ],
)
def test_a_request_that_is_none_is_refused_with_the_reason(
    open_pacs, action_type, instance, information, status
):
    door, _ = open_pacs()

    with modality(door.port) as association:
        answer, _ = association.send_n_action(information, action_type, COMMITMENT, instance)

    assert answer.Status == status
    assert answer.ErrorComment


def test_we_ask_and_are_told_on_the_same_association(open_pacs, commit_archive, table):
    door, _ = open_pacs()
    key, unknown = stored(commit_archive), generate_uid()

    result = request_commitment(
        Peer("us", "HILUM", "127.0.0.1", door.port),
        [(MRImageStorage, key.instance), (MRImageStorage, unknown)],
        table,
        Calling("ASKER"),
        timeout_s=20,
    )

    assert result.state == "answered"
    assert result.committed == (key.instance,)
    assert result.failures == ((unknown, 0x0112),)


def call_in(port, transaction, instance, title):
    """Report to us as a peer does that opens an association for it, its roles reversed."""
    ae = AE(title)
    ae.add_requested_context(COMMITMENT)
    association = ae.associate("127.0.0.1", port, ext_neg=[build_role(COMMITMENT, scp_role=True)])
    information = action((MRImageStorage, instance), transaction=transaction)
    status, _ = association.send_n_event_report(information, 1, COMMITMENT, WELL_KNOWN)
    association.release()
    return status.Status


def test_we_ask_and_are_told_by_a_call_to_our_server(open_pacs, table):
    """The peer closes first and reports on an association of its own, its roles reversed."""
    port = free_port()
    other = Peer("pacs", "PACS", "127.0.0.1", port)
    door, _ = open_pacs([other])
    instance = generate_uid()

    asked = []

    def on_n_action(event):
        asked.append(event.action_information.TransactionUID)
        return 0x0000, None

    ae = AE("PACS")
    ae.add_supported_context(COMMITMENT)
    server = ae.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_ACTION, on_n_action)]
    )
    answers = []

    def answer():
        wait_for(lambda: asked)
        answers.append(call_in(door.port, asked[0], instance, "STRANGER"))
        answers.append(call_in(door.port, asked[0], instance, "PACS"))

    thread = threading.Thread(target=answer)
    thread.start()
    result = request_commitment(
        other, [(MRImageStorage, instance)], table, Calling("HILUM"), linger_s=0.1, timeout_s=20
    )
    thread.join()
    server.shutdown()

    assert answers == [0x0115, 0x0000]
    assert (result.state, result.committed) == ("answered", (instance,))


def test_a_peer_that_refuses_is_an_error_with_its_status(table):
    port = free_port()
    ae = AE("PACS")
    ae.add_supported_context(COMMITMENT)
    server = ae.start_server(
        ("127.0.0.1", port),
        block=False,
        evt_handlers=[(evt.EVT_N_ACTION, lambda _: (0x0124, None))],
    )

    with pytest.raises(CommitmentRefused, match="0x0124"):
        request_commitment(
            Peer("pacs", "PACS", "127.0.0.1", port), [(CT, "1.2.3")], table, Calling()
        )
    server.shutdown()
