"""STOW-RS: what is taken, what is refused, and how each instance's fate is told."""

from __future__ import annotations

import io
import os
import threading
import time
from pathlib import Path

import data_store
import psutil
import pydicom.data
import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from dicomweb.config import DicomwebConfig
from tests.dicomweb.server import (
    B,
    file_of,
    is_storable,
    multipart,
    parts_of,
    read_head,
    running,
    slice_of,
    url_of,
)

WHOLE = 'multipart/related; type="application/dicom"; transfer-syntax=*'


def sample_files():
    """pydicom's own files and pydicom-data's, as far as they are on this disk."""
    own = Path(pydicom.data.__file__).parent
    folders = (own / "test_files", own / "charset_files", Path(data_store.__file__).parent / "data")
    found = {path.name: path for folder in folders for path in sorted(folder.glob("*.dcm"))}
    return list(found.values())


def test_every_sample_file_comes_back_byte_for_byte(server, web):
    first: dict[str, Path] = {}
    for path in sample_files():
        # Several samples share a SOP Instance UID: the first one is the one that stays.
        if is_storable(path) and read_head(path).SOPInstanceUID not in first:
            first[read_head(path).SOPInstanceUID] = path

    answers = {path: server.stow(path.read_bytes()).status_code for path in first.values()}
    different = []
    for path in first.values():
        got = web.get(url_of(read_head(path)), headers={"Accept": WHOLE})
        # The preamble may be a program of another kind: it is kept as zeros.
        if got.status_code != 200 or parts_of(got)[0][1] != bytes(128) + path.read_bytes()[128:]:
            different.append((path.name, answers[path], got.status_code))

    assert len(first) >= 65
    assert different == []


def test_stored_instances_are_listed_with_their_urls(server):
    dataset = slice_of()

    answer = server.stow(file_of(dataset))

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    item = answer.json()["00081199"]["Value"][0]
    assert item["00081150"]["Value"] == [dataset.SOPClassUID]
    assert item["00081155"]["Value"] == [dataset.SOPInstanceUID]
    assert item["00081190"]["Value"] == [server.base + url_of(dataset)]
    assert "00081198" not in answer.json()


def test_the_same_content_again_is_a_success_and_other_content_is_refused(server):
    dataset = slice_of()
    server.stow(file_of(dataset))

    again = server.stow(file_of(dataset))
    dataset.PatientID = "P2"
    other = server.stow(file_of(dataset))

    assert [again.status_code, other.status_code] == [200, 409]
    assert other.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0x0111]
    assert other.json()["00081198"]["Value"][0]["00081155"]["Value"] == [dataset.SOPInstanceUID]


def test_a_request_of_which_a_part_fails_is_accepted_with_202(server):
    good, bad = slice_of(), b"not DICOM at all"

    answer = server.stow(file_of(good), bad)

    assert answer.status_code == 202
    assert len(answer.json()["00081199"]["Value"]) == 1
    assert "00081198" not in answer.json()  # it has no UID by which it could be listed there
    assert answer.json()["0008119A"]["Value"][0]["00081197"]["Value"] == [0xC000]


def test_an_instance_of_another_study_than_the_url_is_not_stored(server, web):
    dataset = slice_of()

    answer = server.stow(file_of(dataset), study=generate_uid())

    assert answer.status_code == 409
    assert answer.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0xA900]
    assert web.get(url_of(dataset)).status_code == 404


def test_a_single_instance_may_come_without_multipart(server, web):
    dataset = slice_of()

    answer = web.post(
        "/studies", content=file_of(dataset), headers={"Content-Type": "application/dicom"}
    )

    assert answer.status_code == 200
    assert web.get(url_of(dataset)).status_code == 200


