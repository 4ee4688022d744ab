"""`hilum export` against a gateway: progress, going on after a break, files checked by digest."""

from __future__ import annotations

import io
import json
from functools import partial
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from hilum.commands import exporting
from tests.bulk.exporting import kick_off


@pytest.fixture
def export(gateways, gateway, monkeypatch):
    """Runs the command as an operator of this gateway; gives status and output."""

    def token(authorized, *_, subject, scope, lifetime):
        del lifetime
        if not authorized:
            return "none"
        return gateways.authority.mint(subject=subject, scope=scope, lifetime_s=3600)

    def run(request, *, authorized=True):
        # The command's settings are those of a whole product; here the gateway stands alone.
        monkeypatch.setattr(exporting, "mint", partial(token, authorized))
        out = Console(record=True, width=200, file=io.StringIO())
        running = {"fhir": f"{gateways.public}/fhir"}
        status = exporting.run_export(SimpleNamespace(), running, request, out)
        return status, out.export_text()

    return run


def ids(folder, kind):
    return {
        json.loads(line)["id"]
        for path in folder.glob(f"{kind}.*.ndjson")
        for line in path.read_text().splitlines()
    }


def test_files_are_whole_and_the_folder_keeps_no_traces(export, cohort, tmp_path):
    request = exporting.Request(tmp_path, group=cohort.group, types="Patient,Observation")

    status, text = export(request)

    assert status == 0, text
    assert ids(tmp_path, "Patient") == set(cohort.members)
    assert "as of 20" in text
    assert {one.suffix for one in tmp_path.iterdir()} == {".ndjson"}


def test_after_a_break_the_same_export_goes_on_and_only_the_rest_is_fetched(
    export, gateways, cohort, tmp_path
):
    with gateways.client("system/*.rs", subject="operator", client=None) as operator:
        request = exporting.Request(tmp_path, group=cohort.group, types="Patient")
        base = f"{gateways.public}/fhir"
        place = kick_off(operator, f"Group/{cohort.group}/$export?_type=Patient")
        asked = {"url": request.url(base), "parameters": request.parameters()}
        (tmp_path / "export.json").write_text(json.dumps({"asked": asked, "place": place}))
        # As a killed command leaves it: a file that is not whole.
        (tmp_path / "Patient.001.ndjson.partial").write_bytes(b"{")

        status, text = export(request)

        assert status == 0, text
        assert ids(tmp_path, "Patient") == set(cohort.members)
        assert operator.get(place).status_code == 404, "it was this very export"


def test_a_part_of_another_file_is_not_taken_for_a_beginning(export, cohort, tmp_path):
    (tmp_path / "Patient.001.ndjson.partial").write_bytes(b'{"resourceType":"Other"}\n')

    status, text = export(exporting.Request(tmp_path, group=cohort.group, types="Patient"))

    assert status == 0, text
    assert ids(tmp_path, "Patient") == set(cohort.members)


def test_a_folder_of_another_export_is_left_alone(export, cohort, tmp_path):
    notes = tmp_path / "export.json"
    notes.write_text(json.dumps({"asked": {"url": "x", "parameters": {}}, "place": "y"}))

    status, text = export(exporting.Request(tmp_path, group=cohort.group, types="Patient"))

    assert status == 1
    assert "another export" in text
    assert notes.exists()


def test_files_of_an_earlier_export_are_never_mixed_with_new_ones(export, cohort, tmp_path):
    earlier = tmp_path / "Patient.002.ndjson"
    earlier.write_text('{"resourceType":"Patient","id":"earlier"}\n')

    status, text = export(exporting.Request(tmp_path, group=cohort.group, types="Patient"))

    assert status == 1
    assert "new or empty folder" in text
    assert [one.name for one in tmp_path.iterdir()] == [earlier.name]


def test_a_note_that_a_crash_broke_is_named_and_nothing_is_begun(export, cohort, tmp_path):
    (tmp_path / "export.json").write_text("")

    status, text = export(exporting.Request(tmp_path, group=cohort.group, types="Patient"))

    assert status == 1
    assert "export.json cannot be read; remove it" in text


def test_an_export_that_is_refused_for_a_while_is_not_forgotten(export, gateways, tmp_path):
    """The token of the command ends, or is of another time: the export itself goes on."""
    request = exporting.Request(tmp_path, types="Patient")
    base = f"{gateways.public}/fhir"
    with gateways.client("system/*.rs", subject="operator", client=None) as operator:
        place = kick_off(operator, "$export?_type=Patient")
        asked = {"url": request.url(base), "parameters": request.parameters()}
        # Its status is asked for with a token that is none, which is answered with 401.
        kept = json.dumps({"asked": asked, "place": place})
        (tmp_path / "export.json").write_text(kept)

        status, text = export(request, authorized=False)

        assert status == 1
        assert "401" in text
        assert (tmp_path / "export.json").read_text() == kept
        operator.delete(place)


def test_a_refusal_is_shown_in_the_servers_words(export, tmp_path):
    status, text = export(exporting.Request(tmp_path, types="NoSuchType"))

    assert status == 1
    assert "NoSuchType" in text


def test_tables_can_be_had(export, cohort, tmp_path):
    request = exporting.Request(tmp_path, group=cohort.group, types="Patient", form="parquet")

    status, text = export(request)

    assert status == 0, text
    assert pq.read_table(tmp_path / "Patient.001.parquet").num_rows == len(cohort.members)
