"""The change feed: in commit order, without gaps for a reader that follows it."""

from __future__ import annotations

import threading
import time

import psycopg

from archive import Archive, Source
from archive.index import CHANNEL
from tests.archive.phantom import bytes_of, slice_of


def test_a_following_reader_misses_nothing_while_two_archives_write(archive, config, put):
    seen: list = []
    done = threading.Event()

    def follow():
        after = 0
        while True:
            over = done.is_set()
            for change in archive.changes(after, 7):
                seen.append(change)
                after = change.sequence
            if over and not archive.changes(after, 1):
                return
            time.sleep(0.0005)

    def write(target):
        for _ in range(25):
            put(target, slice_of())

    with Archive.open(config) as other:
        reader = threading.Thread(target=follow)
        writers = [
            threading.Thread(target=write, args=[one]) for one in (archive, other, archive, other)
        ]
        reader.start()
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(timeout=60)
        done.set()
        reader.join(timeout=60)

    assert len(seen) == 100
    assert len({change.key.instance for change in seen}) == 100
    assert [c.sequence for c in seen] == sorted(c.sequence for c in seen)


def test_a_change_tells_what_and_from_where(archive, put):
    source = Source("dimse", calling_ae="MR1", address="192.0.2.7")

    stored = put(archive, slice_of(), source)

    (change,) = archive.changes(0, 10)
    assert (change.key, change.kind, change.source) == (stored.key, "instance_stored", source)
    assert change.at.tzinfo is not None
    assert archive.changes(change.sequence, 10) == []


def test_a_commit_wakes_a_listener(archive, config, put):
    with psycopg.connect(config.dsn, autocommit=True) as connection:
        connection.execute(f"listen {CHANNEL}")
        put(archive, slice_of())

        woken = list(connection.notifies(timeout=5, stop_after=1))

    assert [notify.channel for notify in woken] == [CHANNEL]


def test_many_senders_share_commits_and_all_are_kept(archive, put):
    study = slice_of()
    files = []
    for number in range(1, 41):
        one = slice_of(
            StudyInstanceUID=study.StudyInstanceUID,
            SeriesInstanceUID=study.SeriesInstanceUID,
            InstanceNumber=number,
        )
        files.append(bytes_of(one))

    threads = [threading.Thread(target=put, args=[archive, data]) for data in files * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    summary = archive.study_summary(study.StudyInstanceUID)
    assert summary.instance_count == 40
    assert summary.attributes["00201208"]["Value"] == [40]
    assert summary.last_change == archive.changes(0, 100)[-1].sequence
    assert len(archive.changes(0, 100)) == 40