@pytest.mark.parametrize(
    ("name", "content_type", "body", "status"),
    [
        ("wrong type", "text/plain", b"x", 415),
        (
            "a part type that is none of DICOM's",
            f'multipart/related; type="image/png"; boundary={B}',
            b"",
            415,
        ),
        ("no boundary parameter", 'multipart/related; type="application/dicom"', b"x", 400),
        (
            "no boundary in the body",
            f"multipart/related; type=application/dicom; boundary={B}",
            b"x",
            400,
        ),
        (
            "cut off",
            f"multipart/related; type=application/dicom; boundary={B}",
            multipart(b"xx")[:60],
            400,
        ),
        ("no parts", f"multipart/related; type=application/dicom; boundary={B}", multipart(), 400),
        ("no type/subtype", "nonsense", b"x", 400),
        ("bad boundary", 'multipart/related; type=application/dicom; boundary="a*b"', b"x", 400),
    ],
)
def test_a_body_that_is_not_what_it_promises_is_refused(web, name, content_type, body, status):
    answer = web.post("/studies", content=body, headers={"Content-Type": content_type})

    assert answer.status_code == status, name
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.fixture(scope="module")
def narrow(dsn, tmp_path_factory):
    """A server that takes two parts of 100 kB at most."""
    config = DicomwebConfig(max_parts=2, max_part_bytes=100_000, max_results=3)
    with running(dsn, tmp_path_factory.mktemp("narrow"), config) as server:
        yield server


def test_limits_are_answered_with_413(narrow):
    large = slice_of(PixelData=bytes(200_000))

    answers = [narrow.stow(file_of(large)), narrow.stow(*[file_of(slice_of())] * 3)]

    assert [one.status_code for one in answers] == [413, 413]


def test_a_full_disk_is_answered_with_507(dsn, tmp_path):
    with running(dsn, tmp_path, min_free_bytes=1 << 60) as server:
        answer = server.stow(file_of(slice_of()))

    assert answer.status_code == 507
    assert answer.json()["0008119A"]["Value"][0]["00081197"]["Value"] == [0xA700]


def test_a_large_instance_is_streamed_with_flat_memory(server):
    size = 192 * 1024 * 1024
    head = file_of(slice_of(PixelData=b"", NumberOfFrames=1))
    start = head.rindex(b"\xe0\x7f\x10\x00")
    element = head[:start] + b"\xe0\x7f\x10\x00OW\0\0" + size.to_bytes(4, "little")
    block = os.urandom(1024 * 1024)

    def body():
        yield f"--{B}\r\nContent-Type: application/dicom\r\n\r\n".encode() + element
        for _ in range(size // len(block)):
            yield block
        yield f"\r\n--{B}--\r\n".encode()

    process, peak, done = psutil.Process(), [0], threading.Event()

    def watch():
        while not done.is_set():
            peak[0] = max(peak[0], process.memory_info().rss)
            time.sleep(0.02)

    before = process.memory_info().rss
    watcher = threading.Thread(target=watch)
    watcher.start()
    with server.client() as client:
        kind = f'multipart/related; type="application/dicom"; boundary={B}'
        answer = client.post("/studies", content=body(), headers={"Content-Type": kind})
        received = 0
        with client.stream(
            "GET", url_of(read_head(element + bytes(64))), headers={"Accept": WHOLE}
        ) as got:
            for chunk in got.iter_bytes():
                received += len(chunk)
    done.set()
    watcher.join()

    assert answer.status_code == 200
    assert received > size
    assert received == int(got.headers["content-length"])
    # The mapped file of the archive's header walk counts as resident; the body itself does not.
    assert peak[0] - before < 100 * 1024 * 1024


def test_dicomweb_client_stores_and_learns_what_failed(server):
    peer, dataset = server.peer(), slice_of()

    answer = peer.store_instances([dcmread(io.BytesIO(file_of(dataset)))], dataset.StudyInstanceUID)

    assert answer.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == dataset.SOPInstanceUID
    assert "FailedSOPSequence" not in answer


def test_the_body_of_an_ohif_export_is_taken(server, web):
    dataset = slice_of()
    body = io.BytesIO()
    body.write(b"\r\n" + multipart(file_of(dataset)))
    kind = f'multipart/related; type="application/dicom"; boundary="{B}"'

    answer = web.post(
        "/studies", content=body.getvalue(), headers={"Content-Type": kind, "Accept": "*/*"}
    )

    assert answer.status_code == 200
