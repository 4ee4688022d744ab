"""C-MOVE: what was asked for arrives, everything else is told; nobody is kept waiting."""

from __future__ import annotations

import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from dimse import Peer
from dimse.scu.negotiation import Calling
from dimse.scu.retrieve import Root, move
from tests.dimse.partners import (
    IMPLICIT,
    copied_study,
    dcmtk_receiver,
    free_port,
    receiver,
    requestor,
    retrieving,
    stored_study,
)
from tests.fixtures.peers import needs

__all__ = ["retrieving"]

STUDY_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"


def keys(level="STUDY", **values):
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for name, value in values.items():
        setattr(identifier, name, value)
    return identifier


def moved(door, identifier, to, root=Root.STUDY):
    """All responses of a C-MOVE that we ask ourselves for."""
    return list(move(door.peer, identifier, to, Calling("ASKER", answer_s=30), root))


@needs("storescp", "movescu")
def test_dcmtk_moves_a_study_from_us_to_dcmtk(retrieving, archive, tmp_path):
    study, uids = stored_study(archive, 5)
    with dcmtk_receiver(tmp_path / "received") as peer:
        door = retrieving(peer)
        command = ["movescu", "-S", "-d", "-aem", "DCMTK", "-aec", "HILUM", "127.0.0.1"]
        command += [str(door.port), "-k", "QueryRetrieveLevel=STUDY"]
        command += ["-k", f"StudyInstanceUID={study}"]

        done = subprocess.run(command, capture_output=True, text=True, timeout=60)

        assert done.returncode == 0, done.stderr
        assert "0x0000: Success" in done.stdout + done.stderr
        arrived = [pydicom.dcmread(path).SOPInstanceUID for path in peer_files(tmp_path)]
        assert sorted(arrived) == sorted(uids)


def peer_files(tmp_path):
    return list((tmp_path / "received").iterdir())


@pytest.mark.parametrize("associations", [1, 3])
def test_counters_rise_to_the_total(retrieving, archive, associations):
    study, uids = stored_study(archive, 12)

    def slowly(received, event):
        time.sleep(0.05)
        return 0x0000

    with receiver(slowly) as found:
        door = retrieving(found.peer, associations=associations)
        answers = moved(door, keys(StudyInstanceUID=study), "RECV")

    assert sorted(str(one.AffectedSOPInstanceUID) for one in found.requests) == sorted(uids)
    pending, final = answers[:-1], answers[-1]
    assert (final.status, final.completed, final.failed, final.warning) == (0, 12, 0, 0)
    assert final.remaining is None
    assert pending and all(one.status == 0xFF00 for one in pending)
    assert all(one.completed + one.remaining == 12 for one in pending)
    assert [one.completed for one in pending] == sorted(one.completed for one in pending)
    assert len(found.associations) == associations
    audit = door.audit()
    assert audit.count(f"C-MOVE to {found.peer.name} begins: 12") == 1
    assert audit.count("12 asked for, 0 failed") == 1


def test_every_level_and_lists_of_uids_can_be_moved(retrieving, archive):
    patient = f"P{generate_uid()[-12:]}"
    one, first = stored_study(archive, 2, PatientID=patient)
    two, second = stored_study(archive, 2, PatientID=patient)
    series = [str(archive.study_instances(study)[0].key.series) for study in (one, two)]
    asked = [
        (Root.PATIENT, keys("PATIENT", PatientID=patient), first + second),
        (Root.PATIENT, keys("STUDY", PatientID=patient, StudyInstanceUID=one), first),
        (Root.PATIENT, keys("STUDY", PatientID="somebody else", StudyInstanceUID=one), []),
        (Root.STUDY, keys("STUDY", StudyInstanceUID=[one, two]), first + second),
        (Root.STUDY, keys("SERIES", StudyInstanceUID=one, SeriesInstanceUID=series[0]), first),
        (Root.STUDY, keys("SERIES", StudyInstanceUID=one, SeriesInstanceUID=series[1]), []),
        (Root.STUDY, keys("IMAGE", SOPInstanceUID=[first[0], second[1]]), [first[0], second[1]]),
        (Root.STUDY, keys("STUDY", StudyInstanceUID="1.2.3.999"), []),
    ]
    with receiver() as found:
        door = retrieving(found.peer)
        for root, identifier, expected in asked:
            found.requests.clear()

            final = moved(door, identifier, "RECV", root)[-1]

            assert final.status == 0
            assert final.completed == len(expected)
            arrived = [str(request.AffectedSOPInstanceUID) for request in found.requests]
            assert sorted(arrived) == sorted(expected)


