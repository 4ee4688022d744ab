"""Storage commitment: success only after reading again, told here or there, and after a restart."""

from __future__ import annotations

import time

import pytest
from pydicom.uid import MRImageStorage, generate_uid

from dimse.commitment.message import COMMITMENT, WELL_KNOWN
from dimse.peers import Peer, Peers
from tests.dimse.committing import (
    CT,
    Reports,
    action,
    ask,
    listening,
    modality,
    rows,
    stored,
    wait_for,
)
from tests.dimse.test_scu import free_port


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
