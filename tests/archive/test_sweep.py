"""What a crash leaves behind is removed, and nothing else ever is."""

from __future__ import annotations

import os
import threading
import time

import pytest

from archive import Archive, ArchiveUnavailable, Source
from archive.sweep import due
from tests.archive.phantom import slice_of


def objects(config):
    return {path for path in (config.root / "objects").rglob("*") if path.is_file()}


def test_a_file_without_a_row_goes_and_the_others_stay(archive, config, put):
    kept = archive.instance(put(archive, slice_of()).key).path
    beside = kept.with_name("1.2.3-0123456789abcdef.dcm")
    beside.write_bytes(b"x")
    second_copy = kept.with_name(kept.name.replace("-", "-0"))
    second_copy.write_bytes(b"x")
    alone = config.root / "objects" / "00" / "11" / "1.2" / "1.2.3" / "1.2.3.4-00.dcm"
    alone.parent.mkdir(parents=True)
    alone.write_bytes(b"x")

    assert archive.sweep(min_age_s=-1) == 3

    assert objects(config) == {kept}
    assert not alone.parent.exists()
    assert archive.sweep(min_age_s=-1) == 0


def test_a_young_file_may_still_be_on_its_way_and_stays(archive, config, put):
    kept = archive.instance(put(archive, slice_of()).key).path
    kept.with_name("1.2.3-00.dcm").write_bytes(b"x")

    assert archive.sweep() == 0

    assert len(objects(config)) == 2


def test_files_of_a_deletion_that_was_cut_off_go(archive, config, put, monkeypatch):
    key = put(archive, slice_of()).key
    with monkeypatch.context() as crash:
        crash.setattr("archive.files.Files.discard", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            archive.delete(key.study, source=Source("local"), reason="x")

    assert archive.sweep(min_age_s=-1) == 1

    assert not objects(config)


def test_nothing_is_removed_while_the_index_does_not_answer(archive, config, put):
    put(archive, slice_of())
    archive._pool.close()

    with pytest.raises(ArchiveUnavailable):
        archive.sweep(min_age_s=-1)

    assert len(objects(config)) == 1


def test_senders_are_not_disturbed_by_a_sweep(archive, config, put):
    done = threading.Event()

    def sweep_on():
        while not done.is_set():
            archive.sweep(min_age_s=5)

    def come_and_go():
        study = slice_of()
        for _ in range(15):
            key = put(archive, study).key
            assert archive.verify(key)
            archive.delete(key.study, source=Source("local"), reason="x")
        put(archive, study)

    sweeping = threading.Thread(target=sweep_on)
    senders = [threading.Thread(target=come_and_go) for _ in range(3)]
    for thread in (sweeping, *senders):
        thread.start()
    for thread in senders:
        thread.join(60)
    done.set()
    sweeping.join(60)

    assert len(objects(config)) == 3


def test_one_process_sweeps_for_all(archive, config):
    with archive._connection() as connection:
        assert due(connection, "sweep", 60)
        assert not due(connection, "sweep", 60)
        assert due(connection, "sweep", -1)


def test_the_sweeper_sweeps_when_the_archive_opens(config, put):
    with Archive.open(config) as archive:
        path = archive.instance(put(archive, slice_of()).key).path
        orphan = path.with_name("1.2.3-00.dcm")
        orphan.write_bytes(b"x")
        os.utime(orphan, (0, 0))  # the time of the move counts, not this one
        with archive.sweeper():
            time.sleep(0.5)
        assert orphan.exists()
        assert path.exists()