@pytest.mark.parametrize(
    ("identifier", "status"),
    [
        (keys("PATIENT", PatientID="P1"), 0xA900),  # no such level in the study root
        (keys("STUDY"), 0xA900),
        (keys("SERIES", StudyInstanceUID="1.2"), 0xA900),
        (keys("STUDY", StudyInstanceUID="*"), 0xA900),
        (keys("", StudyInstanceUID="1.2"), 0xA900),
    ],
)
def test_a_request_without_its_keys_is_told_so(retrieving, identifier, status):
    peer = Peer("recv", "RECV", "127.0.0.1", free_port())

    final = moved(retrieving(peer), identifier, "RECV")[-1]

    assert final.status == status
    assert "(" in final.text  # a comment says what is wrong


def test_only_peers_of_the_table_are_destinations(retrieving, archive):
    """E3 25: neither an unknown title nor an address in its place reaches anybody."""
    study, _ = stored_study(archive, 1)
    with receiver() as found:
        door = retrieving(Peer("other", "OTHER", "127.0.0.1", free_port()))
        titles = ["RECV", f"127.0.0.1:{found.peer.port}", "RECV\\OTHER", "recv"]
        answers = [moved(door, keys(StudyInstanceUID=study), title)[-1] for title in titles]

        assert [one.status for one in answers] == [0xA801] * 4
        assert found.associations == []
    assert door.audit().count("not in the peer table") == 4


def test_an_unreachable_destination_fails_every_sub_operation(retrieving, archive):
    study, uids = stored_study(archive, 2)
    door = retrieving(Peer("gone", "GONE", "127.0.0.1", free_port()))

    final = moved(door, keys(StudyInstanceUID=study), "GONE")[-1]

    assert (final.status, final.completed, final.failed) == (0xA702, 0, 2)
    assert sorted(final.failed_uids) == sorted(uids)
    assert "could not be reached" in final.text


def test_failures_and_warnings_are_counted_apart(retrieving, archive):
    study, uids = stored_study(archive, 4)

    def answer(received, event):
        return {uids[1]: 0xA700, uids[2]: 0xB000}.get(event.request.AffectedSOPInstanceUID, 0)

    with receiver(answer) as found:
        final = moved(retrieving(found.peer), keys(StudyInstanceUID=study), "RECV")[-1]

    assert final.status == 0xB000
    assert (final.completed, final.failed, final.warning) == (2, 1, 1)
    assert final.failed_uids == (uids[1],)


def test_the_destination_learns_whose_move_it_is(retrieving, archive):
    """X19."""
    study, _ = stored_study(archive, 2)
    with receiver() as found:
        door = retrieving(found.peer)
        ae = requestor(STUDY_MOVE)
        association = ae.associate("127.0.0.1", door.port)
        statuses = [
            status.Status
            for status, _ in association.send_c_move(
                keys(StudyInstanceUID=study), "RECV", STUDY_MOVE, msg_id=77
            )
        ]
        association.release()

    assert statuses[-1] == 0
    for request in found.requests:
        assert request.MoveOriginatorApplicationEntityTitle == "ASKER"
        assert request.MoveOriginatorMessageID == 77


@pytest.mark.parametrize("maximum", [4096, 0])
def test_the_destinations_largest_pdu_is_observed(retrieving, archive, maximum):
    """X5: DCMTK and pynetdicom take what is too long without a word, so we look at the bytes."""
    from pynetdicom import evt

    study, _ = stored_study(archive, 1, Rows=256, Columns=256, PixelData=bytes(131072))
    lengths = []
    with receiver(maximum_pdu=maximum) as found:
        door = retrieving(found.peer)

        def on_data(event):
            if event.data[0] == 4:
                lengths.append(int.from_bytes(event.data[2:6], "big"))

        watch(found, evt.EVT_DATA_RECV, on_data)
        final = moved(door, keys(StudyInstanceUID=study), "RECV")[-1]

    assert final.completed == 1
    assert sum(lengths) > 131072
    if maximum:
        assert max(lengths) <= maximum
    else:
        assert max(lengths) > 131072


def watch(found, event, handler):
    """Bind a handler to each association that will be opened."""
    original = found.associations.append

    class Watching(list):
        def append(self, association):
            association.bind(event, handler)
            original(association)

    found.associations = Watching()


def test_a_cancelled_move_stops_and_leaves_the_destination(retrieving, archive):
    """X16."""
    study, _ = stored_study(archive, 60)
    begun = threading.Event()

    def slowly(received, event):
        begun.set()
        time.sleep(0.1)
        return 0x0000

    with receiver(slowly) as found:
        door = retrieving(found.peer)
        ae = requestor(STUDY_MOVE)
        association = ae.associate("127.0.0.1", door.port)
        answers = association.send_c_move(
            keys(StudyInstanceUID=study), "RECV", STUDY_MOVE, msg_id=5
        )
        seen = [next(answers)]
        assert begun.wait(10)
        association.send_c_cancel(5, None, STUDY_MOVE)
        seen += list(answers)
        final = seen[-1][0]
        association.release()
        deadline = time.monotonic() + 5
        while found.associations[0].is_alive() and time.monotonic() < deadline:
            time.sleep(0.02)

        assert final.Status == 0xFE00
        told = final.NumberOfCompletedSuboperations + final.NumberOfFailedSuboperations
        assert told + final.NumberOfRemainingSuboperations == 60
        assert 0 < final.NumberOfCompletedSuboperations < 60
        assert len(found.requests) == final.NumberOfCompletedSuboperations
        assert found.associations[0].is_released


