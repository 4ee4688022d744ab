"""Sending: files arrive as they are, and each file's fate is told."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pydicom
import pytest

from dimse import AssociationFailed, Peer, PeerError, Peers, echo, send
from tests.archive.phantom import bytes_of, slice_of

SAMPLES = Path(pydicom.__file__).parent / "data" / "test_files"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def storescp(tmp_path):
    """DCMTK's receiver, bit preserving: (peer, folder)."""
    folder, port = tmp_path / "received", free_port()
    folder.mkdir()
    process = subprocess.Popen(
        ["storescp", "+B", "+xa", "-aet", "DCMTK", "-od", str(folder), str(port)],
        env={**os.environ, "TCP_NODELAY": "1"},
    )
    peer = Peer("dcmtk", "DCMTK", "127.0.0.1", port)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            echo(peer)
            break
        except AssociationFailed:
            time.sleep(0.05)
    yield peer, folder
    process.terminate()
    process.wait(timeout=10)


def test_files_arrive_at_dcmtk_as_they_are(storescp, tmp_path):
    peer, folder = storescp
    names = ["CT_small.dcm", "MR_small_RLE.dcm", "JPEG2000.dcm", "ExplVR_BigEnd.dcm"]
    names.append("image_dfl.dcm")  # of odd length: the standard wants a NUL behind it
    told = []

    results = send(peer, [SAMPLES / name for name in names], progress=told.append)

    assert [(r.path.name, r.status, r.text) for r in results if not r.ok] == []
    assert told == results
    received = {pydicom.dcmread(p).SOPInstanceUID: p.read_bytes() for p in folder.iterdir()}
    for name in names:
        sent = (SAMPLES / name).read_bytes()
        meta = pydicom.dcmread(SAMPLES / name).file_meta
        start = 144 + meta.FileMetaInformationGroupLength
        padding = b"\0" * (len(sent) % 2)
        assert received[meta.MediaStorageSOPInstanceUID].endswith(sent[start:] + padding)


def test_every_file_gets_a_result_in_words(door, tmp_path):
    good, conflict, nonsense = (tmp_path / name for name in ("good", "conflict", "nonsense"))
    dataset = slice_of()
    good.write_bytes(bytes_of(dataset))
    dataset.PixelData = bytes(128)
    conflict.write_bytes(bytes_of(dataset))
    nonsense.write_text("no image")

    results = {r.path.name: r for r in send(door.peer, [good, conflict, nonsense])}

    assert results["good"].ok
    assert results["conflict"].status == 0x0111
    assert "different content" in results["conflict"].text
    assert results["nonsense"].text == "not a DICOM Part 10 file"


def test_more_contexts_than_an_association_carries_take_several(door, tmp_path):
    from dimse.wire.contexts import storage_classes

    paths = []
    for number, sop_class in enumerate(sorted(storage_classes())[:131]):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(bytes_of(slice_of(SOPClassUID=sop_class)))
        paths.append(path)

    results = send(door.peer, paths)

    assert len(results) == 131
    assert all(result.ok for result in results)


def test_what_the_peer_does_not_accept_is_told_and_the_rest_is_sent(door, tmp_path):
    private, public = tmp_path / "private.dcm", tmp_path / "public.dcm"
    private.write_bytes(bytes_of(slice_of(SOPClassUID="1.2.3.4")))
    public.write_bytes(bytes_of(slice_of()))

    results = send(door.peer, [private, public])

    assert [(r.path.name, r.ok) for r in results] == [("private.dcm", False), ("public.dcm", True)]
    assert "does not accept" in results[0].text


def test_nobody_there_is_an_error():
    with pytest.raises(AssociationFailed):
        echo(Peer("nobody", "X", "127.0.0.1", free_port()), timeout_s=2)


def test_the_same_files_sent_twice_are_no_conflict(door, tmp_path):
    path = tmp_path / "j2k.dcm"
    shutil.copy(SAMPLES / "JPEG2000.dcm", path)

    first, again = send(door.peer, [path]), send(door.peer, [path])

    assert first[0].ok
    assert again[0].status == 0


def test_peers_are_kept_by_name(postgres):
    postgres.create_database("dimse_peers")
    peers = Peers(postgres.dsn("dimse_peers"))
    pacs = Peer("pacs", "MAIN PACS", "pacs.example", 104)

    peers.add(pacs)
    peers.add(Peer("archive", "ARCH", "10.0.0.1", 11112))
    peers.add(Peer("archive", "ARCH2", "10.0.0.2", 11112))

    assert [str(peer) for peer in peers.list()] == [
        "ARCH2@10.0.0.2:11112",
        "MAIN PACS@pacs.example:104",
    ]
    assert peers.find("pacs") == pacs
    peers.remove("pacs")
    with pytest.raises(PeerError):
        peers.find("pacs")
    with pytest.raises(PeerError):
        peers.remove("pacs")


@pytest.mark.parametrize(
    ("name", "ae", "host", "port"),
    [
        ("", "A", "h", 1),
        ("../x", "A", "h", 1),
        ("n", "", "h", 1),
        ("n", "A" * 17, "h", 1),
        ("n", "A\\B", "h", 1),
        ("n", "A\n", "h", 1),
        ("n", "Ä", "h", 1),
        ("n", "A", "", 1),
        ("n", "A", "h h", 1),
        ("n", "A", "h", 0),
        ("n", "A", "h", 70000),
    ],
)
def test_a_peer_that_cannot_be_one_is_refused(name, ae, host, port):
    with pytest.raises(PeerError):
        Peer(name, ae, host, port)


def test_a_peer_is_read_from_its_address():
    assert Peer.parse("MY_PACS@10.0.0.5:104") == Peer("MY_PACS", "MY_PACS", "10.0.0.5", 104)
    with pytest.raises(PeerError):
        Peer.parse("10.0.0.5:104")
