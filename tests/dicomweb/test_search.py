"""QIDO-RS as OHIF and dicomweb-client ask."""

from __future__ import annotations

import pytest
from pydicom.uid import generate_uid

from dicomweb.config import DicomwebConfig
from tests.dicomweb.server import file_of, running, slice_of, url_of

OHIF = "includefield=00081030%2C00080060%2C00080090%2C00100030"


@pytest.fixture(scope="module")
def studies(dsn, tmp_path_factory, postgres):
    """A server of its own with four studies of one series of two instances."""
    postgres.create_database("dicomweb_search")
    config = DicomwebConfig(max_results=3)
    folder = tmp_path_factory.mktemp("search")
    with running(postgres.dsn("dicomweb_search"), folder, config) as server:
        made = []
        for number in range(4):
            study, series = generate_uid(), generate_uid()
            facts = {"PatientName": f"Name{number}^Given", "PatientID": f"ID{number}"}
            facts["StudyDate"] = f"2026010{number + 1}"
            pair = [slice_of(study, series, InstanceNumber=n, **facts) for n in (1, 2)]
            assert server.stow(*map(file_of, pair)).status_code == 200
            made.append(pair)
        server.made = made
        yield server


def uids(answer, tag="0020000D"):
    return {item[tag]["Value"][0] for item in answer.json()}


def test_the_study_list_of_ohif(studies):
    with studies.client() as web:
        answer = web.get(f"/studies?limit=3&offset=0&fuzzymatching=false&{OHIF}")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    study = answer.json()[0]
    needed = (
        "0020000D 00080020 00080030 00080050 00100020 00100010 00100030 00201208 00081030 "
        "00080061 00080090"
    )
    assert set(needed.split()) <= set(study)
    assert study["00081030"]["Value"] == ["Brain MR"]
    assert study["00100010"]["Value"][0]["Alphabetic"].startswith("Name")
    assert study["00201208"]["Value"] == [2]
    assert study["00081190"]["Value"][0].startswith(f"{studies.base}/studies/")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("PatientName=*name2*", [2]),
        ("00100020=*ID1*", [1]),
        ("AccessionNumber=*A1*&StudyDate=20260102-20260103", [1, 2]),
        ("StudyDescription=*Brain*&PatientID=ID3", [3]),
        ("ModalitiesInStudy=MR&PatientID=ID0", [0]),
        ("PatientID=nobody", []),
        ("PatientName=given&fuzzymatching=true&PatientID=ID1", [1]),
    ],
)
def test_filters(studies, query, found):
    with studies.client() as web:
        answer = web.get(f"/studies?{query}&{OHIF}")

    wanted = {studies.made[number][0].StudyInstanceUID for number in found}
    if not wanted:
        assert (answer.status_code, answer.content) == (204, b"")
    else:
        assert uids(answer) == wanted


@pytest.mark.parametrize("between", ["%5C", ",", "%2C"])
def test_several_study_uids_at_once(studies, between):
    pair = [studies.made[0][0].StudyInstanceUID, studies.made[2][0].StudyInstanceUID]

    with studies.client() as web:
        answer = web.get(f"/studies?StudyInstanceUID={between.join(pair)}&{OHIF}")

    assert uids(answer) == set(pair)


def test_paging_and_the_warning_where_more_matched_than_is_given(studies):
    with studies.client() as web:
        capped = web.get("/studies")
        asked = web.get("/studies?limit=2")
        rest = web.get("/studies?limit=2&offset=2")
        greedy = web.get("/studies?limit=1000")

    assert [len(one.json()) for one in (capped, asked, rest, greedy)] == [3, 2, 2, 3]
    assert len(uids(asked) | uids(rest)) == 4
    assert capped.headers["warning"].startswith("299 ")
    assert greedy.headers["warning"].startswith("299 ")
    assert "warning" not in asked.headers


def test_every_level_and_both_ways_to_name_the_study(studies):
    one = studies.made[0][0]
    study, series = one.StudyInstanceUID, one.SeriesInstanceUID

    with studies.client() as web:
        paths = {
            "series": f"/studies/{study}/series",
            "all series": f"/series?StudyInstanceUID={study}",
            "instances": f"{url_of(one, 'series')}/instances",
            "study instances": f"/studies/{study}/instances",
            "all instances": f"/instances?SeriesInstanceUID={series}&InstanceNumber=1",
        }
        found = {name: web.get(path).json() for name, path in paths.items()}

    assert {name: len(items) for name, items in found.items()} == {
        "series": 1,
        "all series": 1,
        "instances": 2,
        "study instances": 2,
        "all instances": 1,
    }
    assert found["series"][0]["00201209"]["Value"] == [2]
    assert found["all instances"][0]["00081190"]["Value"] == [studies.base + url_of(one)]


@pytest.mark.parametrize(
    "query",
    ["Nonsense=1", "limit=-1", "limit=x", "offset=1.5", "includefield=Nonsense", "StudyDate=x"],
)
def test_what_cannot_be_asked_is_400(studies, query):
    with studies.client() as web:
        answer = web.get(f"/studies?{query}")

    assert answer.status_code == 400
    assert answer.json()["status"] == 400


def test_dicomweb_client_searches(studies):
    peer = studies.peer()

    found = peer.search_for_studies(
        search_filters={"PatientID": "ID2"}, fields=["StudyDescription"]
    )
    nothing = peer.search_for_studies(search_filters={"PatientID": "nobody"})
    series = peer.search_for_series(found[0]["0020000D"]["Value"][0])

    assert len(found) == len(series) == 1
    assert nothing == []


def test_a_restricted_token_finds_its_studies_only(studies):
    mine = studies.made[1][0].StudyInstanceUID
    token = studies.token_for("system/ImagingStudy.rs", studies=[mine])

    with studies.client(Authorization=f"Bearer {token}") as web:
        found = [uids(web.get(path)) for path in ("/studies", "/series", "/instances")]

    assert found == [{mine}] * 3
