"""What the archive promises a sender: kept exactly, kept once, kept for good, or refused."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import psycopg
import pytest
from pydicom.uid import generate_uid

from archive import (
    Archive,
    ContentConflict,
    IdentityMismatch,
    InstanceKey,
    InstanceNotFound,
    MissingAttribute,
    OutOfSpace,
    PlacementConflict,
    Query,
    Source,
    WrongStudy,
)
from tests.archive.phantom import bytes_of, slice_of


def test_a_stored_file_is_returned_byte_for_byte(shared, put):
    sent = bytes_of(slice_of())

    stored = put(shared, sent)

    with shared.read(stored.key) as file:
        assert file.read() == sent
    assert stored.outcome == "stored"
    assert shared.instance(stored.key).size == len(sent)


def test_a_file_that_is_a_program_too_is_kept_as_dicom_alone(shared, put):
    sent = b"MZ polyglot".ljust(128, b"\1") + bytes_of(slice_of())[128:]

    stored = put(shared, sent)

    with shared.read(stored.key) as file:
        assert file.read() == bytes(128) + sent[128:]
    assert shared.verify(stored.key)


def test_a_preamble_is_kept_where_the_site_says_so(config, put):
    sent = b"II*\0".ljust(128, b"\1") + bytes_of(slice_of())[128:]

    with Archive.open(dataclasses.replace(config, preamble="keep")) as archive:
        stored = put(archive, sent)
        with archive.read(stored.key) as file:
            assert file.read() == sent
        assert archive.verify(stored.key)


def test_the_same_content_again_changes_nothing(archive, put):
    data = bytes_of(slice_of())

    first, again = put(archive, data), put(archive, data)

    assert (first.outcome, again.outcome) == ("stored", "duplicate")
    assert len(archive.changes(0, 10)) == 1


def test_the_same_data_set_with_another_preamble_is_the_same_content(shared, put):
    data = bytes_of(slice_of())

    put(shared, data)
    again = put(shared, b"II*\0".ljust(128, b"\0") + data[128:])

    assert again.outcome == "duplicate"
    with shared.read(again.key) as file:
        assert file.read() == data


def test_a_reused_uid_with_other_content_is_refused_and_the_first_copy_stays(archive, put):
    dataset = slice_of()
    sent = bytes_of(dataset)
    first = put(archive, sent)

    dataset.PixelData = bytes(128)
    with pytest.raises(ContentConflict) as refusal:
        put(archive, dataset)

    assert refusal.value.key == first.key
    with archive.read(first.key) as file:
        assert file.read() == sent


@pytest.mark.parametrize("attribute", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_a_sop_uid_under_another_series_or_study_is_refused(archive, put, attribute):
    dataset = slice_of()
    put(archive, dataset)

    setattr(dataset, attribute, generate_uid())
    with pytest.raises(PlacementConflict):
        put(archive, dataset)

    assert archive.instances(Query()).total == 1
    assert archive.studies(Query()).total == 1


def test_refused_content_leaves_no_file(archive, config, put):
    dataset = slice_of()
    put(archive, dataset)

    dataset.PixelData = bytes(128)
    with pytest.raises(ContentConflict):
        put(archive, dataset)

    assert len(list(config.root.rglob("*.dcm"))) == 1
    assert not [path for path in (config.root / "incoming").rglob("*") if path.suffix == ""][1:]


def test_an_instance_without_a_patient_id_is_kept(shared, put):
    stored = put(shared, slice_of(PatientID=None, PatientName=None))

    found = shared.studies(Query.of({"StudyInstanceUID": stored.key.study}))

    assert found.total == 1


@pytest.mark.parametrize(
    "attribute", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"]
)
def test_an_instance_without_a_place_is_refused(shared, put, attribute):
    with pytest.raises(MissingAttribute, match=attribute):
        put(shared, slice_of(**{attribute: None}))


def test_a_sender_bound_to_studies_cannot_write_elsewhere(archive, put):
    dataset = slice_of()

    with pytest.raises(WrongStudy):
        put(archive, dataset, studies=frozenset({"1.2.3"}))
    allowed = put(archive, dataset, studies=frozenset({dataset.StudyInstanceUID}))

    assert allowed.outcome == "stored"


def test_a_data_set_that_is_not_what_was_announced_is_refused(archive, put):
    dataset = slice_of()

    with pytest.raises(IdentityMismatch):
        put(archive, dataset, announced=(dataset.SOPClassUID, generate_uid()))

    assert archive.instances(Query()).total == 0


def test_a_nearly_full_disk_refuses_before_a_byte_is_written(archive, config):
    full = dataclasses.replace(config, min_free_bytes=1 << 62)

    with Archive.open(full) as nearly_full, pytest.raises(OutOfSpace), nearly_full.receive():
        pytest.fail("nothing may be received")


def test_an_unknown_instance_is_not_found(shared):
    with pytest.raises(InstanceNotFound):
        shared.instance(InstanceKey("1.2", "1.3", "1.4"))
    with pytest.raises(InstanceNotFound):
        shared.series_instances("1.2", "1.3")
    assert shared.study_summary("1.2") is None


def test_an_instance_is_served_only_under_its_own_study_and_series(shared, put):
    key = put(shared, slice_of()).key

    with pytest.raises(InstanceNotFound):
        shared.read(dataclasses.replace(key, study="1.2.3"))


def test_file_and_folder_are_on_disk_before_the_instance_is_visible(
    archive, config, put, monkeypatch
):
    synced: list[tuple[Path, bool]] = []
    real = os.fsync

    def watching(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        with psycopg.connect(config.dsn) as connection:
            visible = connection.execute("select count(*) from archive.instance").fetchone()[0]
        synced.append((path, bool(visible)))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watching)
    stored = put(archive, slice_of(), Source("dimse", calling_ae="CT1"))
    final = archive.instance(stored.key).path

    paths = [path for path, _ in synced]
    assert paths.index(final) < len(paths) - 1
    assert paths[-1] == final.parent
    assert {config.root, config.root / "objects"} <= set(paths)
    assert not any(visible for _, visible in synced)


def test_temporary_files_of_dead_processes_go_and_those_of_living_ones_stay(config):
    incoming = config.root / "incoming"
    (incoming / "dead").mkdir(parents=True)
    (incoming / "dead" / "part").write_bytes(b"x")
    (incoming / "dead.lock").touch()

    with Archive.open(config) as living, living.receive() as file, Archive.open(config):
        file.write(b"y")
        assert file.path.exists()
        assert not (incoming / "dead").exists()
        assert not (incoming / "dead.lock").exists()
    assert not list(incoming.iterdir())
