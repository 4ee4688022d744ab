"""Zip, ranges of bytes, studies that are deleted or damaged while they are sent."""

from __future__ import annotations

import io
import zipfile

import httpx
import pytest
from pydicom import dcmread

from archive import Source
from tests.dicomweb.server import file_of, parts_of, slice_of, url_of

OCTETS = {"Accept": "application/octet-stream"}
DICOM = {"Accept": "application/dicom"}


@pytest.fixture
def study(server):
    first = slice_of()
    more = [slice_of(first.StudyInstanceUID, first.SeriesInstanceUID) for _ in range(2)]
    other = slice_of(first.StudyInstanceUID)
    assert server.stow(*(file_of(one) for one in (first, *more, other))).status_code == 200
    return [first, *more, other]


@pytest.mark.parametrize("level", ["study", "series", "instance"])
def test_a_zip_holds_the_files_under_safe_names(web, study, level):
    answer = web.get(url_of(study[0], level), headers={"Accept": "application/zip"})

    assert answer.headers["content-type"] == "application/zip"
    assert ".zip" in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as got:
        assert got.testzip() is None
        names = got.namelist()
        assert len(names) == {"study": 4, "series": 3, "instance": 1}[level]
        assert all(set(name) <= set("0123456789./dcm") and ".." not in name for name in names)
        name = f"{study[0].SeriesInstanceUID}/{study[0].SOPInstanceUID}.dcm"
        assert got.read(name) == file_of(study[0])


def test_parts_of_a_bulk_value(web, stored):
    url = f"{url_of(stored)}/bulkdata/7FE00010"
    data = stored.PixelData

    def part(text, **more):
        return web.get(url, headers={**OCTETS, "Range": text, **more})

    whole = web.get(url, headers=OCTETS)
    assert (whole.status_code, whole.headers["accept-ranges"]) == (200, "bytes")
    etag = whole.headers["etag"]
    for text, expected in (
        ("bytes=0-9", data[:10]),
        ("bytes=700-", data[700:]),
        ("bytes=-5", data[-5:]),
        ("bytes=760-9999", data[760:]),
    ):
        answer = part(text)
        assert (answer.status_code, answer.content) == (206, expected), text
        assert int(answer.headers["content-length"]) == len(expected)
    assert part("bytes=0-9").headers["content-range"] == f"bytes 0-9/{len(data)}"
    beyond = part("bytes=768-")
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, "bytes */768")
    assert part("bytes=0-9", **{"If-Range": etag}).status_code == 206
    for whole_again in (
        part("bytes=0-9", **{"If-Range": '"another"'}),
        part("bytes=0-1,4-5"),
        part("lines=1-2"),
        part("bytes=9-2"),
    ):
        assert (whole_again.status_code, whole_again.content) == (200, data)


def test_a_range_of_an_instance(web, stored):
    answer = web.get(url_of(stored), headers={**DICOM, "Range": "bytes=128-131"})

    assert (answer.status_code, answer.content) == (206, b"DICM")


def test_a_study_that_is_deleted_while_it_is_sent_is_whole_or_cut(server, web):
    """X40: files vanish between the parts; the client sees it, and the server goes on."""
    first = slice_of(Rows=1024, Columns=1024, PixelData=bytes(2 * 1024 * 1024))
    files = [first]
    for _ in range(7):
        one = slice_of(first.StudyInstanceUID, Rows=1024, Columns=1024)
        one.PixelData = bytes(2 * 1024 * 1024)
        files.append(one)
    server.stow(*(file_of(one) for one in files))
    got = b""

    with web.stream("GET", url_of(first, "study")) as answer:
        length = int(answer.headers["content-length"])
        try:
            for chunk in answer.iter_raw(64 * 1024):
                if not got:
                    server.archive.delete(
                        first.StudyInstanceUID, source=Source("local"), reason="test"
                    )
                got += chunk
        except httpx.HTTPError:
            assert len(got) < length

    assert web.get(url_of(first, "study")).status_code == 404
    assert web.get("/studies?limit=1").status_code in (200, 204)


def test_damaged_bytes_never_leave_as_a_whole_instance(server, web, stored):
    path = server.archive.instance(
        server.archive.study_instances(stored.StudyInstanceUID)[0].key
    ).path
    data = bytearray(path.read_bytes())
    data[-3] ^= 0xFF
    path.chmod(0o600)
    path.write_bytes(data)

    for headers in (DICOM, {}):
        try:
            answer = web.get(url_of(stored), headers=headers)
        except httpx.HTTPError:
            continue  # cut before its end
        assert answer.status_code == 500


def test_multipart_of_a_large_study_parses_elsewhere(server, web, study):
    parts = parts_of(web.get(url_of(study[0], "study")))

    uids = {str(dcmread(io.BytesIO(body)).SOPInstanceUID) for _, body in parts}
    assert uids == {str(one.SOPInstanceUID) for one in study}
