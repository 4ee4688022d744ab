"""Extended query tags: added by administrators, filled in behind the feed, then searched by."""

from __future__ import annotations

import time

import pytest
from pydicom import Dataset

from tests.dicomweb.server import file_of, running, slice_of, url_of

ADMIN = "system/SearchParameter.cruds system/ImagingStudy.cruds"
TAGS = "/extendedquerytags"


@pytest.fixture(scope="module")
def site(tmp_path_factory, postgres):
    """A server of its own with three studies whose rarer attributes differ."""
    postgres.create_database("dicomweb_tags")
    with running(postgres.dsn("dicomweb_tags"), tmp_path_factory.mktemp("tags")) as server:
        server.made = []
        for number in range(3):
            server.made.append(made(number))
        assert server.stow(*map(file_of, server.made)).status_code == 200
        yield server


def made(number: int) -> Dataset:
    dataset = slice_of(
        PatientID=f"ID{number}",
        ProtocolName="usual",
        ReceiveCoilName=f"HEAD{number}",
        EchoNumbers=number,
        ContentCreatorName=f"Müller^{number}",
        SpecificCharacterSet="ISO_IR 192",
        ContentQualification="RESEARCH",
        FrameOfReferenceUID=f"1.2.3.{number}",
        DateOfSecondaryCapture=f"2026010{number + 1}",
    )
    block = dataset.private_block(0x0029, "ACME 1.0", create=True)
    block.add_new(0x01, "LO", f"private {number}")
    detail = Dataset()
    detail.CodeValue = f"C{number}"
    dataset.DerivationCodeSequence = [detail]
    return dataset


@pytest.fixture
def admin(site):
    with site.client(Authorization=f"Bearer {site.token_for(ADMIN)}") as web:
        yield web
        for one in web.get(TAGS).json():
            web.delete(f"{TAGS}/{one['path']}")


def add(admin, path, level, **more):
    answer = admin.post(TAGS, json=[{"path": path, "level": level, **more}])
    assert answer.status_code == 202, answer.text
    deadline = time.monotonic() + 20
    while admin.get(f"{TAGS}/{path}").json()["status"] != "ready":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return answer.json()[0]


def found(web, query, level="studies"):
    answer = web.get(f"/{level}?{query}")
    assert answer.status_code in (200, 204), answer.text
    items = answer.json() if answer.status_code == 200 else []
    return [item["00100020"]["Value"][0] for item in items]


@pytest.mark.parametrize(
    ("path", "level", "more", "query", "whose"),
    [
        ("ReceiveCoilName", "series", {}, "ReceiveCoilName=HEAD1", ["ID1"]),
        ("00181250", "series", {}, "00181250=HEAD?", ["ID0", "ID1", "ID2"]),
        ("EchoNumbers", "instance", {}, "EchoNumbers=2", ["ID2"]),
        ("DateOfSecondaryCapture", "instance", {}, "00181012=20260102-20260103", ["ID1", "ID2"]),
        ("ContentCreatorName", "study", {}, "ContentCreatorName=muller^1", ["ID1"]),
        ("00291001", "instance", {"vr": "LO"}, "00291001=private*0", ["ID0"]),
        ("ContentQualification", "study", {}, 'ContentQualification=""', []),
    ],
)
def test_each_kind_of_attribute_can_be_searched_by(admin, path, level, more, query, whose):
    add(admin, path, level, **more)

    assert sorted(found(admin, query)) == whose
    assert sorted(found(admin, query, "instances")) == whose


def test_names_and_sequences(admin):
    add(admin, "DerivationCodeSequence", "instance")

    assert found(admin, "DerivationCodeSequence.CodeValue=C2") == ["ID2"]
    assert found(admin, "00089215.00080100=C9") == []


def test_the_value_is_returned_at_its_level_and_below_when_asked_for(admin, site):
    add(admin, "ReceiveCoilName", "series")
    study = site.made[1].StudyInstanceUID
    field = "includefield=ReceiveCoilName"

    series = admin.get(f"/series?StudyInstanceUID={study}&{field}")
    instance = admin.get(f"/instances?StudyInstanceUID={study}&includefield=all")
    above = admin.get(f"/studies?StudyInstanceUID={study}&{field}")

    assert series.json()[0]["00181250"]["Value"] == ["HEAD1"]
    assert instance.json()[0]["00181250"]["Value"] == ["HEAD1"]
    assert list(series.json()[0]) == sorted(series.json()[0])
    assert "warning" not in series.headers
    assert "00181250" not in above.json()[0] and "00181250" in above.headers["warning"]


def test_what_is_stored_or_deleted_later_is_followed(admin, site):
    add(admin, "ReceiveCoilName", "series")
    late = made(7)
    site.stow(file_of(late))
    deadline = time.monotonic() + 20
    while found(admin, "ReceiveCoilName=HEAD7") != ["ID7"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)

    admin.delete(url_of(late, "study"))

    assert found(admin, "ReceiveCoilName=HEAD7") == []


def test_a_tag_that_is_removed_is_unknown_again(admin):
    add(admin, "ReceiveCoilName", "series")

    removed = admin.delete(f"{TAGS}/ReceiveCoilName")
    again = admin.delete(f"{TAGS}/00181250")
    search = admin.get("/studies?ReceiveCoilName=HEAD1")

    assert [removed.status_code, again.status_code, search.status_code] == [204, 404, 400]


def test_an_added_tag_is_listed_and_among_the_known(admin):
    entry = add(admin, "ReceiveCoilName", "series")

    listed = admin.get(TAGS).json()
    known = admin.get("/studies?PixelData=1").json()["known"]

    assert entry["vr"] == "SH" and listed[0]["keyword"] == "ReceiveCoilName"
    assert listed[0]["progress"]["done"] >= listed[0]["progress"]["total"]
    assert "ReceiveCoilName" in known


@pytest.mark.parametrize(
    "body",
    [
        [{"path": "PatientID", "level": "study"}],
        [{"path": "PixelData", "level": "instance"}],
        [{"path": "00291001", "level": "instance"}],
        [{"path": "Nonsense", "level": "study"}],
        [{"path": "00400275.00400009", "level": "series"}],
        [{"path": "ReceiveCoilName", "level": "patient"}],
        [{"path": "ReceiveCoilName"}],
        [{"path": "'; drop table archive.query_tag; --", "level": "study"}],
        [{"path": "00291001", "level": "study", "vr": "lo'"}],
        ["x"],
        "x",
    ],
)
def test_a_tag_that_cannot_be_kept_is_400(admin, body):
    assert admin.post(TAGS, json=body).status_code == 400


def test_only_who_may_change_search_parameters_may(site):
    with site.client() as web:
        answers = [
            web.get(TAGS),
            web.get(f"{TAGS}/ReceiveCoilName"),
            web.post(TAGS, json=[]),
            web.delete(f"{TAGS}/ReceiveCoilName"),
        ]

    assert [one.status_code for one in answers] == [403] * 4
