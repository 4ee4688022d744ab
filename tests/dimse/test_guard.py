"""The accept loop: idle, slow, lying and superfluous peers do not harm the others."""

from __future__ import annotations

import socket
import struct
import time

import psutil
import pytest
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, build_context

from dimse import echo
from dimse.accept.guard import Limits
from dimse.association.admission import Admission, AdmissionConfig
from dimse.association.register import Most
from tests.archive.phantom import bytes_of, slice_of


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def closed_within(connection, seconds):
    """Whether the peer closes in time, having said nothing but that it aborts."""
    connection.settimeout(seconds)
    try:
        received = b""
        while data := connection.recv(1024):
            received += data
        return received[:1] in (b"", b"\x07")
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def test_a_silent_and_a_dripping_peer_are_dropped_at_the_deadline(open_door):
    door = open_door(limits=Limits(deadline_s=0.5))
    silent, dripping = connect(door.port), connect(door.port)
    dripping.sendall(b"\x01\x00\x00\x00\x00\xff")

    assert closed_within(silent, 5)
    assert closed_within(dripping, 5)

    assert echo(door.peer) < 5


@pytest.mark.parametrize(
    "start",
    [
        b"\x01\x00" + struct.pack(">L", 0xFFFFFFFF),
        b"\x01\x00" + struct.pack(">L", 64 * 1024 + 1),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x08\x00\x00\x00\x00\x04abcd",
        b"\x04\x00\x00\x00\x00\x04abcd",
        b"\x01\x00\x00\x00\x00\x10" + bytes(16),
        b"\x01\x00\x00\x00\x00\x44" + b"\xff" * 68,
    ],
)
def test_what_is_no_association_request_is_dropped_at_once(door, start):
    before = psutil.Process().memory_info().rss
    with connect(door.port) as connection:
        connection.sendall(start)
        assert closed_within(connection, 3)

    assert psutil.Process().memory_info().rss - before < 20 * 1024 * 1024
    assert echo(door.peer) < 5


def test_a_request_in_single_bytes_is_understood(door):
    whole = request_pdu()

    with connect(door.port) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for place in range(len(whole)):
            connection.sendall(whole[place : place + 1])
        connection.settimeout(5)
        assert connection.recv(1) == b"\x02"


def request_pdu():
    """An A-ASSOCIATE-RQ for verification, as pynetdicom writes it."""
    from pynetdicom.pdu import A_ASSOCIATE_RQ
    from pynetdicom.pdu_primitives import (
        A_ASSOCIATE,
        ImplementationClassUIDNotification,
        MaximumLengthNotification,
    )

    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "BYTES", "HILUM"
    context = build_context("1.2.840.10008.1.1")
    context.context_id = 1
    primitive.presentation_context_definition_list = [context]
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = 16384
    implementation.implementation_class_uid = "1.2.3"
    primitive.user_information = [length, implementation]
    return A_ASSOCIATE_RQ(primitive).encode()


def test_associations_above_the_limit_are_refused_for_now_and_recorded(open_door):
    door = open_door(most=Most(total=2))
    contexts = [build_context("1.2.840.10008.1.1")]
    first, second, third = (
        AE(f"PEER{n}").associate("127.0.0.1", door.port, contexts=contexts) for n in range(3)
    )

    assert (first.is_established, second.is_established) == (True, True)
    assert third.is_rejected
    assert third.acceptor.primitive.result == 2
    first.release()
    deadline = time.monotonic() + 5
    while door.server.associations > 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    again = AE("PEER2").associate("127.0.0.1", door.port, contexts=contexts)
    assert again.is_established
    again.release()
    second.release()
    assert "PEER2" in door.audit()
    assert "limit" in door.audit()


def test_a_wrong_called_title_is_rejected_only_if_it_is_checked(open_door):
    contexts = [build_context("1.2.840.10008.1.1")]

    answers = []
    for check in (False, True):
        door = open_door(Admission(AdmissionConfig(check_called_ae=check)))
        association = AE("MODALITY").associate(
            "127.0.0.1", door.port, contexts=contexts, ae_title="OTHER"
        )
        answers.append(association.is_established)
        if association.is_established:
            association.release()

    assert answers == [True, False]
    deadline = time.monotonic() + 5
    while "MODALITY" not in door.audit() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "MODALITY" in door.audit()


def test_stopping_lets_a_sender_finish_and_takes_nobody_new(open_door):
    door = open_door()
    association = AE("SLOW").associate(
        "127.0.0.1",
        door.port,
        contexts=[build_context(MRImageStorage, [ExplicitVRLittleEndian])],
    )
    dataset = slice_of()
    bytes_of(dataset)
    assert association.send_c_store(dataset).Status == 0

    started = time.monotonic()
    door.server.stop(timeout_s=60)

    assert time.monotonic() - started < 30
    assert door.server.associations == 0
    with pytest.raises(OSError):
        connect(door.port)
    deadline = time.monotonic() + 5
    while association.is_established and time.monotonic() < deadline:
        time.sleep(0.02)
    assert association.is_aborted
