"""Storage under faults: full disk, killed process, order to stop, an instance of gigabytes."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import sys
import time

import psutil
import pytest
from pydicom.uid import MRImageStorage, generate_uid

from archive import Archive, ArchiveConfig
from tests.archive.phantom import slice_of
from tests.dimse.test_receive import FIND_SERVICE, data_set, key_of
from tests.dimse.wire import MR_ID, Wire, command, contexts_of, echo_request, p_data, pdv
from tests.fixtures.stores import free_port

MIB = 1024 * 1024


@pytest.fixture(params=["own", "shared"])
def path(request):
    return request.param


def test_a_full_disk_refuses_and_when_there_is_room_again_stores(open_door, archive, path):
    """The limit of free space stands for the full disk; the association goes on throughout."""
    door = open_door(services=[FIND_SERVICE])
    dataset = slice_of()
    sent = data_set(dataset)
    with Wire(door.port) as wire:
        wire.associate(contexts_of(path))
        real = archive._files._config.min_free_bytes
        object.__setattr__(archive._files._config, "min_free_bytes", 1 << 62)
        try:
            full = wire.store(sent, dataset.SOPInstanceUID)
            wire.send(echo_request())
            alive = wire.answer()
        finally:
            object.__setattr__(archive._files._config, "min_free_bytes", real)
        again = wire.store(sent, dataset.SOPInstanceUID)

    assert (full.status, alive.status, again.status) == (0xA700, 0, 0)
    assert "room" in full.comment


@pytest.mark.slow
def test_an_instance_of_three_gigabytes_takes_no_more_memory_than_a_small_one(open_door, path):
    door = open_door(services=[FIND_SERVICE])
    dataset = slice_of(NumberOfFrames=3000, Rows=724, Columns=724)
    sent = data_set(dataset)
    # Its last element is the pixels: we send another length for them, and zeros.
    head = sent[: sent.index(struct.pack("<HH", 0x7FE0, 0x0010)) + 8]
    size = 3000 * 724 * 724 * 2
    piece = bytes(131_072 - 6)
    process = psutil.Process()
    with Wire(door.port, timeout=300) as wire:
        wire.associate(contexts_of(path))
        wire.send(p_data(pdv(MR_ID, 3, command(1, MRImageStorage, dataset.SOPInstanceUID))))
        wire.send(p_data(pdv(MR_ID, 0, head + struct.pack("<L", size))))
        before, most, left = process.memory_info().rss, 0, size
        whole = p_data(pdv(MR_ID, 0, piece))
        while left > len(piece):
            wire.send(whole)
            left -= len(piece)
            if left % (64 * len(piece)) < len(piece):
                most = max(most, process.memory_info().rss - before)
        wire.send(p_data(pdv(MR_ID, 2, bytes(left))))
        answer = wire.answer()

    assert answer.status == 0
    assert most < 32 * MIB
    assert door.archive.instance(key_of(dataset)).frames == 3000


SERVER = """
import signal, sys, threading
from pathlib import Path
from access import AuditSpool
from archive import Archive, ArchiveConfig
from dimse import DimseConfig, DimseServer
from dimse.association.admission import Admission, AdmissionConfig
root, dsn, port = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
archive = Archive.open(ArchiveConfig(root, dsn, 0))
audit = AuditSpool(root / "audit", "dimse")
from tests.dimse.test_receive import FIND_SERVICE
admission = Admission(AdmissionConfig())
server = DimseServer(DimseConfig(port=port), archive, audit, admission, [FIND_SERVICE])
server.start()
print("ready", flush=True)
stop.wait()
server.stop(20)
archive.close()
audit.close()
"""


def big_slice():
    """Of about 1.6 MiB."""
    return slice_of(Rows=900, Columns=900, PixelData=bytes(900 * 900 * 2))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)])
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_fills_in_the_middle_keeps_what_it_has_and_no_partial_file(
    small_disk, postgres, path
):
    name = f"dimse_full_{time.monotonic_ns()}"
    postgres.create_database(name)
    first, second, small = big_slice(), big_slice(), slice_of()
    with (
        server_process(small_disk, postgres.dsn(name)) as (port, _),
        Wire(port) as wire,
    ):
        wire.associate(contexts_of(path))
        kept = wire.store(data_set(first), first.SOPInstanceUID)
        refused = wire.store(data_set(second), second.SOPInstanceUID)
        wire.send(echo_request())
        alive = wire.answer()
        left = [one for one in (small_disk / "incoming").rglob("*") if one.is_file()]
        still = wire.store(data_set(small), small.SOPInstanceUID)

    with Archive.open(ArchiveConfig(small_disk, postgres.dsn(name), 0)) as archive:
        assert archive.verify(key_of(first))
        assert archive.verify(key_of(small))
    assert (kept.status, refused.status, alive.status, still.status) == (0, 0xA700, 0, 0)
    assert "room" in refused.comment
    assert [one for one in left if one.suffix != ".lock"] == []


@contextlib.contextmanager
def server_process(folder, dsn):
    """A server in a process of its own: its port and the process."""
    port = free_port()
    arguments = [sys.executable, "-c", SERVER, str(folder), dsn, str(port)]
    running = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    while running.stdout.readline().strip() != "ready":
        assert running.poll() is None
    yield port, running
    running.kill()
    running.wait()


@pytest.fixture
def process(postgres, tmp_path):
    """A server in a process of its own: port, folder, database and the process."""
    name = f"dimse_faults_{time.monotonic_ns()}"
    postgres.create_database(name)
    with server_process(tmp_path, postgres.dsn(name)) as (port, running):
        yield port, tmp_path, postgres.dsn(name), running


def test_what_was_answered_with_success_outlives_kill_9_and_nothing_else_is_left(process):
    port, folder, dsn, running = process
    acknowledged = []
    wire = Wire(port)
    wire.associate(contexts_of("own"))
    for _ in range(20):
        dataset = slice_of()
        if wire.store(data_set(dataset), dataset.SOPInstanceUID).status == 0:
            acknowledged.append(dataset)
    # One more is half way when it happens.
    wire.send(p_data(pdv(MR_ID, 3, command(1, MRImageStorage, generate_uid()))))
    wire.send(p_data(pdv(MR_ID, 0, bytes(1000))))
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    wire.socket.close()

    with Archive.open(ArchiveConfig(folder, dsn, 0)) as archive:
        assert len(acknowledged) == 20
        for dataset in acknowledged:
            assert archive.verify(key_of(dataset))
        left = [one for one in (folder / "incoming").rglob("*") if one.is_file()]
        assert [one for one in left if one.suffix != ".lock"] == []


def test_an_order_to_stop_lets_the_operation_end_and_aborts_in_order(process):
    port, _, _, running = process
    dataset = slice_of()
    sent = data_set(dataset)
    wire, idle = Wire(port), Wire(port)
    wire.associate(contexts_of("own"))
    idle.associate(contexts_of("own"))
    wire.send(p_data(pdv(MR_ID, 3, command(1, MRImageStorage, dataset.SOPInstanceUID))))
    wire.send(p_data(pdv(MR_ID, 0, sent[:300])))
    time.sleep(0.2)
    started = time.monotonic()

    running.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    wire.send(p_data(pdv(MR_ID, 2, sent[300:])))

    assert wire.answer().status == 0
    assert wire.end()[:1] == b"\x07"
    assert idle.end()[:1] == b"\x07"
    assert running.wait(30) == 0
    assert time.monotonic() - started < 30


def test_dcmtk_sends_and_finds_its_data_sets_unchanged(open_door, tmp_path):
    """Four associations at once, by an implementation that is not ours."""
    door = open_door()
    datasets = [slice_of() for _ in range(12)]
    for number, dataset in enumerate(datasets):
        folder = tmp_path / str(number % 4)
        folder.mkdir(exist_ok=True)
        data_set(dataset)
        dataset.save_as(folder / f"{number}.dcm", enforce_file_format=True)

    senders = [
        subprocess.Popen(["storescu", "-R", "+sd", "localhost", str(door.port), tmp_path / str(n)])
        for n in range(4)
    ]

    assert [one.wait(60) for one in senders] == [0, 0, 0, 0]
    for dataset in datasets:
        with door.archive.read(key_of(dataset)) as file:
            assert file.read().endswith(dataset.PixelData)
