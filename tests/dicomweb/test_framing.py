"""Bodies as senders and attackers frame them: RFC 2046 in its forms, lies, bombs and slow drips."""

from __future__ import annotations

import gzip
import time
import zlib

import orjson
import psutil
import pytest

from dicomweb.config import DicomwebConfig
from tests.dicomweb.raw import chunked, exchange, head
from tests.dicomweb.server import (
    EVERYTHING,
    B,
    file_of,
    multipart,
    running,
    slice_of,
    url_of,
)
from tests.dicomweb.workitem import TASKS

KIND = f'multipart/related; type="application/dicom"; boundary={B}'
LONG = "a-boundary-that-is-exactly-seventy-characters-long-0123456789-01234567"


def framed(file: bytes, form: str) -> tuple[str, bytes]:
    """Content-Type and body of one file in one of the forms."""
    typed = b"Content-Type: application/dicom"
    forms = {
        "crlf": (B, b"--%b\r\n%b\r\n\r\n%b\r\n--%b--\r\n"),
        "lf only": (B, b"--%b\n%b\n\n%b\n--%b--\n"),
        "preamble": (B, b"This is a multipart message.\r\n--%b\r\n%b\r\n\r\n%b\r\n--%b--"),
        "epilogue": (B, b"--%b\r\n%b\r\n\r\n%b\r\n--%b--\r\nand more that means nothing"),
        "line end first": (B, b"\r\n--%b\r\n%b\r\n\r\n%b\r\n--%b--\r\n"),
        "no last line end": (B, b"--%b\r\n%b\r\n\r\n%b\r\n--%b--"),
        "white space after": (B, b"--%b \t\r\n%b\r\n\r\n%b\r\n--%b-- \r\n"),
        "seventy characters": (LONG, b"--%b\r\n%b\r\n\r\n%b\r\n--%b--\r\n"),
        "quoted": ("a b:c", b"--%b\r\n%b\r\n\r\n%b\r\n--%b--\r\n"),
    }
    if form == "no part type":
        return KIND, b"--%b\r\n\r\n%b\r\n--%b--\r\n" % (B.encode(), file, B.encode())
    boundary, layout = forms[form]
    mark = boundary.encode()
    kind = f'multipart/related; boundary="{boundary}"; type=application/dicom'
    return kind, layout % (mark, typed, file, mark)


@pytest.mark.parametrize(
    "form",
    [
        "crlf", "lf only", "preamble", "epilogue", "line end first", "no last line end",
        "white space after", "seventy characters", "quoted", "no part type",
    ],
)  # fmt: skip
def test_each_form_of_rfc_2046_is_taken(server, web, form):
    dataset = slice_of()
    kind, body = framed(file_of(dataset), form)

    answer = web.post("/studies", content=body, headers={"Content-Type": kind})

    assert answer.status_code == 200
    assert web.get(url_of(dataset)).status_code == 200


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_chunked_upload_in_pieces_of_any_size(server, size):
    body = multipart(file_of(slice_of()))
    pieces = [body[at : at + size] for at in range(0, len(body), size)]

    request = head(server, "/studies", Content_Type=KIND, Transfer_Encoding="chunked")
    status, _ = exchange(server, [request + b"".join(chunked(pieces))])

    assert status == 200


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "two gzip members"])
def test_a_compressed_upload_is_inflated(web, coding):
    dataset = slice_of()
    body = multipart(file_of(dataset))
    packed = {
        "deflate": zlib.compress(body),
        "two gzip members": gzip.compress(body[:500]) + gzip.compress(body[500:]),
    }.get(coding, gzip.compress(body))
    name = "gzip" if "members" in coding else coding

    answer = web.post(
        "/studies", content=packed, headers={"Content-Type": KIND, "Content-Encoding": name}
    )

    assert answer.status_code == 200
    assert web.get(url_of(dataset)).status_code == 200


def test_a_compressed_body_that_is_none_or_cut_off_is_400_and_another_coding_415(web):
    packed = gzip.compress(multipart(file_of(slice_of())))

    def post(content, coding):
        headers = {"Content-Type": KIND, "Content-Encoding": coding}
        return web.post("/studies", content=content, headers=headers)

    wrong, cut, other = post(b"no gzip", "gzip"), post(packed[:-20], "gzip"), post(packed, "br")

    assert [one.status_code for one in (wrong, cut, other)] == [400, 400, 415]
    assert "gzip" in other.json()["taken"]


@pytest.mark.parametrize("kind", ["application/dicom", KIND])
def test_a_gzip_bomb_is_413_in_little_memory(web, kind):
    bomb = gzip.compress(b"--%b\r\n\r\n" % B.encode() + bytes(80 * 1024 * 1024))
    before = psutil.Process().memory_info().rss

    answer = web.post(
        "/studies", content=bomb, headers={"Content-Type": kind, "Content-Encoding": "gzip"}
    )

    assert answer.status_code == 413
    assert psutil.Process().memory_info().rss - before < 64 * 1024 * 1024


@pytest.fixture(scope="module")
def strict(dsn, tmp_path_factory):
    """A server with little patience."""
    config = DicomwebConfig(
        body_idle_s=0.5, min_body_rate=1000, max_request_bytes=10_000_000, max_parts=100_000
    )
    with running(dsn, tmp_path_factory.mktemp("strict"), config) as server:
        server.token = server.token_for(f"{EVERYTHING} {TASKS}")
        yield server


