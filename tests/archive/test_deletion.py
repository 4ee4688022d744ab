"""Deleting: gone everywhere at once, told in the feed, what remains is told anew."""

from __future__ import annotations

import pytest
from pydicom.uid import CTImageStorage, MRImageStorage, generate_uid

from archive import Archive, InstanceNotFound, Query, Source
from tests.archive.phantom import bytes_of, slice_of

ADMIN = Source("local", subject="admin")


def study_of(archive, put, **common):
    """Two MR instances in one series and a CT in another; the keys in that order."""
    common = {"StudyInstanceUID": generate_uid(), **common}
    mr = {**common, "SeriesInstanceUID": generate_uid()}
    ct = {"Modality": "CT", "SOPClassUID": CTImageStorage, "StudyDescription": "only here"}
    return [
        put(archive, slice_of(InstanceNumber=1, **mr)).key,
        put(archive, slice_of(InstanceNumber=2, **mr)).key,
        put(archive, slice_of(**{**common, **ct}, PatientID="P2")).key,
    ]


def test_what_is_deleted_is_gone_and_the_rest_is_counted_anew(archive, put):
    first, second, ct = study_of(archive, put)
    path = archive.instance(ct).path

    assert archive.delete(ct.study, ct.series, ct.instance, source=ADMIN, reason="wrong") == 1

    with pytest.raises(InstanceNotFound):
        archive.read(ct)
    assert not path.exists()
    (row,) = archive.studies(Query.of({"StudyInstanceUID": ct.study})).items
    assert row["00201206"]["Value"] == [1]
    assert row["00201208"]["Value"] == [2]
    assert row["00080061"]["Value"] == ["MR"]
    assert row["00080062"]["Value"] == [MRImageStorage]
    assert "00081030" not in row
    assert [r.key for r in archive.study_instances(ct.study)] == [first, second]


def test_a_doubt_about_the_patient_goes_with_the_instance_that_raised_it(archive, put):
    *_, ct = study_of(archive, put)
    assert archive.study_summary(ct.study).patient_mismatch

    archive.delete(ct.study, ct.series, source=ADMIN, reason="other patient")

    assert not archive.study_summary(ct.study).patient_mismatch


def test_each_deleted_instance_leaves_a_tombstone(archive, put):
    keys = study_of(archive, put)
    before = archive.changes(0, 10)[-1].sequence

    assert archive.delete(keys[0].study, source=ADMIN, reason="retention") == 3

    changes = archive.changes(before, 10)
    assert {c.key for c in changes} == set(keys)
    assert {(c.kind, c.source, c.reason) for c in changes} == {
        ("instance_deleted", ADMIN, "retention")
    }
    assert archive.study_summary(keys[0].study) is None
    assert archive.series(Query()).items == archive.instances(Query()).items == []


def test_the_summary_after_a_deletion_holds_the_tombstone(archive, put):
    first, *_ = study_of(archive, put)

    archive.delete(first.study, first.series, first.instance, source=ADMIN, reason="x")

    assert archive.study_summary(first.study).last_change == archive.changes(0, 10)[-1].sequence


def test_a_series_that_loses_its_last_instance_goes_too(archive, put):
    *_, ct = study_of(archive, put)

    archive.delete(ct.study, ct.series, ct.instance, source=ADMIN, reason="x")

    assert archive.series(Query.of({"StudyInstanceUID": ct.study})).total == 1
    with pytest.raises(InstanceNotFound):
        archive.metadata(ct.study, ct.series)


def test_series_metadata_is_made_anew(archive, put):
    first, *_ = study_of(archive, put)
    before = archive.metadata(first.study, first.series)

    archive.delete(first.study, first.series, first.instance, source=ADMIN, reason="x")

    assert archive.metadata(first.study, first.series).etag != before.etag


def test_a_reader_finishes_what_it_began_and_a_later_one_finds_nothing(archive, put):
    data = bytes_of(slice_of(PixelData=bytes(128) * 100, Rows=80, Columns=80))
    key = put(archive, data).key
    record = archive.instance(key)
    pieces = archive.content(record, 1000)
    begun = next(pieces)

    archive.delete(key.study, source=ADMIN, reason="x")

    assert begun + b"".join(pieces) == data
    with pytest.raises(InstanceNotFound):
        archive.content(record)


def test_the_same_instance_can_be_stored_again_after_its_deletion(archive, put):
    data = bytes_of(slice_of())
    key = put(archive, data).key
    archive.delete(key.study, source=ADMIN, reason="x")

    assert put(archive, data).outcome == "stored"

    with archive.read(key) as file:
        assert file.read() == data
    assert [c.kind for c in archive.changes(0, 10)] == [
        "instance_stored",
        "instance_deleted",
        "instance_stored",
    ]


def test_deleting_what_is_not_stored_is_said(archive, put):
    key = put(archive, slice_of()).key

    for wrong in [("1.2.3",), (key.study, "1.2.3"), (key.study, key.series, "1.2.3")]:
        with pytest.raises(InstanceNotFound):
            archive.delete(*wrong, source=ADMIN, reason="x")

    assert archive.instances(Query()).total == 1


def test_a_crash_before_the_files_are_removed_leaves_no_row(archive, put, monkeypatch):
    key = put(archive, slice_of()).key
    path = archive.instance(key).path
    monkeypatch.setattr("archive.files.Files.discard", lambda *_: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        archive.delete(key.study, source=ADMIN, reason="x")

    assert path.exists()
    assert archive.studies(Query()).total == 0


def test_an_instance_whose_file_is_lost_can_be_deleted(archive, put):
    first, second, _ = study_of(archive, put)
    archive.instance(first).path.unlink()
    archive.instance(second).path.unlink()

    archive.delete(first.study, first.series, first.instance, source=ADMIN, reason="lost")

    assert isinstance(archive, Archive)
    assert archive.studies(Query.of({"StudyInstanceUID": first.study})).total == 1
