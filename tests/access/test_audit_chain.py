"""The chain shows what was done to the trail: removed, changed, put elsewhere, cut off."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from datetime import UTC, datetime

import orjson
import pytest

from access import AuditEventKind, AuditRecord, AuditSpool, Caller, SpoolReader
from access.audit import anchor as anchors
from access.audit import spool as spool_module
from access.audit.chain import heads
from access.audit.flood import ALL, EACH, NAMED_EACH
from access.audit.record import digest_of
from access.audit.retention import Retention, retire
from access.audit.spool import AuditUnavailable
from access.audit.verify import records, verify

WEB = Caller("someone", "user", client="app", address="192.0.2.1")


def event(resource="Patient/1", kind=AuditEventKind.FHIR_READ, caller=WEB, **changes):
    base = {"action": "R", "outcome": "success", "at": datetime.now(UTC)}
    return AuditRecord(**{**base, "event": kind, "caller": caller, "resource": resource, **changes})


def write(folder, count=10, source="web"):
    spool = AuditSpool(folder, source)
    for n in range(count):
        spool.record(event(f"Patient/{n}"))
    spool.close()


def lines_of(folder):
    (path,) = folder.glob("web.*.ndjson")
    return path, path.read_bytes().splitlines(keepends=True)


def size_of(folder):
    return sum(path.stat().st_size for path in folder.glob("*.ndjson"))


def found(folder, given=()):
    return [(one.kind, one.first, one.last) for one in verify(folder, given).findings]


def test_a_trail_that_nobody_touched_has_no_findings(tmp_path):
    write(tmp_path)

    report = verify(tmp_path, [anchors.take(tmp_path)])

    assert (report.records, report.findings, report.ends) == (10, [], {"web": (1, 10)})


def test_each_record_names_the_digest_of_the_one_before(tmp_path):
    write(tmp_path, 3)

    _, lines = lines_of(tmp_path)

    told = [orjson.loads(line)["previous"] for line in lines]
    assert told == ["0" * 64, digest_of(lines[0]), digest_of(lines[1])]
    assert [orjson.loads(line)["sequence"] for line in lines] == [1, 2, 3]


def test_the_next_process_goes_on_where_the_last_one_stopped(tmp_path):
    write(tmp_path, 3)
    write(tmp_path, 2)

    assert verify(tmp_path).ends == {"web": (1, 5)}
    assert verify(tmp_path).findings == []


def test_two_processes_of_one_source_have_a_chain_each(tmp_path):
    first, second = AuditSpool(tmp_path, "web"), AuditSpool(tmp_path, "web")

    for spool in (first, second, first):
        spool.record(event())

    assert verify(tmp_path).ends == {"web": (1, 2), "web+2": (1, 1)}
    assert {one.source for one in records(tmp_path)} == {"web"}


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (lambda lines: lines[:4] + lines[5:], [("removed", 5, 5)]),
        (lambda lines: lines[3:], [("removed", 1, 3)]),
        (lambda lines: lines[:2] + lines[6:], [("removed", 3, 6)]),
        (
            lambda lines: [*lines[:4], lines[4].replace(b"Patient/4", b"Patient/9"), *lines[5:]],
            [("changed", 5, 5)],
        ),
        (
            lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]],
            [("reordered", 4, 4)],
        ),
        (lambda lines: [*lines[:4], lines[3], *lines[4:]], [("repeated", 4, 4)]),
        (lambda lines: [*lines[:4], b"{}\n", *lines[5:]], [("damaged", 5, 5)]),
        (lambda lines: [*lines[:9], lines[9][:30]], [("torn", 10, 10)]),
    ],
    ids=["one gone", "first gone", "some gone", "changed", "swapped", "twice", "damaged", "torn"],
)
def test_what_was_done_to_the_trail_is_named(tmp_path, harm, expected):
    write(tmp_path)
    path, lines = lines_of(tmp_path)

    path.write_bytes(b"".join(harm(lines)))

    assert found(tmp_path) == expected


def test_only_an_anchor_shows_that_the_end_was_cut_off(tmp_path):
    write(tmp_path)
    before = anchors.take(tmp_path)
    path, lines = lines_of(tmp_path)

    path.write_bytes(b"".join(lines[:7]))

    assert found(tmp_path) == []
    assert found(tmp_path, [before]) == [("truncated", 8, 10)]


def test_only_an_anchor_shows_a_chain_that_was_written_anew(tmp_path):
    write(tmp_path)
    before = anchors.take(tmp_path)
    for path in tmp_path.glob("web.*"):
        path.unlink()

    write(tmp_path)

    assert found(tmp_path) == []
    assert found(tmp_path, [before]) == [("changed", 10, 10)]


def test_a_chain_that_is_gone_altogether_is_missed_by_its_anchor(tmp_path):
    write(tmp_path)
    before = anchors.take(tmp_path)

    for path in tmp_path.glob("web.*"):
        path.unlink()

    assert found(tmp_path, [before]) == [("truncated", 1, 10)]


def test_a_file_that_somebody_removed_is_missed_and_one_past_its_time_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "ROTATE_BYTES", 2_000)
    spool = AuditSpool(tmp_path, "web")
    for n in range(40):
        spool.record(event(f"Patient/{n}"))
    reader = SpoolReader(tmp_path)
    reader.acknowledge(reader.next_batch(1000))
    files = sorted(tmp_path.glob("web.*.ndjson"))

    retire(tmp_path, ["acknowledged"], Retention(keep_s=3600, keep_bytes=9_000), spool)
    lawful = found(tmp_path)
    left = sorted(tmp_path.glob("web.*.ndjson"))
    gone = [orjson.loads(line)["sequence"] for line in left[1].read_bytes().splitlines()]
    left[1].unlink()

    assert len(left) < len(files)
    assert lawful == []
    assert found(tmp_path) == [("removed", gone[0], gone[-1])]


def test_a_note_of_retention_that_nobody_wrote_into_the_trail_excuses_nothing(tmp_path):
    write(tmp_path)
    path, lines = lines_of(tmp_path)
    path.write_bytes(b"".join(lines[4:]))

    forged = {"web": [4, digest_of(lines[3])]}
    (tmp_path / "retired.json").write_bytes(orjson.dumps(forged))

    assert found(tmp_path) == [("removed", 1, 4)]


def test_a_half_written_record_is_cut_off_and_noted_at_the_next_start(tmp_path):
    write(tmp_path, 3)
    path, lines = lines_of(tmp_path)
    path.write_bytes(b"".join(lines) + lines[0][:50])

    write(tmp_path, 2)

    report = verify(tmp_path)
    assert report.findings == []
    assert report.ends == {"web": (1, 6)}
    assert len(report.repairs) == 1
    assert "50 bytes" in report.repairs[0]


def test_a_killed_process_leaves_a_chain_that_holds(tmp_path):
    script = textwrap.dedent(
        """
        import sys, threading
        from pathlib import Path
        from datetime import UTC, datetime
        from access import *
        spool = AuditSpool(Path(sys.argv[1]), "web")
        def go():
            while True:
                spool.record(AuditRecord(action="R", event=AuditEventKind.FHIR_READ,
                                         outcome="success", caller=None, at=datetime.now(UTC)))
        for _ in range(4):
            threading.Thread(target=go, daemon=True).start()
        print("on", flush=True)
        threading.Event().wait(60)
        """
    )
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"on\n"
        before = size_of(tmp_path)
        while size_of(tmp_path) < before + 50_000:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        process.stdout.close()

    write(tmp_path, 1)

    report = verify(tmp_path)
    assert report.findings == []
    assert report.ends["web"] == (1, report.records)


def test_what_a_killed_process_left_is_on_the_disk_before_anything_that_follows_it(
    tmp_path, monkeypatch
):
    write(tmp_path, 3)
    path, _ = lines_of(tmp_path)
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda h: (synced.append(os.fstat(h).st_ino), fsync(h)))

    write(tmp_path, 1)

    (following,) = set(tmp_path.glob("web.*.ndjson")) - {path}
    assert synced.index(path.stat().st_ino) < synced.index(following.stat().st_ino)


def test_a_record_of_a_file_that_was_let_go_unsynced_is_not_called_safe(tmp_path, monkeypatch):
    spool = AuditSpool(tmp_path, "web")
    write_to = os.write

    def full(handle, data):
        raise OSError(errno.EIO, "no")

    with spool._syncing:  # a moment before the thread that syncs gets there
        spool.record(event())
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(AuditUnavailable):
            spool.record(event())
    monkeypatch.setattr(os, "write", write_to)

    with pytest.raises(AuditUnavailable):
        spool.flush()
    spool.record(event())
    spool.close()

    assert found(tmp_path) == []


def test_what_no_text_may_hold_is_marked_in_every_field(tmp_path):
    harm = "a\x00\x1b\ud800\uffffz"
    caller = Caller(harm, "user", client=harm, address=harm, fhir_user=harm, token_id=harm)
    spool = AuditSpool(tmp_path, "web")
    texts = {"study": harm, "patient": harm, "query": harm, "detail": harm, "patients": (harm,)}
    spool.record(event(harm, caller=caller, **texts))
    spool.close()

    _, lines = lines_of(tmp_path)

    assert lines[0].decode().count("a" + "\ufffd" * 4 + "z") == 11


def test_an_anchor_is_signed_and_a_changed_one_is_refused(tmp_path):
    write(tmp_path)
    key = anchors.load_or_create_key(tmp_path / "keys")
    signed = anchors.sign(anchors.take(tmp_path), key)

    assert anchors.opened(signed, key).heads == heads(tmp_path)
    with pytest.raises(anchors.AnchorInvalid):
        anchors.opened(signed[:-8] + "AAAAAAAA", key)
    with pytest.raises(anchors.AnchorInvalid):
        anchors.opened(signed, anchors.load_or_create_key(tmp_path / "other"))


def test_anchors_are_kept_and_read_back(tmp_path):
    write(tmp_path)
    key = anchors.load_or_create_key(tmp_path / "keys")

    for _ in range(2):
        anchors.store(tmp_path, anchors.sign(anchors.take(tmp_path), key))

    assert [one.heads for one in anchors.stored(tmp_path, key)] == [heads(tmp_path)] * 2


def test_a_crash_while_an_anchor_is_kept_harms_none_of_those_before(tmp_path, monkeypatch):
    write(tmp_path)
    key = anchors.load_or_create_key(tmp_path / "keys")
    signed = anchors.sign(anchors.take(tmp_path), key)
    anchors.store(tmp_path, signed)

    def power_fails(handle):
        raise OSError(errno.EIO, "no")

    with monkeypatch.context() as failing, pytest.raises(OSError):
        failing.setattr(os, "fsync", power_fails)
        anchors.store(tmp_path, signed)

    assert len(anchors.stored(tmp_path, key)) == 1


def test_a_kept_anchor_that_is_none_is_named_by_its_line(tmp_path):
    write(tmp_path)
    key = anchors.load_or_create_key(tmp_path / "keys")
    anchors.store(tmp_path, anchors.sign(anchors.take(tmp_path), key))
    anchors.store(tmp_path, "x.y.z")

    with pytest.raises(anchors.AnchorInvalid, match=r"line 2 of .*anchors\.jsonl"):
        anchors.stored(tmp_path, key)


def stranger(address="198.51.100.1"):
    caller = Caller("anonymous", "system", address=address)
    return event("Patient", AuditEventKind.DENIED, caller, outcome="minor", detail="no token")


def test_a_flood_of_refusals_is_counted_and_does_not_fill_the_disk(tmp_path):
    spool = AuditSpool(tmp_path, "web")
    for _ in range(5_000):
        spool.record(stranger())
    spool.record(event())
    spool.close()

    kept = [one.record for one in records(tmp_path)]

    refused = [one for one in kept if one.event is AuditEventKind.DENIED]
    assert len(refused) == EACH + 1
    assert refused[-1].detail.startswith(f"{5_000 - EACH} further requests refused")
    assert refused[-1].caller.address == "198.51.100.1"
    assert len(kept) == EACH + 2


def test_a_flood_from_many_addresses_is_bounded_as_well(tmp_path):
    spool = AuditSpool(tmp_path, "web")
    for n in range(3_000):
        spool.record(stranger(f"10.0.{n // 250}.{n % 250}"))
    spool.close()

    kept = [one.record for one in records(tmp_path)]

    counted = sum(
        int(re.match(r"(\d+) further", one.detail)[1])
        for one in kept
        if one.detail.endswith("last: no token")
    )
    assert counted == 3_000 - ALL
    assert len(kept) < 500


def test_a_flood_of_those_who_only_name_a_client_is_counted_too(tmp_path):
    named = Caller("viewer", "system", client="viewer", address="198.51.100.1")
    spool = AuditSpool(tmp_path, "web")
    for _ in range(2_000):
        spool.record(event("Patient", AuditEventKind.DENIED, named, outcome="minor", detail="no"))
    spool.close()

    assert len(list(records(tmp_path))) == NAMED_EACH + 1


def test_refusals_of_those_with_a_token_are_all_recorded(tmp_path):
    spool = AuditSpool(tmp_path, "web")
    for n in range(200):
        spool.record(event(f"Patient/{n}", AuditEventKind.DENIED, outcome="minor"))
    spool.close()

    assert len(list(records(tmp_path))) == 200


def test_a_spool_of_an_earlier_version_is_still_read(tmp_path):
    old = (
        b'{"id":"9b2f","source":"web","action":"R","event":"fhir-read","outcome":"success",'
        b'"at":"2026-01-01T00:00:00+00:00","caller":{"subject":"a","kind":"user","client":null,'
        b'"address":null},"study":null,"patient":null,"resource":"Patient/1","query":null,'
        b'"detail":null}\n'
    )
    (tmp_path / "web-123-00aa11bb22cc.ndjson").write_bytes(old)

    (one,) = SpoolReader(tmp_path).next_batch().records

    assert (one.id, one.record.resource, one.record.caller.subject) == ("9b2f", "Patient/1", "a")