def test_a_content_length_beyond_the_limit_is_413_before_the_body(strict):
    request = head(strict, "/studies", Content_Type=KIND, Content_Length=str(10**15))

    status, body = exchange(strict, [request], timeout_s=10)

    assert status == 413
    assert orjson.loads(body)["advice"]


@pytest.mark.parametrize("path", ["/studies", "/workitems", "/commitment-requests/1.2"])
def test_a_body_that_stands_still_is_408(strict, path):
    kind = KIND if path == "/studies" else "application/dicom+json"
    request = head(strict, path, Content_Type=kind, Content_Length="5000")

    status, _ = exchange(strict, [request + b"--" + B.encode()], timeout_s=10)

    assert status == 408


def test_a_body_that_drips_is_408(strict):
    def drips():
        yield head(strict, "/studies", Content_Type=KIND, Content_Length="5000")
        for _ in range(60):
            time.sleep(0.05)
            yield b"x"

    status, _ = exchange(strict, drips(), timeout_s=10)

    assert status == 408


def test_a_hundred_thousand_empty_parts_are_listed_one_more_is_413_and_the_server_goes_on(strict):
    part = b"--%b\r\n\r\n\r\n" % B.encode()
    end = b"--%b--\r\n" % B.encode()

    with strict.client() as web:
        kind = {"Content-Type": KIND}
        listed = web.post("/studies", content=part * 100_000 + end, headers=kind)
        refused = web.post("/studies", content=part * 100_001 + end, headers=kind)
        after = web.get("/studies?limit=1")

    assert listed.status_code == 400
    assert len(listed.json()["0008119A"]["Value"]) == 100_000
    assert refused.status_code == 413
    assert after.status_code in (200, 204)


@pytest.mark.parametrize(
    ("name", "lie"),
    [
        ("a chunk size that is no number", b"zz\r\nabc\r\n0\r\n\r\n"),
        ("a chunk that is longer than it says", b"3\r\nabcdef\r\n0\r\n\r\n"),
        ("a chunk size beyond all measure", b"ffffffffffffffff1\r\nabc\r\n"),
    ],
)
def test_a_chunked_lie_is_a_400(strict, name, lie):
    request = head(strict, "/studies", Content_Type=KIND, Transfer_Encoding="chunked")

    status, _ = exchange(strict, [request + lie], timeout_s=10)

    assert status in (400, 408), name


def test_length_and_chunks_together_are_not_taken_as_two_requests(strict):
    smuggled = b"0\r\n\r\nGET /dicomweb/studies HTTP/1.1\r\nHost: x\r\n\r\n"
    request = head(
        strict, "/studies", Content_Type=KIND, Content_Length="4", Transfer_Encoding="chunked"
    )

    status, _ = exchange(strict, [request + smuggled], timeout_s=10)

    assert status == 400


def test_one_bad_part_does_not_spoil_the_others(server, web):
    good, polyglot, wrong = slice_of(), slice_of(), slice_of(SOPInstanceUID="1.2.3.4")
    program = b"MZ" + bytes(126) + file_of(polyglot)[128:]
    broken = file_of(wrong).replace(b"1.2.3.4\0", b"../../x\0")
    mark = B.encode()
    body = multipart(file_of(good), b"", broken, program)[: -len(mark) - 6]
    body += b"--%b\r\nContent-Type: text/plain\r\n\r\nhello\r\n--%b--\r\n" % (mark, mark)

    answer = web.post("/studies", content=body, headers={"Content-Type": KIND})
    document = answer.json()
    got = web.get(url_of(polyglot), headers={"Accept": "application/dicom; transfer-syntax=*"})

    assert answer.status_code == 202
    stored = [item["00081155"]["Value"][0] for item in document["00081199"]["Value"]]
    assert stored == [good.SOPInstanceUID, polyglot.SOPInstanceUID]
    assert len(document["0008119A"]["Value"]) == 3
    # Whatever a preamble pretends to be, it is gone, and the file is saved instead of shown.
    assert got.content[:128] == bytes(128)
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["content-disposition"].startswith("attachment")


def test_a_failed_instance_is_listed_with_its_class_and_uid(server, web):
    dataset = slice_of()
    server.stow(file_of(dataset))
    dataset.PatientID = "other"

    answer = web.post(
        "/studies",
        content=file_of(dataset),
        headers={"Content-Type": "application/dicom", "Accept": "application/dicom+json"},
    )

    failed = answer.json()["00081198"]["Value"][0]
    assert answer.status_code == 409
    assert failed["00081150"]["Value"] == [dataset.SOPClassUID]
    assert failed["00081155"]["Value"] == [dataset.SOPInstanceUID]


def test_a_labelmap_segmentation_is_taken(web):
    dataset = slice_of(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.66.7", Modality="SEG", SegmentationType="LABELMAP"
    )

    answer = web.post(
        "/studies", content=file_of(dataset), headers={"Content-Type": "application/dicom"}
    )

    assert answer.status_code == 200


def test_answers_in_xml_when_asked_for(web):
    kind = {"Content-Type": "application/dicom", "Accept": "application/dicom+xml"}

    answer = web.post("/studies", content=file_of(slice_of()), headers=kind)
    refused = web.post("/studies", content=b"", headers={**kind, "Accept": "text/html"})

    assert answer.headers["content-type"] == "application/dicom+xml"
    assert b'keyword="RetrieveURL"' in answer.content
    assert refused.status_code == 406
