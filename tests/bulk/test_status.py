"""B11, B12, B17 to B19 of the bulk checklist: waiting for an export, ending it, its failure."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
import pytest

from tests.bulk.conftest import execute
from tests.bulk.exporting import (
    KICK_OFF,
    exported,
    finished,
    ids,
    kick_off,
    resources,
)


def waiting(group, **bulk):
    """A gateway whose exports wait for a FHIR store that does not answer."""
    return group.gateway(**bulk).start().ready()


def shown(client, place, wanted, timeout_s=60):
    """Poll politely until the progress is as wanted."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        answer = client.get(place)
        if answer.status_code == 202 and wanted(answer.headers["x-progress"]):
            return answer
        assert answer.status_code in (202, 429), answer.text
        time.sleep(0.5)
    raise AssertionError(f"never seen; last: {answer.headers}")


def test_b11_a_running_export_tells_how_far_it_is_and_when_to_ask_again(own_group, cohort):
    gateway = waiting(own_group, file_rows=1)
    try:
        with own_group.client() as client:
            own_group.relay.close()
            # The kick-off of this one asks the store nothing.
            place = kick_off(client, "$export?_type=Patient")
            answer = client.get(place)
            assert answer.status_code == 202
            assert answer.headers["retry-after"].isdigit()
            assert 0 < len(answer.headers["x-progress"]) < 100
            own_group.relay.open()
            assert finished(client, place).status_code == 200
    finally:
        gateway.stop()


def test_b11_who_asks_too_often_is_told_to_wait(own_group, cohort):
    gateway = waiting(own_group)
    try:
        with own_group.client() as client:
            own_group.relay.close()
            place = kick_off(client, "$export?_type=Patient")

            answers = [client.get(place) for _ in range(12)]

            assert answers[0].status_code == 202
            assert answers[-1].status_code == 429
            assert answers[-1].headers["retry-after"].isdigit()
            assert answers[-1].json()["issue"][0]["code"] == "throttled"
            time.sleep(int(answers[-1].headers["retry-after"]) + 0.5)
            assert client.get(place).status_code == 202
            own_group.relay.open()
            assert finished(client, place).status_code == 200
    finally:
        gateway.stop()


def test_b11_too_many_open_exports_of_a_client_are_refused_for_a_while(own_group, cohort):
    gateway = waiting(own_group, open_per_client=2)
    try:
        with own_group.client() as client, own_group.client(client="another") as other:
            own_group.relay.close()
            places = [kick_off(client, "$export?_type=Patient") for _ in range(2)]

            third = client.get("$export?_type=Patient", headers=KICK_OFF)

            assert third.status_code == 429
            assert third.headers["retry-after"].isdigit()
            kick_off(other, "$export?_type=Patient")
            client.delete(places[0])
            kick_off(client, "$export?_type=Patient")
            own_group.relay.open()
    finally:
        gateway.stop()


def test_b12_a_complete_export_has_its_manifest(everything, gateways, cohort):
    before = datetime.now(UTC)
    url = f"Group/{cohort.group}/$export?_type=Patient,Observation"
    status = finished(everything, kick_off(everything, url))

    manifest = status.json()

    assert status.headers["content-type"].startswith("application/json")
    assert parsedate_to_datetime(status.headers["expires"]) > datetime.now(UTC)
    assert status.headers["cache-control"] == "no-store"
    at = datetime.fromisoformat(manifest["transactionTime"])
    assert abs((at - before).total_seconds()) < 120
    assert manifest["request"] == f"{gateways.public}/fhir/{url}"
    assert manifest["requiresAccessToken"] is True
    assert manifest["error"] == []
    assert "deleted" not in manifest
    for file in manifest["output"]:
        assert set(file) == {"type", "url", "count"}
        assert file["url"].startswith(f"{gateways.public}/fhir/export/")


def test_b12_with_since_deletions_are_listed_even_when_there_are_none(everything, cohort):
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    manifest = exported(everything, f"Group/{cohort.group}/$export?_type=Patient&_since={now}")

    assert manifest["deleted"] == []


def test_b17_a_running_export_can_be_cancelled_and_then_is_unknown(own_group, cohort):
    gateway = waiting(own_group)
    try:
        with own_group.client() as client:
            own_group.relay.close()
            place = kick_off(client, "$export?_type=Patient")

            cancelled = client.delete(place)
            after = client.get(place)

            assert cancelled.status_code == 202
            assert after.status_code == 404
            assert after.json()["resourceType"] == "OperationOutcome"
            assert client.delete(place).status_code == 404
            own_group.relay.open()
            until(lambda: not list(own_group.exports.iterdir()), "the folder is removed")
    finally:
        gateway.stop()


