"""The audit trail of the running product: as it was written, here and in the FHIR store."""

from __future__ import annotations

import json

import pytest

from access.audit import AuditEventKind
from access.audit.verify import records
from tests.fixtures.running import wait_for

pytestmark = [pytest.mark.stack, pytest.mark.slow]


def test_the_trail_of_the_running_product_is_as_it_was_written(stack, tmp_path):
    with stack.client() as client:
        client.get("/fhir/Patient?name=nobody")
        client.get("/dicomweb/studies")
    anchor = tmp_path / "anchor.json"

    taken = stack.run("audit", "anchor", "--to", str(anchor))
    checked = stack.run("audit", "verify", "--anchor", str(anchor))

    assert taken.returncode == 0, taken.stderr
    assert {"web", "operator"} <= set(json.loads(anchor.read_text())["chains"])
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "as it was written" in checked.stdout


def test_the_fhir_store_has_the_trail_as_it_was_written(stack):
    def agrees():
        done = stack.run("audit", "verify", "--store")
        return done if done.returncode == 0 else None

    done = wait_for(agrees, "the store agrees with the trail", 60)

    assert "as it was written" in done.stdout


def test_the_start_of_each_process_that_serves_is_in_the_trail(stack):
    started = {
        one.source
        for one in records(stack.folder / "var" / "audit")
        if one.record.event is AuditEventKind.START
    }

    assert {"web", "dimse"} <= started


def test_a_record_that_somebody_removed_is_named(stack, tmp_path):
    folder = stack.folder / "var" / "audit"
    copy = tmp_path / "var" / "audit"
    copy.mkdir(parents=True)
    for path in folder.glob("web.*.ndjson"):
        lines = path.read_bytes().splitlines(keepends=True)
        (copy / path.name).write_bytes(b"".join(lines[:1] + lines[2:]))

    done = stack.run("audit", "verify", "--data", str(tmp_path / "var"))

    assert done.returncode == 1
    assert "web: removed: 2" in done.stdout