@pytest.mark.parametrize("count", [400, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_destination_that_leaves_half_way_is_told_with_every_instance(
    retrieving, archive, postgres, count
):
    """X17: completed and failed are the total, and each one that failed is named."""
    study, uids = copied_study(archive, postgres.dsn("dimse_tests"), count)

    def leave(received, event):
        if len(received.requests) >= count / 2:
            for association in received.associations:
                association.abort()
        return 0x0000

    with receiver(leave) as found:
        final = moved(retrieving(found.peer), keys(StudyInstanceUID=study), "RECV")[-1]

    assert final.status == 0xB000
    assert final.completed + final.failed == count
    assert 0 < final.completed < count
    assert len(set(final.failed_uids)) == final.failed
    assert set(final.failed_uids) < set(uids)


def test_more_failures_than_an_explicit_list_holds_are_all_named(retrieving, archive, postgres):
    """A list of UIDs in explicit VR ends at 64 KiB unless it is written as UN (PS3.5 6.2.2)."""
    study, uids = copied_study(archive, postgres.dsn("dimse_tests"), 1100)
    door = retrieving(Peer("gone", "GONE", "127.0.0.1", free_port()))

    final = moved(door, keys(StudyInstanceUID=study), "GONE")[-1]

    assert final.status == 0xA702
    assert sorted(final.failed_uids) == sorted(uids)


def test_the_requestor_may_leave_in_the_middle(retrieving, archive):
    study, _ = stored_study(archive, 60)

    def slowly(received, event):
        time.sleep(0.05)
        return 0x0000

    with receiver(slowly) as found:
        door = retrieving(found.peer)
        association = requestor(STUDY_MOVE).associate("127.0.0.1", door.port)
        answers = association.send_c_move(keys(StudyInstanceUID=study), "RECV", STUDY_MOVE)
        next(answers)
        association.abort()
        deadline = time.monotonic() + 10
        while door.server.associations and time.monotonic() < deadline:
            time.sleep(0.05)

        assert door.server.associations == 0
        assert len(found.requests) < 60
        assert "the requestor left" in door.audit()


@contextmanager
def a_move_under_way(retrieving, archive, count):
    """A move of `count` instances, 0.1 s each, under way: door, responses, what arrived."""
    study, _ = stored_study(archive, count)
    begun = threading.Event()

    def slowly(received, event):
        begun.set()
        time.sleep(0.1)
        return 0x0000

    with receiver(slowly) as found, ThreadPoolExecutor(1) as pool:
        door = retrieving(found.peer)
        answers = pool.submit(moved, door, keys(StudyInstanceUID=study), "RECV")
        assert begun.wait(10)
        yield door, answers, found


def test_a_server_that_stops_lets_a_move_finish(retrieving, archive):
    """E3 14: the requestor is silent meanwhile, and not idle."""
    with a_move_under_way(retrieving, archive, 25) as (door, answers, found):
        door.server.stop(timeout_s=30)

        final = answers.result(10)[-1]
        assert (final.status, final.completed, final.failed) == (0x0000, 25, 0)
        assert len(found.requests) == 25


def test_a_move_that_takes_longer_than_the_server_waits_ends_with_its_counters(retrieving, archive):
    """E3 14: what was not sent is named as failed, and the association is not cut."""
    with a_move_under_way(retrieving, archive, 150) as (door, answers, found):
        door.server.stop(timeout_s=5)

        final = answers.result(10)[-1]
        assert final.status == 0xB000
        assert final.completed == len(found.requests) > 0
        assert final.completed + final.failed == 150
        assert len(set(final.failed_uids)) == final.failed
        assert "stopping" in final.text
        assert found.associations[0].is_released
    assert f"150 asked for, {final.failed} failed" in door.audit()


def test_a_destination_that_takes_only_what_we_cannot_make_gets_nothing(retrieving, archive):
    """X18: without a way to make it, the sub-operation fails and nothing undecodable is sent."""
    study, _ = stored_study(archive, 1)
    with receiver(syntaxes=[IMPLICIT]) as found:
        final = moved(retrieving(found.peer), keys(StudyInstanceUID=study), "RECV")[-1]

    assert (final.status, final.failed) == (0xA702, 1)
    assert "transfer syntax" in final.text
    assert found.requests == []


def test_a_damaged_file_is_not_sent(retrieving, archive):
    study, _ = stored_study(archive, 3)
    path = archive.study_instances(study)[1].path
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with receiver() as found:
        final = moved(retrieving(found.peer), keys(StudyInstanceUID=study), "RECV")[-1]

    assert (final.status, final.completed, final.failed) == (0xB000, 2, 1)
    assert len(found.requests) == 2
    assert "damaged" in final.text
