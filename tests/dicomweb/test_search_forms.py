"""QIDO-RS in every form that PS3.18 section 8.3.4 allows, at three levels, in two formats."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from pydicom import Dataset

from dicomweb.config import DicomwebConfig
from tests.dicomweb.server import file_of, parts_of, running, slice_of

XML = 'multipart/related; type="application/dicom+xml"'


def ordered(protocol: str) -> Dataset:
    """A request item with a scheduled protocol code, two sequences deep."""
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = protocol, "99T", "Protocol"
    item = Dataset()
    item.ScheduledProcedureStepID = f"SPS{protocol}"
    item.ScheduledProtocolCodeSequence = [code]
    return item


@pytest.fixture(scope="module")
def hospital(tmp_path_factory, postgres):
    """A server of its own with six studies whose facts differ."""
    postgres.create_database("dicomweb_forms")
    config = DicomwebConfig(max_results=5)
    facts = [
        {
            "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう",
            "SpecificCharacterSet": "ISO_IR 192",
        },
        {"PatientName": "Müller^Jörg", "SpecificCharacterSet": "ISO_IR 100"},
        {"PatientName": "Smith^John^^Dr", "TimezoneOffsetFromUTC": "+0100"},
        {"PatientName": "Smith^Jane", "PatientID": "", "AccessionNumber": ""},
        {"PatientName": "O'Neil^Pat", "Modality": "CT", "SeriesNumber": 7},
        {"PatientName": "100%_wild^Card", "RequestAttributesSequence": [ordered("P5")]},
    ]
    with running(
        postgres.dsn("dicomweb_forms"), tmp_path_factory.mktemp("forms"), config
    ) as server:
        server.made = []
        for number, fact in enumerate(facts):
            dates = {"StudyDate": f"2026010{number + 1}", "StudyTime": f"0{number}3000"}
            dataset = slice_of(**{"PatientID": f"ID{number}", **dates, **fact})
            assert server.stow(file_of(dataset)).status_code == 200
            server.made.append(dataset)
        yield server


@pytest.fixture
def asked(hospital):
    """Which of the six studies a query finds, or the status it is refused with."""

    def ask(query: str, level: str = "studies"):
        with hospital.client() as web:
            answer = web.get(f"/{level}?{query}")
        if answer.status_code == 204:
            return []
        if answer.status_code != 200:
            return answer.status_code
        uids = [one.StudyInstanceUID for one in hospital.made]
        return sorted({uids.index(item["0020000D"]["Value"][0]) for item in answer.json()})

    return ask


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("PatientID=ID1", [1]),
        ("00100020=ID1", [1]),
        ("PatientID=ID?&StudyDate=20260101-20260103", [0, 1, 2]),
        ("StudyDate=20260104-", [3, 4, 5]),
        ("StudyDate=-20260102", [0, 1]),
        ("StudyDate=20260103", [2]),
        ("StudyDate=2026.01.03", [2]),
        ("StudyDate=20260105-20260101", 400),
        ("StudyDate=-", 400),
        ("StudyDate=20261301", 400),
        ("StudyTime=0330-0430", [3, 4]),
        ("StudyTime=033000.0-043000.000001", [3, 4]),
        ("StudyDate=20260103-20260104&StudyTime=0000-0300", [2]),
        ("PatientID=&StudyDate=20260102", [1]),
        ('PatientID=""', [3]),
        ("PatientID=%22%22&emptyvaluematching=true", [3]),
        ("PatientID=*&StudyDate=20260104", [3]),
        ("Modality=CT", [4]),
        ("ModalitiesInStudy=CT", [4]),
        ("ModalitiesInStudy=CT%5CPT", [4]),
        ("SeriesNumber=7", [4]),
        ("RequestAttributesSequence.ScheduledProcedureStepID=SPSP5", [5]),
        ("00400275.00400009=SPSP5", [5]),
        ("RequestAttributesSequence.00400008.CodeValue=P5", [5]),
        ("RequestAttributesSequence.ScheduledProtocolCodeSequence.CodeValue=P6", []),
    ],
)
def test_match_parameters(asked, query, found):
    assert asked(query) == found


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Yamada^Tarou", [0]),
        ("山田*", [0]),
        ("=山田^太郎", [0]),
        ("==やまだ*", [0]),
        ("Yamada*=山田*", [0]),
        ("Yamada*=田中*", []),
        ("muller*", [1]),
        ("MÜLLER^JÖRG", [1]),
        ("Smith^John^^Dr", [2]),
        ("Smith^John^^Dr^", [2]),
        ("Smith^J*", [2, 3]),
        ("smith^jane^^", [3]),
        ("O'Neil*", [4]),
        ("100%_wild*", [5]),
        ("%", []),
        ("_mith*", []),
        ("'; drop table archive.study; --", []),
    ],
)
def test_person_names(asked, name, found):
    from urllib.parse import quote

    assert asked(f"PatientName={quote(name)}") == found


def test_fuzzy_words_match_the_beginning_of_any_part(asked):
    assert asked("PatientName=jan%20smi&fuzzymatching=true") == [3]
    assert asked("PatientName=jan%20smi&fuzzymatching=false") == []


@pytest.mark.parametrize("between", [",", "%2C", "%5C"])
@pytest.mark.parametrize("name", ["StudyInstanceUID", "0020000d"])
def test_lists_of_uids(hospital, asked, between, name):
    uids = between.join(hospital.made[number].StudyInstanceUID for number in (1, 4))

    assert asked(f"{name}={uids}") == [1, 4]


@pytest.mark.parametrize(
    "include",
    [
        "includefield=SeriesDescription&includefield=00180015",
        "includefield=SeriesDescription,00180015",
        "includefield=SeriesDescription%2C00180015",
        "includefield=all",
    ],
)
def test_included_fields_in_every_spelling(hospital, include):
    study = hospital.made[0].StudyInstanceUID
    with hospital.client() as web:
        answer = web.get(f"/studies/{study}/series?{include}")

    assert answer.status_code == 200
    assert answer.json()[0]["0008103E"]["Value"] == ["T1"]
    assert "warning" not in answer.headers


def test_included_fields_of_the_study_come_with_its_series(hospital):
    one = hospital.made[0]
    with hospital.client() as web:
        path = f"/studies/{one.StudyInstanceUID}/series"
        plain = web.get(path).json()[0]
        more = web.get(f"{path}?includefield=PatientID&includefield=StudyDate").json()[0]

    assert "00100020" not in plain
    assert (more["00100020"]["Value"], more["00080020"]["Value"]) == (["ID0"], ["20260101"])


@pytest.mark.parametrize("name", ["00091001", "PixelSpacing", "00400275.00400009"])
def test_a_field_that_is_not_kept_is_told_in_a_warning(hospital, name):
    with hospital.client() as web:
        answer = web.get(f"/studies?limit=1&includefield={name}")

    assert answer.status_code == 200
    warning = answer.headers["warning"]
    assert warning.startswith("299 ")
    assert name in warning or name == "PixelSpacing"


@pytest.mark.parametrize("query", ["PatientHeight=1", "00091001=x", "PixelData=1"])
def test_an_attribute_that_is_not_kept_is_400_with_what_is(hospital, query):
    with hospital.client() as web:
        answer = web.get(f"/studies?{query}")

    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (400, 400)
    assert {"PatientID", "Modality", "SOPInstanceUID"} <= set(problem["known"])
    assert problem["advice"]


@pytest.mark.parametrize(
    "query",
    [
        "fuzzymatching=perhaps",
        "limit=1&limit=x",
        "Nonsense=1",
        "0010002=1",
        "PatientName=a%00b",
        "StudyInstanceUID=../../etc",
        "&".join(f"PatientID={n}" for n in range(200)),
        f"PatientID={'x' * 20_000}",
    ],
)
def test_parameters_that_are_wrong_are_400(asked, query):
    assert asked(query) == 400


def test_the_warning_says_how_many_more_there_are(hospital):
    with hospital.client() as web:
        capped = web.get("/studies")
        greedy = web.get("/studies?limit=100&offset=2")
        rest = web.get("/studies?offset=5")
        modest = web.get("/studies?limit=2")

    assert len(capped.json()) == 5
    assert capped.headers["warning"] == (
        f'299 {hospital.base} "There are 1 additional results that can be requested"'
    )
    assert len(greedy.json()) == 4 and "warning" not in greedy.headers
    assert len(rest.json()) == 1 and "warning" not in rest.headers
    assert "warning" not in modest.headers


def test_pages_neither_overlap_nor_leave_a_gap(hospital):
    with hospital.client() as web:
        pages = [web.get(f"/instances?limit=1&offset={n}").json() for n in range(6)]
        end = web.get("/instances?limit=1&offset=6")

    uids = [item["00080018"]["Value"][0] for page in pages for item in page]
    assert sorted(uids) == sorted(one.SOPInstanceUID for one in hospital.made)
    assert end.status_code == 204


def test_multiple_values_that_cannot_be_matched_are_told(hospital):
    with hospital.client() as web:
        answer = web.get("/studies?PatientID=ID1%5CID2&multiplevaluematching=true")

    assert answer.status_code in (200, 204)
    assert answer.status_code == 200 or "multiplevaluematching" in answer.headers["warning"]


@pytest.mark.parametrize("level", ["studies", "series", "instances"])
def test_the_answer_is_valid_dicom_json_in_utf8(hospital, level):
    with hospital.client() as web:
        answer = web.get(f"/{level}?PatientName=Yamada*")
        item = answer.json()[0]

    assert answer.headers["content-type"] == "application/dicom+json"
    assert list(item) == sorted(item)  # PS3.18 F.2.2
    assert "山田^太郎" in answer.content.decode()
    assert item["00081190"]["vr"] == "UR"
    assert item["00081190"]["Value"][0].startswith(f"{hospital.base}/studies/")


def test_the_time_zone_of_an_object_is_returned(hospital):
    with hospital.client() as web:
        item = web.get("/studies?PatientID=ID2").json()[0]

    assert item["00080201"]["Value"] == ["+0100"]


@pytest.mark.parametrize("level", ["studies", "series", "instances"])
def test_the_same_answer_in_xml(hospital, level):
    with hospital.client() as web:
        json = web.get(f"/{level}?StudyDate=20260101-20260103").json()
        answer = web.get(f"/{level}?StudyDate=20260101-20260103", headers={"Accept": XML})

    assert answer.headers["content-type"].startswith(
        'multipart/related; type="application/dicom+xml"'
    )
    parts = parts_of(answer)
    assert len(parts) == len(json) == 3
    tags = [[one.get("tag") for one in ET.fromstring(content)] for _, content in parts]
    assert tags == [sorted(item) for item in json]


@pytest.mark.parametrize(
    ("accept", "status", "kind"),
    [
        ("*/*", 200, "application/dicom+json"),
        ("application/*", 200, "application/dicom+json"),
        ("application/json", 200, "application/json"),
        ("application/json;q=0.5, application/dicom+json;q=0.4", 200, "application/json"),
        (f"{XML};q=0.9, application/dicom+json;q=0.1", 200, "multipart/related"),
        ("application/dicom+json;q=0, */*", 200, "application/json"),
        ("text/html, application/xhtml+xml, */*;q=0.8", 200, "application/dicom+json"),
        ("text/html", 406, "application/problem+json"),
        ("application/dicom+json;q=0", 406, "application/problem+json"),
        ("nonsense", 400, "application/problem+json"),
    ],
)
def test_the_accept_header_decides(hospital, accept, status, kind):
    with hospital.client() as web:
        answer = web.get("/studies?limit=1", headers={"Accept": accept})

    assert answer.status_code == status
    assert answer.headers["content-type"].split(";")[0] == kind
    assert "Accept" in answer.headers.get("vary", "Accept")


def test_the_accept_parameter_goes_first_and_a_refusal_lists_what_is_offered(hospital):
    with hospital.client() as web:
        xml = web.get(f"/studies?limit=1&accept={XML.replace(' ', '')}")
        refused = web.get("/studies?limit=1", params={"limit": 1, "accept": "text/csv"})

    assert xml.headers["content-type"].startswith("multipart/related")
    assert refused.status_code == 406
    assert "application/dicom+json" in refused.json()["offered"]


@pytest.mark.parametrize(
    ("charset", "status"),
    [("utf-8", 200), ("iso-8859-1, UTF-8;q=0.1", 200), ("*", 200), ("iso-8859-1", 406)],
)
def test_answers_are_in_utf8_and_nothing_else(hospital, charset, status):
    with hospital.client() as web:
        answer = web.get("/studies", params={"limit": 1, "charset": charset})

    assert answer.status_code == status
