"""Paths and names that try to leave the archive, or to break what reads them (X36, E3 28)."""

from __future__ import annotations

import pytest
from pydicom.uid import generate_uid

from tests.dicomweb.raw import exchange, head
from tests.dicomweb.server import B, file_of, multipart, slice_of, url_of

KIND = f'multipart/related; type="application/dicom"; boundary={B}'
WRONG = [
    "..", "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e%2f%2e%2e", "1.2.%00", "1.2%0a",
    "1..2", ".1.2", "1.2.", "1.02", "00.1", "1." * 32 + "1", "1.2.3a", "%EF%BC%91.2",
    "1.2%5c3", "*", "1.2;ls", "%F0%9F%92%A9",
]  # fmt: skip
TAILS = [
    "",
    "/metadata",
    "/series",
    "/instances",
    "/rendered",
    "/thumbnail",
    "/series/1.2/metadata",
]


@pytest.mark.parametrize("uid", WRONG)
def test_a_uid_that_is_none_is_refused_everywhere(server, uid):
    for method in ("GET", "DELETE", "HEAD"):
        for tail in TAILS:
            request = head(server, f"/studies/{uid}{tail}", method=method, Connection="close")
            status, _ = exchange(server, [request], timeout_s=10, method=method)
            assert status in (400, 404, 405), (method, uid, tail)


@pytest.mark.parametrize("uid", WRONG)
def test_the_series_and_the_instance_are_checked_as_well(server, uid):
    for path in (f"/studies/1.2/series/{uid}", f"/studies/1.2/series/1.3/instances/{uid}"):
        request = head(server, path + "/metadata", method="GET", Connection="close")
        status, _ = exchange(server, [request], timeout_s=10)
        assert status in (400, 404), path


@pytest.mark.parametrize(
    "path",
    ["../../../../etc/passwd", "7FE00010/..", "7FE00010/1", "x", "7FE00010/0/7FE00010", "1/" * 200],
)
def test_bulk_data_paths_are_tags_and_numbers(web, stored, path):
    answer = web.get(f"{url_of(stored)}/bulkdata/{path.replace('..', '%2e%2e')}")

    assert answer.status_code in (400, 404)


@pytest.mark.parametrize(
    "uid",
    [
        "../../../x",
        "1.2.3/../../x",
        "1" * 65,
        "1.02",
        "1..2",
        "1.2.3\n",
        "１.２",
        "1.2.3*",
        "C:\\x",
    ],
)
@pytest.mark.parametrize("name", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_a_file_whose_uids_are_paths_is_refused_and_nothing_is_written(
    server, web, tmp_path, name, uid
):
    dataset = slice_of()
    marker = "1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16.17.18.19.20.21.22.23.24.25.26.27.28.29.30.3"
    setattr(dataset, name, marker[:65])
    evil = uid.encode()[:65].ljust(66, b"\0")
    file = file_of(dataset).replace(marker[:65].encode() + b"\0", evil)
    root = server.archive._config.root
    before = sorted(path for path in root.parent.rglob("*") if path.is_file())

    answer = web.post("/studies", content=multipart(file), headers={"Content-Type": KIND})

    after = sorted(path for path in root.parent.rglob("*") if path.is_file())
    assert answer.status_code == 400
    assert [p for p in after if p not in before and "audit" not in p.parts] == []


@pytest.mark.parametrize(
    "text", ["../../x", "a\x00b", "x" * 65, "\u202egnp.exe", "=cmd|' /C calc'!A0"]
)
def test_other_identifiers_may_hold_anything_and_harm_nothing(server, web, text):
    dataset = slice_of(StudyID=text[:16], AccessionNumber=text[:16], PatientID=text)
    dataset.SpecificCharacterSet = "ISO_IR 192"

    answer = server.stow(file_of(dataset))
    found = web.get(f"/studies?StudyInstanceUID={dataset.StudyInstanceUID}")

    assert answer.status_code in (200, 400)
    assert found.status_code in (200, 204)
    assert found.status_code == 204 or found.headers["content-type"] == "application/dicom+json"


def test_there_is_no_other_place_to_go(web):
    for path in ("/", "/nothing", "/studies/", f"/studies/{generate_uid()}/nothing", "//studies"):
        answer = web.get(path)
        assert answer.status_code in (404, 405, 307, 400), path
        if answer.status_code != 307:
            assert answer.headers["content-type"] == "application/problem+json", path
            assert answer.headers["x-content-type-options"] == "nosniff"