def test_b17_a_finished_export_can_be_given_up_and_its_files_go(everything, gateways, cohort):
    place = kick_off(everything, f"Group/{cohort.group}/$export?_type=Patient")
    file = finished(everything, place).json()["output"][0]["url"]
    folder = gateways.exports / place.rsplit("/", 1)[-1]
    assert list(folder.iterdir())

    assert everything.delete(place).status_code == 202

    assert everything.get(place).status_code == 404
    assert everything.get(file).status_code == 404
    until(lambda: not folder.exists(), "the files are removed")


@pytest.mark.parametrize("job", ["nothing", "00000000-0000-4000-8000-000000000000"])
def test_b17_an_unknown_export_is_not_found(everything, job):
    for answer in (
        everything.get(f"export/{job}"),
        everything.delete(f"export/{job}"),
        everything.get(f"export/{job}/1.ndjson"),
    ):
        assert answer.status_code == 404
        assert answer.json()["resourceType"] == "OperationOutcome"


def test_b18_an_export_that_has_expired_is_gone_with_its_files(own_group, cohort):
    gateway = own_group.gateway(keep_s=2).start().ready()
    try:
        with own_group.client() as client:
            place = kick_off(client, f"Group/{cohort.group}/$export?_type=Patient")
            file = finished(client, place).json()["output"][0]["url"]
            until(lambda: client.get(file).status_code == 404, "the file has expired")
            assert client.get(place).status_code == 404
    finally:
        gateway.stop()


def test_b18_an_export_does_not_expire_while_a_file_is_fetched(own_group, cohort):
    gateway = own_group.gateway(keep_s=3).start().ready()
    try:
        with own_group.client() as client:
            place = kick_off(client, f"Group/{cohort.group}/$export?_type=Patient")
            file = finished(client, place).json()["output"][0]["url"]
            folder = own_group.exports / place.rsplit("/", 1)[-1]
            assert client.get(file).status_code == 200  # the job is in use from now on
            time.sleep(4)
            gateway.stop()
            gateway.start().ready()  # the sweep of a start would take what has expired
            time.sleep(2)
            assert list(folder.iterdir())
    finally:
        gateway.stop()


def test_b19_an_export_that_cannot_be_done_fails_with_an_outcome(own_group, cohort):
    gateway = own_group.gateway(patience_s=1.0).start().ready()
    try:
        with own_group.client() as client:
            own_group.relay.close()
            place = kick_off(client, "$export?_type=Patient")

            status = finished(client, place)

            assert status.status_code == 500
            assert status.headers["content-type"].startswith("application/fhir+json")
            assert status.json()["resourceType"] == "OperationOutcome"
            assert "did not answer" in status.json()["issue"][0]["diagnostics"]
            own_group.relay.open()
    finally:
        gateway.stop()


def test_b19_what_cannot_be_read_is_told_and_the_rest_is_exported(hapi, everything, fresh):
    broken = fresh.create("Basic", code={"text": "x"})["id"]
    pid = "select res_id from hfj_resource where fhir_id = %s"
    spoil = f"update hfj_res_ver set res_text_vc = '{{' where res_id = ({pid})"
    execute(hapi.config.database, spoil, [broken])
    try:
        manifest = exported(everything, f"$export?{fresh.filtered('Patient')}&_type=Basic")
    finally:
        everything.delete(f"Basic/{broken}")

    assert ids(everything, manifest)["Patient"] >= set(fresh.members)
    (outcome,) = resources(everything, manifest, "error")["OperationOutcome"]
    assert outcome["issue"][0]["severity"] == "error"
    assert "Basic" in outcome["issue"][0]["diagnostics"]


def test_b19_without_room_nothing_starts(own_group, cohort):
    gateway = own_group.gateway(min_free_bytes=10**18).start().ready()
    try:
        with own_group.client() as client:
            answer = client.get("$export?_type=Patient", headers=KICK_OFF)

            assert answer.status_code == 503
            assert answer.headers["retry-after"].isdigit()
    finally:
        gateway.stop()


def until(true, what, timeout_s=60):
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        try:
            if true():
                return
        except (httpx.HTTPError, FileNotFoundError):
            pass
        time.sleep(0.3)
    raise AssertionError(what)
