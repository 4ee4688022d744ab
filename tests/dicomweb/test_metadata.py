"""Metadata: JSON and XML, entity tags, compression, HEAD and the Accept header."""

from __future__ import annotations

import gzip
import xml.etree.ElementTree as ET

import pytest

from tests.dicomweb.server import file_of, parts_of, slice_of, url_of

XML = 'multipart/related; type="application/dicom+xml"'
LEVELS = ("study", "series", "instance")


@pytest.fixture(scope="module")
def pair(server):
    """Two slices of one series."""
    first = slice_of(PatientName="Yamada^Tarou=山田^太郎", SpecificCharacterSet="ISO_IR 192")
    second = slice_of(first.StudyInstanceUID, first.SeriesInstanceUID, InstanceNumber=2)
    assert server.stow(file_of(first), file_of(second)).status_code == 200
    return first, second


@pytest.mark.parametrize("level", LEVELS)
def test_xml_has_one_part_an_instance_with_the_attributes_of_the_json(web, pair, level):
    url = url_of(pair[0], level) + "/metadata"

    json = web.get(url).json()
    answer = web.get(url, headers={"Accept": XML})

    parts = parts_of(answer)
    assert len(parts) == len(json) == (1 if level == "instance" else 2)
    for (headers, content), document in zip(parts, json, strict=True):
        root = ET.fromstring(content)
        assert headers["content-type"] == "application/dicom+xml"
        assert [one.get("tag") for one in root] == sorted(document)
    name = ET.fromstring(parts[0][1]).find(".//Ideographic/FamilyName")
    assert name is not None and name.text == "山田"


@pytest.mark.parametrize("level", LEVELS)
def test_the_bulk_data_of_either_form_can_be_fetched(server, web, pair, level):
    url = url_of(pair[0], level) + "/metadata"

    relative = web.get(url).json()[0]["7FE00010"]["BulkDataURI"]
    root = ET.fromstring(parts_of(web.get(url, headers={"Accept": XML}))[0][1])
    bulk = root.find(".//DicomAttribute[@tag='7FE00010']/BulkData")
    octets = {"Accept": "application/octet-stream; transfer-syntax=*"}
    answers = [
        web.get(f"{server.base}{url_of(pair[0], level)}/{relative}", headers=octets),
        web.get(bulk.get("uri"), headers=octets),
    ]

    assert [one.status_code for one in answers] == [200, 200]
    assert answers[0].content == answers[1].content == pair[0].PixelData


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("accept", ["application/dicom+json", XML])
def test_what_the_client_has_already_is_304(web, pair, level, accept):
    url, headers = url_of(pair[0], level) + "/metadata", {"Accept": accept}

    tag = web.get(url, headers=headers).headers["etag"]
    asked = [tag, f'"other", {tag}', f"W/{tag.removeprefix('W/')}", "*", '"other"', '"a,b"']
    got = [web.get(url, headers={**headers, "If-None-Match": one}) for one in asked]

    assert [one.status_code for one in got] == [304, 304, 304, 304, 200, 200]
    assert all(one.headers["etag"] and not one.content for one in got[:4])
    assert "Accept" in got[0].headers["vary"]


def test_the_tag_changes_with_a_new_instance_and_differs_between_the_forms(server, web):
    first = slice_of()
    server.stow(file_of(first))
    url = url_of(first, "series") + "/metadata"

    before = web.get(url).headers["etag"]
    xml = web.get(url, headers={"Accept": XML}).headers["etag"]
    server.stow(file_of(slice_of(first.StudyInstanceUID, first.SeriesInstanceUID)))
    after = web.get(url, headers={"If-None-Match": before})

    assert xml.removeprefix("W/") != before.removeprefix("W/")
    assert after.status_code == 200
    assert len(after.json()) == 2


@pytest.mark.parametrize(
    ("codings", "packed"),
    [
        ("gzip", True),
        ("br, gzip;q=0.5", True),
        ("*", True),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip;q=0.0, *", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("level", ["study", "series"])
def test_the_answer_is_packed_for_who_can_unpack(web, pair, level, codings, packed):
    url = url_of(pair[0], level) + "/metadata"
    with web.stream("GET", url, headers={"Accept-Encoding": codings}) as answer:
        raw = b"".join(answer.iter_raw())

    assert (answer.headers.get("content-encoding") == "gzip") == packed
    text = gzip.decompress(raw) if packed else raw
    assert text.startswith(b"[{") and "山田^太郎" in text.decode()
    assert "Accept-Encoding" in answer.headers["vary"]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("tail", ["", "/metadata", "/thumbnail"])
def test_head_says_what_get_would_and_sends_nothing(web, pair, level, tail):
    url = url_of(pair[0], level) + tail
    got, head = web.get(url), web.head(url)

    assert (head.status_code, head.content) == (got.status_code, b"")
    volatile = ("date", "server", "content-type", "content-length", "transfer-encoding")
    same = {k: v for k, v in got.headers.items() if k not in volatile}
    assert {k: v for k, v in head.headers.items() if k not in volatile} == same
    assert head.headers["content-type"].split(";")[0] == got.headers["content-type"].split(";")[0]


def test_what_cannot_be_made_is_406_with_what_can(web, pair):
    answer = web.get(url_of(pair[0]) + "/metadata", headers={"Accept": "text/html"})

    assert answer.status_code == 406
    assert XML in answer.json()["offered"]
