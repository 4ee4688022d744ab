"""Peers that lie, drip, flood or fall silent, before and inside associations, on both paths."""

from __future__ import annotations

import resource
import socket
import struct
import time

import psutil
import pytest
from pydicom.uid import MRImageStorage

from dimse import echo
from dimse.accept.guard import Limits
from dimse.association.admission import Admission, AdmissionConfig
from dimse.association.register import Most
from tests.archive.phantom import slice_of
from tests.dimse.test_receive import FIND_SERVICE, data_set, soon
from tests.dimse.wire import (
    ECHO_ID,
    FIND_ID,
    MR_ID,
    VERIFICATION,
    Wire,
    command,
    contexts_of,
    echo_request,
    elements,
    p_data,
    pdv,
    request,
)

MIB = 1024 * 1024
BY_USER, BY_PROVIDER = 0, 2


def abort(source, reason=0):
    return struct.pack(">BBLBBBB", 7, 0, 4, 0, 0, source, reason)


@pytest.fixture(params=["own", "shared"])
def path(request):
    return request.param


@pytest.fixture
def served(open_door):
    return open_door(services=[FIND_SERVICE])


@pytest.fixture
def many_descriptors():
    """Room for a thousand connections and both their ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, 8192)
    if wanted < 4096:
        pytest.skip("this machine allows too few descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_idle_sockets_do_not_delay_an_echo_or_a_store(open_door, many_descriptors, path):
    door = open_door(services=[FIND_SERVICE], limits=Limits(deadline_s=30))
    idle = [socket.create_connection(("127.0.0.1", door.port)) for _ in range(1000)]
    dataset = slice_of()
    sent = data_set(dataset)
    try:
        taken = []
        for _ in range(3):  # the machine may be busy with something else
            started = time.monotonic()
            with Wire(door.port) as wire:
                wire.associate(contexts_of(path))
                wire.send(echo_request())
                assert wire.answer().status == 0
                assert wire.store(sent, dataset.SOPInstanceUID).status == 0
            taken.append(time.monotonic() - started)
        assert min(taken) < 2
    finally:
        for one in idle:
            one.close()


def test_one_byte_every_two_seconds_is_not_enough(open_door):
    """Before an association and inside one, on both paths, all at the same time."""
    door = open_door(services=[FIND_SERVICE])
    header = p_data(pdv(MR_ID, 3, command(1, MRImageStorage, "1.2.3")))
    drips = {}
    for name in ("before", "own", "shared"):
        wire = Wire(door.port)
        if name == "before":
            left = request()
        else:
            wire.associate(contexts_of(name))
            left = header
        drips[name] = (wire, left)
    started, ended = time.monotonic(), {}
    for place in range(6):
        for name, (wire, left) in drips.items():
            if name not in ended:
                try:
                    wire.send(left[place : place + 1])
                    wire.socket.settimeout(0.01)
                    wire.socket.recv(1)
                    ended[name] = time.monotonic() - started
                except TimeoutError:
                    pass
                except OSError:
                    ended[name] = time.monotonic() - started
        if len(ended) == len(drips):
            break
        time.sleep(2)
    for wire, _ in drips.values():
        wire.socket.close()

    assert ended.keys() == drips.keys()
    assert all(taken <= 10 for taken in ended.values())
    assert echo(door.peer) < 5


@pytest.mark.parametrize("length", [0xFFFFFFFF, MIB + 1])
def test_a_pdu_that_claims_too_much_is_aborted_and_takes_no_memory(served, path, length):
    process = psutil.Process()
    with Wire(served.port) as wire:
        wire.associate(contexts_of(path))
        before = process.memory_info().rss
        wire.send(struct.pack(">BBL", 4, 0, length))
        try:
            for _ in range(64):
                wire.send(bytes(MIB))
        except OSError:
            pass  # it has closed already
        ended = wire.end()
        grown = process.memory_info().rss - before

    assert ended is not None
    assert ended in (b"", abort(BY_PROVIDER, 6), abort(BY_PROVIDER, 0))
    assert grown < 10 * MIB
    assert echo(served.peer) < 5


def test_a_request_that_claims_four_gibibytes_takes_no_memory(served):
    process = psutil.Process()
    before = process.memory_info().rss
    with Wire(served.port) as wire:
        wire.send(struct.pack(">BBL", 1, 0, 0xFFFFFFFF))
        try:
            for _ in range(64):
                wire.send(bytes(MIB))
        except OSError:
            pass
        assert wire.end() in (b"", abort(BY_USER))

    assert process.memory_info().rss - before < 10 * MIB


def mangled(change):
    """A request with a change to its bytes, its length made right."""
    body = bytearray(request()[6:])
    body = change(body)
    return struct.pack(">BBL", 1, 0, len(body)) + bytes(body)


def first_context(body):
    return body.index(b"\x20\x00", 68)


def with_even_context(body):
    body[first_context(body) + 4] = 2
    return body


def with_overrunning_item(body):
    place = first_context(body)
    body[place + 2 : place + 4] = b"\xff\xff"
    return body


def with_many_items(body):
    return body + struct.pack(">BBH", 0x51, 0, 0) * 16_000


def without_contexts(body):
    start, end = first_context(body), body.index(b"\x50\x00", 68)
    return body[:start] + body[end:]


@pytest.mark.parametrize(
    "change", [with_even_context, with_overrunning_item, with_many_items, without_contexts]
)
def test_a_malformed_request_is_aborted_and_the_server_lives(served, change):
    with Wire(served.port) as wire:
        wire.send(mangled(change))

        assert wire.end(5) in (abort(BY_USER), b"")
    assert echo(served.peer) < 5


RAW = {
    "a type that does not exist": struct.pack(">BBL", 8, 0, 4) + b"abcd",
    "a second request": None,
    "an answer": struct.pack(">BBL", 2, 0, 4) + b"abcd",
    "a release of the wrong length": struct.pack(">BBL", 5, 0, 8) + bytes(8),
    "no fragment at all": p_data(),
    "a fragment of no length": p_data(struct.pack(">L", 0)),
    "a fragment without its header": p_data(struct.pack(">LB", 1, MR_ID)),
    "a fragment longer than its PDU": p_data(struct.pack(">LBB", 2**31, MR_ID, 3) + b"abcd"),
    "a context that was not agreed on": p_data(pdv(99, 3, command(0x30, VERIFICATION))),
    "a data set without command": p_data(pdv(MR_ID, 2, b"abcdefgh")),
    "a command that is cut off": p_data(pdv(MR_ID, 3, command(1, MRImageStorage, "1.2")[:-5])),
    "a command of another group": p_data(pdv(MR_ID, 3, struct.pack("<HHL", 8, 5, 0))),
    "a command without message ID": p_data(
        pdv(MR_ID, 3, elements((0x0100, b"\x01\x00"), (0x0800, b"\x01\x01")))
    ),
    "a command that is no number": p_data(
        pdv(MR_ID, 3, elements((0x0100, b"\x01\x00\x00\x00"), (0x0110, b"\x01\x00")))
    ),
    "a command without end": p_data(pdv(MR_ID, 1, bytes(60_000))) * 3,
    "a command inside a data set": p_data(
        pdv(MR_ID, 3, command(1, MRImageStorage, "1.2.3")),
        pdv(MR_ID, 0, b"abcdefgh"),
        pdv(MR_ID, 3, command(1, MRImageStorage, "1.2.4")),
    ),
    "data in another context than its command": p_data(
        pdv(MR_ID, 3, command(1, MRImageStorage, "1.2.3")), pdv(ECHO_ID, 2, b"abcdefgh")
    ),
}


@pytest.mark.parametrize("what", RAW)
def test_what_makes_no_sense_inside_an_association_is_aborted(served, path, what):
    with Wire(served.port) as wire:
        wire.associate(contexts_of(path))
        wire.send(RAW[what] or request())

        ended = wire.end(5)
    assert ended is not None, "still open"
    assert ended[:6] == abort(BY_PROVIDER)[:6]
    assert ended[8] == BY_PROVIDER
    assert echo(served.peer) < 5
    assert soon(lambda: served.server.associations == 0)


def test_a_query_that_would_fill_memory_is_aborted(served):
    process = psutil.Process()
    with Wire(served.port) as wire:
        wire.associate(contexts_of("shared"))
        wire.send(p_data(pdv(FIND_ID, 3, command(0x20, "1.2.840.10008.5.1.4.1.2.1.1"))))
        before = process.memory_info().rss
        try:
            for _ in range(256):
                wire.send(p_data(pdv(FIND_ID, 0, bytes(MIB - 64))))
        except OSError:
            pass
        assert wire.end(10) is not None

    assert process.memory_info().rss - before < 200 * MIB
    assert echo(served.peer) < 5


@pytest.mark.parametrize("what", ["a find without identifier", "a store", "an unknown operation"])
def test_a_query_context_never_hangs(served, what):
    asked = {
        "a find without identifier": command(
            0x20, "1.2.840.10008.5.1.4.1.2.1.1", message=3, data_set=False
        ),
        "a store": command(1, MRImageStorage, "1.2.3", message=3, data_set=False),
        "an unknown operation": command(0x0777, VERIFICATION, message=3, data_set=False),
    }[what]
    with Wire(served.port) as wire:
        wire.associate(contexts_of("shared"))
        wire.send(p_data(pdv(FIND_ID, 3, asked)))

        answer = wire.answer()
        assert answer.answers == 3
        assert answer.status in (0xC000, 0x0211)


def test_an_association_without_messages_is_aborted(open_door, path):
    door = open_door(services=[FIND_SERVICE], idle_s=1.0, progress_s=0.5)
    with Wire(door.port) as wire:
        wire.associate(contexts_of(path))
        wire.send(echo_request())
        assert wire.answer().status == 0
        started = time.monotonic()

        assert wire.end(10) == abort(BY_USER)
        assert time.monotonic() - started > 0.5
    assert soon(lambda: door.server.associations == 0)


@pytest.mark.parametrize("ending", ["release", "abort", "rejection"])
def test_a_peer_that_does_not_close_is_closed_by_us(open_door, path, ending):
    door = open_door(services=[FIND_SERVICE], artim_s=0.5)
    wire = Wire(door.port)
    if ending == "rejection":
        strict = Admission(AdmissionConfig(check_called_ae=True, ae_title="OTHER"))
        door = open_door(strict, services=[FIND_SERVICE], artim_s=0.5)
        wire = Wire(door.port)
        wire.send(request(contexts_of(path)))
        assert wire.pdu() == (3, bytes([0, 1, 1, 7]))
    else:
        wire.associate(contexts_of(path))
        wire.send(
            struct.pack(">BBLL", 5, 0, 4, 0) if ending == "release" else b"\x08\0\0\0\0\x04abcd"
        )
        kind, _ = wire.pdu()
        assert kind == (6 if ending == "release" else 7)

    # We do not close, and even go on to send.
    deadline = time.monotonic() + 5
    while door.server.associations and time.monotonic() < deadline:
        try:
            wire.send(b"\0")
        except OSError:
            break
        time.sleep(0.05)
    assert soon(lambda: door.server.associations == 0)
    wire.socket.close()


def test_one_address_or_title_cannot_take_all_places(open_door):
    door = open_door(most=Most(total=10, per_address=3, per_title=2))
    wires = [Wire(door.port) for _ in range(4)]
    for wire, title in zip(wires, ("A", "A", "A", "B"), strict=True):
        wire.send(request(title=title))
    kinds = [wire.pdu()[0] for wire in wires]
    extra = Wire(door.port)
    extra.send(request(title="C"))

    assert kinds == [2, 2, 3, 2]
    assert extra.pdu() == (3, bytes([0, 2, 3, 2]))
    assert "one AE title" in door.audit()
    assert "one address" in door.audit()
    for wire in (*wires, extra):
        wire.socket.close()


def test_an_address_that_nobody_may_come_from_is_closed_before_it_is_read(open_door):
    nobody = Admission(AdmissionConfig(unknown_callers=frozenset()))
    door = open_door(nobody)

    with Wire(door.port) as wire:
        wire.send(request())
        assert wire.end(5) == b""
