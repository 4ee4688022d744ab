"""A process that serves has its start and its stop in the audit trail."""

from __future__ import annotations

import pytest

from access.audit import AuditEventKind, AuditSpool
from access.audit.verify import records
from hilum.wiring import on_record


def test_the_start_and_the_stop_of_a_process_are_in_its_trail_also_when_it_fails(tmp_path):
    with pytest.raises(RuntimeError), on_record(AuditSpool(tmp_path, "web")):
        raise RuntimeError

    kinds = [one.record.event for one in records(tmp_path)]
    assert kinds == [AuditEventKind.START, AuditEventKind.STOP]


def test_a_disk_that_takes_no_record_keeps_no_process_from_its_end(tmp_path):
    spool = AuditSpool(tmp_path / "gone", "web")
    (tmp_path / "gone").rmdir()

    with on_record(spool):
        pass

    assert list(tmp_path.iterdir()) == []
