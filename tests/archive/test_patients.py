"""Patients of the Patient Root: one row each, with counts; walks and record lists in batches."""

from __future__ import annotations

import pytest
from pydicom.uid import generate_uid

from archive import Archive, ArchiveConfig, Query, QueryError
from tests.archive.phantom import slice_of


@pytest.fixture(scope="module")
def ward(postgres, tmp_path_factory, put):
    """P1 of HOSP with two studies, P1 of OTHER and P2 with one each, and one of nobody."""
    postgres.create_database("archive_patients")
    config = ArchiveConfig(tmp_path_factory.mktemp("patients"), postgres.dsn("archive_patients"), 0)
    common = {"PatientID": "P1", "IssuerOfPatientID": "HOSP"}
    with Archive.open(config) as archive:
        put(archive, slice_of(StudyInstanceUID="1.2.1", PatientName="Old^Name", **common))
        newer = {**common, "PatientName": "New^Name", "StudyDate": "20260301"}
        put(archive, slice_of(StudyInstanceUID="1.2.2", **newer))
        put(archive, slice_of(StudyInstanceUID="1.2.2", InstanceNumber=None, **newer))
        put(archive, slice_of(StudyInstanceUID="1.2.3", PatientID="P1", IssuerOfPatientID="OTHER"))
        for series in ("1.2.4.1", "1.2.4.2"):
            put(archive, slice_of(StudyInstanceUID="1.2.4", SeriesInstanceUID=series,
                                  PatientID="P2"))  # fmt: skip
        put(archive, slice_of(StudyInstanceUID="1.2.5", PatientID=None, PatientName=None))
        yield archive


def told(row):
    """PatientID, issuer, name, and the counts of studies, series and instances."""
    values = [row.get(tag, {}).get("Value", [None])[0] for tag in ("00100020", "00100021")]
    name = row.get("00100010", {}).get("Value", [{}])[0].get("Alphabetic")
    counts = [row[tag]["Value"][0] for tag in ("00201200", "00201202", "00201204")]
    return (*values, name, *counts)


def test_each_patient_is_one_row_with_counts(ward):
    rows = [told(row) for row in ward.iterate("patient", Query.of(limit=None))]

    assert rows == [
        (None, None, None, 1, 1, 1),
        ("P1", "HOSP", "New^Name", 2, 3, 3),
        ("P1", "OTHER", "Doe^Jane", 1, 1, 1),
        ("P2", None, "Doe^Jane", 1, 2, 2),
    ]


def test_patients_are_found_by_their_own_keys_and_counted_whole(ward):
    (old,) = ward.iterate("patient", Query.of({"PatientName": "old*"}))

    assert told(old) == ("P1", "HOSP", "Old^Name", 2, 3, 3)


def test_a_caller_bound_to_studies_counts_only_those(ward):
    (row,) = ward.iterate("patient", Query.of(studies=frozenset({"1.2.2"})))

    assert told(row) == ("P1", "HOSP", "New^Name", 1, 2, 2)


@pytest.mark.parametrize("level", ["patient", "study", "series", "instance"])
@pytest.mark.parametrize("batch", [1, 2, 3, 100])
def test_a_walk_in_any_batches_gives_every_match_once_in_order(ward, level, batch):
    whole = list(ward.iterate(level, Query.of(limit=None), batch=1000))

    assert list(ward.iterate(level, Query.of(limit=None), batch=batch)) == whole
    assert list(ward.iterate(level, Query.of(limit=2, offset=1), batch=batch)) == whole[1:3]
    if level != "patient":
        pages = {"study": ward.studies, "series": ward.series, "instance": ward.instances}
        assert pages[level](Query.of(limit=None)).items == whole


def test_a_walk_refuses_a_bad_question_before_its_first_item(ward):
    with pytest.raises(QueryError):
        ward.iterate("study", Query.of({"StudyDate": "x"}))


def test_an_abandoned_walk_holds_no_connection(ward):
    walks = [ward.iterate("study", Query.of(limit=None), batch=1) for _ in range(30)]
    for walk in walks:
        next(walk)

    assert ward.studies(Query.of()).total == 5


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_records_are_found_by_any_unique_key(ward, batch):
    def keys(**asked):
        return [r.key.study for r in ward.records_of(**asked, batch=batch)]

    assert keys(studies=["1.2.2", "1.2.4"]) == ["1.2.2"] * 2 + ["1.2.4"] * 2
    assert keys(series=["1.2.4.1"]) == ["1.2.4"]
    assert keys(patient_ids=["P1"]) == ["1.2.1", "1.2.2", "1.2.2", "1.2.3"]
    assert keys(patient_ids=["P1"], studies=["1.2.4"]) == []
    assert keys(instances=[generate_uid()]) == []
    one = next(ward.records_of(studies=["1.2.1"]))
    assert keys(instances=[one.key.instance]) == ["1.2.1"]
    assert ward.verify(one.key)


def test_records_of_nothing_in_particular_are_refused(ward):
    with pytest.raises(QueryError):
        ward.records_of()
