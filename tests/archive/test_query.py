"""Queries over studies, series and instances: matching, order, pages, what comes back."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, MRImageStorage, generate_uid

from archive import Archive, ArchiveConfig, Query, QueryError
from tests.archive.phantom import slice_of

STUDIES = [
    ("Müller^Jürgen", "A1", "20260101", "093000", "ACC1"),
    ("MULLER^ANNA", "A2", "20260215", "1015", "ACC2"),
    ("Yamada^Tarou=山田^太郎=やまだ^たろう", "B_1", "20251231", "235959.5", "acc1"),
    ("O'Neil^Sean", "B%1", "", "", ""),
]


@pytest.fixture(scope="module")
def filled(postgres, tmp_path_factory, put):
    """Four studies; the first has a CT and two MR series, three MR instances in the second."""
    postgres.create_database("archive_query")
    config = ArchiveConfig(tmp_path_factory.mktemp("query"), postgres.dsn("archive_query"), 0)
    with Archive.open(config) as archive:
        for number, (name, pid, date, time, accession) in enumerate(STUDIES, start=1):
            common = {
                "StudyInstanceUID": f"1.2.{number}",
                "PatientName": name,
                "PatientID": pid,
                "StudyDate": date,
                "StudyTime": time,
                "AccessionNumber": accession,
                "ReferringPhysicianName": "Weiß^Karl",
            }
            put(archive, slice_of(SeriesInstanceUID=f"1.2.{number}.1", **common))
        common = {**common, "StudyInstanceUID": "1.2.1", "PatientName": STUDIES[0][0]}
        request = Dataset()
        request.ScheduledProcedureStepID = "SPS7"
        ct = {"Modality": "CT", "SOPClassUID": CTImageStorage, "SeriesNumber": 3}
        more = slice_of(**{**common, **ct}, RequestAttributesSequence=Sequence([request]))
        put(archive, more)
        for number in (3, 2, 1):
            series = {"SeriesInstanceUID": "1.2.1.2", "SeriesNumber": 2, "InstanceNumber": number}
            put(archive, slice_of(**{**common, **series}))
        yield archive


def uids(page, tag="0020000D"):
    return [item[tag]["Value"][0] for item in page.items]


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({}, ["1.2.2", "1.2.1", "1.2.3", "1.2.4"]),
        ({"PatientName": "muller*"}, ["1.2.2", "1.2.1"]),
        ({"PatientName": "MÜLLER^J?RGEN"}, ["1.2.1"]),
        ({"PatientName": "muller^anna^^"}, ["1.2.2"]),
        ({"PatientName": "山田*"}, ["1.2.3"]),
        ({"PatientName": "Yamada*=山田*"}, ["1.2.3"]),
        ({"PatientName": "=山本*"}, []),
        ({"PatientName": "*"}, ["1.2.2", "1.2.1", "1.2.3", "1.2.4"]),
        ({"PatientName": "^^"}, ["1.2.2", "1.2.1", "1.2.3", "1.2.4"]),
        ({"PatientID": "B%1"}, ["1.2.4"]),
        ({"PatientID": "B_1"}, ["1.2.3"]),
        ({"PatientID": "A?"}, ["1.2.2", "1.2.1"]),
        ({"00100020": "a1"}, []),
        ({"AccessionNumber": "ACC1"}, ["1.2.1"]),
        ({"AccessionNumber": '""'}, ["1.2.4"]),
        ({"StudyDate": "20260101"}, ["1.2.1"]),
        ({"StudyDate": "2026.01.01"}, ["1.2.1"]),
        ({"StudyDate": "20260101-20261231"}, ["1.2.2", "1.2.1"]),
        ({"StudyDate": "-20260101"}, ["1.2.1", "1.2.3"]),
        ({"StudyDate": "20260102-"}, ["1.2.2"]),
        ({"StudyDate": '""'}, ["1.2.4"]),
        ({"StudyTime": "09-10"}, ["1.2.2", "1.2.1"]),
        ({"StudyTime": "235959-"}, ["1.2.3"]),
        ({"StudyTime": "1015"}, ["1.2.2"]),
        ({"ModalitiesInStudy": "CT"}, ["1.2.1"]),
        ({"ModalitiesInStudy": "CT\\MR"}, ["1.2.2", "1.2.1", "1.2.3", "1.2.4"]),
        ({"ModalitiesInStudy": "C*"}, ["1.2.1"]),
        ({"Modality": "CT"}, ["1.2.1"]),
        ({"SOPClassesInStudy": CTImageStorage}, ["1.2.1"]),
        ({"StudyInstanceUID": "1.2.1,1.2.3"}, ["1.2.1", "1.2.3"]),
        ({"StudyInstanceUID": "1.2.1\\1.2.9"}, ["1.2.1"]),
        ({"SeriesInstanceUID": "1.2.3.1"}, ["1.2.3"]),
        ({"InstanceNumber": "3"}, ["1.2.1"]),
        ({"NumberOfStudyRelatedInstances": "5"}, ["1.2.1"]),
        ({"ReferringPhysicianName": "weiss*"}, ["1.2.2", "1.2.1", "1.2.3", "1.2.4"]),
        ({"RequestAttributesSequence.ScheduledProcedureStepID": "SPS*"}, ["1.2.1"]),
        ({"PatientName": "muller*", "StudyDate": "20260101"}, ["1.2.1"]),
    ],
)
def test_studies_match_as_the_standard_says(filled, match, expected):
    assert uids(filled.studies(Query.of(match))) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("anna", ["1.2.2"]),
        ("mull jurg", ["1.2.1"]),
        ("tar yama", ["1.2.3"]),
        ("太", ["1.2.3"]),
        ("neil", []),
        ("o'ne", ["1.2.4"]),
    ],
)
def test_fuzzy_matching_finds_beginnings_of_name_components(filled, name, expected):
    assert uids(filled.studies(Query.of({"PatientName": name}, fuzzy=True))) == expected


@pytest.mark.parametrize(
    "match",
    [
        {"Nonsense": "1"},
        {"00091001": "1"},
        {"StudyDate": "2026"},
        {"StudyDate": "-"},
        {"StudyDate": "20261231-20260101"},
        {"StudyDate": "20261399"},
        {"StudyTime": "9:30 am"},
        {"StudyInstanceUID": "../x"},
        {"SeriesNumber": "one"},
        {"PatientID": "a\0b"},
    ],
)
def test_what_cannot_be_matched_is_an_error_not_an_empty_answer(filled, match):
    with pytest.raises(QueryError):
        filled.studies(Query.of(match))


def test_a_study_row_is_ready_for_a_viewer(filled):
    (row,) = filled.studies(Query.of({"StudyInstanceUID": "1.2.1"})).items

    assert row["00100010"]["Value"] == [{"Alphabetic": "Müller^Jürgen"}]
    assert sorted(row["00080061"]["Value"]) == ["CT", "MR"]
    assert set(row["00080062"]["Value"]) == {CTImageStorage, MRImageStorage}
    assert row["00201206"]["Value"] == [3]
    assert row["00201208"]["Value"] == [5]
    assert row["00080056"]["Value"] == ["ONLINE"]


def test_pages_follow_each_other_without_gap_or_overlap(filled):
    pages = [filled.studies(Query.of(limit=1, offset=offset)) for offset in range(5)]

    assert [uid for page in pages for uid in uids(page)] == ["1.2.2", "1.2.1", "1.2.3", "1.2.4"]
    assert [page.has_more for page in pages] == [True, True, True, False, False]
    assert pages[3].total == 4
    assert filled.studies(Query.of(limit=1, count=True)).total == 4
    assert filled.studies(Query.of(limit=0)).items == []


def test_series_of_a_study_come_in_order_and_without_the_study_attributes(filled):
    page = filled.series(Query.of({"StudyInstanceUID": "1.2.1"}))

    assert [row["00200011"]["Value"][0] for row in page.items] == [1, 2, 3]
    assert [row["00201209"]["Value"][0] for row in page.items] == [1, 3, 1]
    assert uids(page) == ["1.2.1"] * 3
    assert "00100010" not in page.items[0]


def test_series_across_studies_carry_their_study(filled):
    page = filled.series(Query.of({"Modality": "CT"}))

    assert [row["00100010"]["Value"][0]["Alphabetic"] for row in page.items] == ["Müller^Jürgen"]


def test_an_attribute_of_the_study_comes_with_its_series_when_asked_for(filled):
    match, include = {"StudyInstanceUID": "1.2.1"}, ["PatientID"]

    (row, *_) = filled.series(Query.of(match, include=include)).items

    assert row["00100020"]["Value"] == ["A1"]
    assert "00100010" not in row


def test_instances_across_studies_and_within_a_series(filled):
    everywhere = filled.instances(
        Query.of({"PatientName": "muller*", "SOPClassUID": MRImageStorage})
    )
    inside = filled.instances(
        Query.of({"StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.2.1.2"})
    )

    assert everywhere.total == 5
    assert [row["00200013"]["Value"][0] for row in inside.items] == [1, 2, 3]
    assert uids(inside, "0020000E") == ["1.2.1.2"] * 3


def test_a_caller_bound_to_studies_sees_only_those(filled):
    bound = frozenset({"1.2.1", "1.2.9"})

    assert uids(filled.studies(Query.of(studies=bound))) == ["1.2.1"]
    assert filled.series(Query.of(studies=bound)).total == 3
    assert filled.instances(Query.of({"PatientName": "Yamada*"}, studies=bound)).total == 0
    assert filled.studies(Query.of(studies=frozenset())).total == 0


def test_a_summary_holds_what_describes_the_study_elsewhere(shared, put):
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "RPID1", "RADLEX", "MR brain"
    first = slice_of(
        ProcedureCodeSequence=Sequence([code]),
        IssuerOfPatientID="HOSP",
        AccessionNumber="X7",
        TimezoneOffsetFromUTC="+0200",
        BodyPartExamined="HEAD",
    )
    put(shared, first)
    put(
        shared,
        slice_of(
            StudyInstanceUID=first.StudyInstanceUID,
            SeriesInstanceUID=generate_uid(),
            PatientID="P2",
            Modality="CT",
        ),
    )

    summary = shared.study_summary(first.StudyInstanceUID)

    assert summary.attributes["00081032"]["Value"][0]["00080100"]["Value"] == ["RPID1"]
    assert summary.attributes["00100021"]["Value"] == ["HOSP"]
    assert summary.attributes["00080201"]["Value"] == ["+0200"]
    assert summary.attributes["00100020"]["Value"] == ["P1"]
    assert summary.patient_mismatch
    assert {s.attributes["00080060"]["Value"][0] for s in summary.series} == {"MR", "CT"}
    assert summary.series[0].instances[0].sop_class == MRImageStorage
    assert summary.last_change > 0
