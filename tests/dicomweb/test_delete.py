"""DELETE: only with the right scope, audited, told in the feed, harmless to who is reading."""

from __future__ import annotations

import pytest
from pydicom.uid import generate_uid

from access import AuditEventKind
from tests.dicomweb.server import file_of, slice_of, url_of

WHOLE = 'multipart/related; type="application/dicom"; transfer-syntax=*'


@pytest.fixture
def study(server):
    """Two series, the first of two instances."""
    first = slice_of()
    second = slice_of(first.StudyInstanceUID, first.SeriesInstanceUID, InstanceNumber=2)
    third = slice_of(first.StudyInstanceUID)
    assert server.stow(*map(file_of, (first, second, third))).status_code == 200
    return first, second, third


@pytest.mark.parametrize(("level", "left"), [("instance", 2), ("series", 1), ("study", 0)])
def test_what_the_path_names_is_gone_and_the_rest_stays(web, study, level, left):
    answer = web.delete(url_of(study[0], level))
    rest = web.get(f"/instances?StudyInstanceUID={study[0].StudyInstanceUID}")
    found = web.get(f"/studies?StudyInstanceUID={study[0].StudyInstanceUID}")

    assert (answer.status_code, answer.content) == (204, b"")
    assert web.get(url_of(study[0])).status_code == 404
    assert len(rest.json() if rest.status_code == 200 else []) == left
    if left:
        assert found.json()[0]["00201208"]["Value"] == [left]
    else:
        assert found.status_code == 204


def test_the_metadata_of_the_series_no_longer_hold_it(web, study):
    url = url_of(study[0], "series") + "/metadata"
    before = web.get(url)

    web.delete(url_of(study[0]))
    after = web.get(url, headers={"If-None-Match": before.headers["etag"]})

    assert len(before.json()) == 2
    assert after.status_code == 200
    assert [one["00080018"]["Value"][0] for one in after.json()] == [study[1].SOPInstanceUID]


def test_what_is_not_there_is_404_and_a_path_that_is_none_is_400(web, study):
    once, twice = (web.delete(url_of(study[0])) for _ in range(2))

    assert [once.status_code, twice.status_code] == [204, 404]
    assert web.delete(f"/studies/{generate_uid()}").status_code == 404
    assert web.delete("/studies/1..2").status_code == 400
    assert web.delete("/studies").status_code == 405


def test_only_who_may_delete_does(server, study):
    url = url_of(study[0], "study")
    tokens = [
        server.token_for("system/ImagingStudy.crs"),
        server.token_for("system/Patient.cruds"),
        server.token_for(studies=[generate_uid()]),
    ]

    answers = []
    for token in tokens:
        with server.client(Authorization=f"Bearer {token}") as web:
            answers.append(web.delete(url).status_code)
    with server.client() as web:
        left = web.get(url_of(study[0])).status_code

    assert answers == [403, 403, 403]
    assert left == 200


def test_a_deletion_is_audited_and_told_in_the_feed_with_its_reason(server, web, study):
    after = web.get("/changefeed/latest").json()["sequence"]

    web.delete(url_of(study[0], "series"), params={"reason": "wrong patient"})
    changes = web.get(f"/changefeed?after={after}").json()["changes"]
    record = [one for one in server.audits() if one.action == "D"][-1]

    mine = [one for one in changes if one["study"] == study[0].StudyInstanceUID]
    assert {one["kind"] for one in mine} == {"instance_deleted"}
    assert {one["reason"] for one in mine} == {"wrong patient"}
    assert {one["instance"] for one in mine} == {one.SOPInstanceUID for one in study[:2]}
    assert (record.event, record.outcome) == (AuditEventKind.DELETE, "success")
    assert record.study == study[0].StudyInstanceUID


def test_it_may_be_stored_again(server, web, study):
    web.delete(url_of(study[0]))

    assert server.stow(file_of(study[0])).status_code == 200
    assert web.get(url_of(study[0])).status_code == 200


def test_who_is_reading_reads_to_the_end(server, web):
    large = slice_of(PixelData=bytes(range(256)) * (64 * 1024))
    assert server.stow(file_of(large)).status_code == 200

    with web.stream("GET", url_of(large), headers={"Accept": WHOLE}) as reading:
        pieces = reading.iter_bytes(64 * 1024)
        first = next(pieces)
        with server.client() as other:
            deleted = other.delete(url_of(large, "study"))
        size = len(first) + sum(map(len, pieces))

    assert deleted.status_code == 204
    assert size == int(reading.headers["content-length"])
    assert web.get(url_of(large)).status_code == 404


def test_a_reason_is_short_text(web, study):
    answers = [
        web.delete(url_of(study[0]), params={"reason": reason}).status_code
        for reason in ("x" * 201, "two\nlines")
    ]

    assert answers == [400, 400]
