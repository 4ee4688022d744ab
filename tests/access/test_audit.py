"""The audit spool loses nothing: not by a kill, a torn line, a rotation or a slow reader."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from access import AuditEventKind, AuditRecord, AuditSpool, Caller, SpoolReader
from access.audit import AuditUnavailable
from access.audit import spool as spool_module
from access.audit.retention import Retention, retire


def event(resource="Patient/1", kind=AuditEventKind.FHIR_READ):
    return AuditRecord(
        action="R",
        event=kind,
        outcome="success",
        caller=Caller("someone", "user", client="app", address="192.0.2.1"),
        at=datetime.now(UTC),
        resource=resource,
    )


def drained(folder, limit=50):
    reader, found = SpoolReader(folder), []
    while (batch := reader.next_batch(limit)).positions:
        found.extend(batch.records)
        reader.acknowledge(batch)
    return found


def test_a_record_comes_back_as_it_was(tmp_path):
    spool = AuditSpool(tmp_path / "spool", "web")
    sent = event()

    spool.record(sent)

    (got,) = drained(tmp_path / "spool")
    assert got.source == "web"
    assert (got.record.resource, got.record.at, got.record.event) == (
        sent.resource,
        sent.at,
        sent.event,
    )
    assert (got.record.caller.subject, got.record.caller.client) == ("someone", "app")
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700


def test_threads_and_spools_side_by_side_lose_and_repeat_nothing(tmp_path):
    spools = [AuditSpool(tmp_path, "web"), AuditSpool(tmp_path, "dimse")]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: spools[n % 2].record(event(f"Patient/{n}")), range(400)))

    found = drained(tmp_path)
    assert sorted(one.record.resource for one in found) == sorted(
        f"Patient/{n}" for n in range(400)
    )
    assert len({one.id for one in found}) == 400


def test_a_killed_process_leaves_everything_it_recorded(tmp_path):
    script = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from datetime import UTC, datetime
        from access import *
        spool = AuditSpool(Path(sys.argv[1]), "dimse")
        for n in range(100):
            spool.record(AuditRecord(action="C", event=AuditEventKind.STORE, outcome="success",
                                     caller=None, at=datetime.now(UTC), study=f"1.{n}"))
        print("done", flush=True)
        time.sleep(60)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"done\n"

    process.send_signal(signal.SIGKILL)
    process.wait(10)
    process.stdout.close()

    assert len(drained(tmp_path)) == 100
    assert not list(SpoolReader(tmp_path).next_batch(10).records)


def test_what_was_not_acknowledged_is_given_again(tmp_path):
    spool = AuditSpool(tmp_path, "web")
    for n in range(5):
        spool.record(event(f"Patient/{n}"))

    first = SpoolReader(tmp_path).next_batch(3)
    again = SpoolReader(tmp_path).next_batch(3)

    assert [one.id for one in first.records] == [one.id for one in again.records]
    assert len(first.records) == 3


def test_a_half_written_line_waits_until_it_is_whole(tmp_path):
    spool = AuditSpool(tmp_path, "web")
    spool.record(event())
    (path,) = tmp_path.glob("*.ndjson")
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(whole[:40])

    reader = SpoolReader(tmp_path)
    batch = reader.next_batch()
    reader.acknowledge(batch)
    with path.open("ab") as file:
        file.write(whole[40:])

    assert len(batch.records) == 1
    assert len(reader.next_batch().records) == 1


@pytest.fixture
def small_files(monkeypatch):
    monkeypatch.setattr(spool_module, "ROTATE_BYTES", 2_000)


def test_full_files_are_rotated_and_kept_until_their_time_is_over(tmp_path, small_files):
    spool = AuditSpool(tmp_path, "web")
    for n in range(50):
        spool.record(event(f"Patient/{n}"))
    before = len(list(tmp_path.glob("*.ndjson")))

    found = drained(tmp_path)
    kept = retire(tmp_path, ["acknowledged"], Retention(keep_s=3600), spool)
    gone = retire(tmp_path, ["acknowledged"], Retention(keep_s=-1), spool)

    assert before > 5
    assert len(found) == 50
    assert (kept, gone) == (0, before - 1)
    assert [one.record.event for one in drained(tmp_path)] == [AuditEventKind.RETIRE]


def test_what_a_reader_does_not_have_yet_is_not_retired(tmp_path, small_files):
    spool = AuditSpool(tmp_path, "web")
    for n in range(50):
        spool.record(event(f"Patient/{n}"))
    drained(tmp_path)

    gone = retire(tmp_path, ["acknowledged", "syslog"], Retention(keep_s=-1), spool)

    assert gone == 0


def test_shipped_records_go_before_their_time_when_the_spool_is_too_large(tmp_path, small_files):
    spool = AuditSpool(tmp_path, "web")
    for n in range(50):
        spool.record(event(f"Patient/{n}"))
    drained(tmp_path)

    retire(tmp_path, ["acknowledged"], Retention(keep_s=3600, keep_bytes=5_000), spool)

    assert sum(path.stat().st_size for path in tmp_path.glob("*.ndjson")) < 8_000


def test_an_export_is_on_disk_before_it_goes_on(tmp_path, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(handle), real(handle)))
    spool = AuditSpool(tmp_path, "web")
    spool.record(event())
    spool.close()
    synced.clear()

    spool = AuditSpool(tmp_path, "web")
    spool.record(event(kind=AuditEventKind.EXPORT))

    assert len(synced) >= 2  # the folder with the new file, and the record


def test_a_folder_that_cannot_be_written_is_an_error_not_a_gap(tmp_path):
    spool = AuditSpool(tmp_path / "spool", "web")
    (tmp_path / "spool").rmdir()

    with pytest.raises(AuditUnavailable):
        spool.record(event())
