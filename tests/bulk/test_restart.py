"""B23 of the bulk checklist: crashes in the middle lose nothing and double nothing."""

from __future__ import annotations

import time

import pytest

from tests.bulk.conftest import execute
from tests.bulk.exporting import finished, ids, kick_off, lines, resources
from tests.fixtures.stores import free_port

ROWS = 3000
# A page has a thousand rows at most, so that each file is finished after one page.
SMALL_FILES = {"file_rows": 1000}
DELAY_S = 0.3  # of each request to the store, so that an export has a middle


@pytest.fixture(scope="module")
def many(hapi):
    """A few thousand resources of a type that no other test has so many of; gives their tag."""
    tag = {"system": "urn:test:mark", "code": "many"}
    for start in range(0, ROWS, 500):
        entries = [
            {
                "resource": {
                    "resourceType": "Flag",
                    "status": "active",
                    "code": {"text": f"flag {number}"},
                    "subject": {"reference": "Patient/many"},
                    "meta": {"tag": [tag]},
                },
                "request": {"method": "PUT", "url": f"Flag/many-{number}"},
            }
            for number in range(start, min(start + 500, ROWS))
        ]
        if start == 0:
            patient = {"resourceType": "Patient", "id": "many"}
            entries.insert(
                0, {"resource": patient, "request": {"method": "PUT", "url": "Patient/many"}}
            )
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        answer = hapi.client.post("", json=bundle, timeout=300)
        assert answer.status_code == 200, answer.text[:500]
    return {f"many-{number}" for number in range(ROWS)}


def state(group, place):
    """State, attempt and finished files of a job, as its row says."""
    job = place.rsplit("/", 1)[-1]
    query = (
        "select state, attempt, (select count(*) from gateway.bulk_file where job = id)"
        " from gateway.bulk_job where id = %s"
    )
    return execute(group.dsn, query, [job])[0]


def in_the_middle(group, place, role="%", timeout_s=60):
    """Wait until a file is finished and the job is not."""
    query = "select 1 from gateway.bulk_file where job = %s and role like %s"
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if execute(group.dsn, query, [place.rsplit("/", 1)[-1], role]):
            return state(group, place)[0] == "running"
        time.sleep(0.002)
    raise AssertionError("no file was finished")


@pytest.fixture
def slow_group(own_group):
    """A group with a slow way to its store."""
    own_group.relay.delay_s = DELAY_S
    return own_group


def test_b23_a_killed_gateway_goes_on_at_the_last_finished_file(slow_group, many):
    gateway = slow_group.gateway(**SMALL_FILES).start().ready()
    try:
        with slow_group.client() as client:
            place = kick_off(client, "$export?_type=Flag")
            assert in_the_middle(slow_group, place)
            gateway.kill()
            _, _, kept = state(slow_group, place)
            before = {one.name for one in slow_group.exports.rglob("*.ndjson")}
            gateway.start().ready()

            status = finished(client, place)

            assert status.status_code == 200, status.text
            assert ids(client, status.json())["Flag"] >= many
            names = {one.name for one in slow_group.exports.rglob("*")}
            assert not [name for name in names if name.endswith(".partial")]
    finally:
        gateway.stop()
    _, attempts, files = state(slow_group, place)
    assert kept >= 1 and attempts == 2
    assert len(before & names) >= kept
    assert len([name for name in names if name.endswith(".ndjson")]) == files


def test_b23_a_killed_gateway_doubles_no_block_of_a_patient(own_group, hapi):
    """Blocks are made from files and not from the store, so their middle is many small files."""
    entries = [
        {
            "resource": {"resourceType": "Patient", "id": f"block-{number}"},
            "request": {"method": "PUT", "url": f"Patient/block-{number}"},
        }
        for number in range(100)
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    assert hapi.client.post("", json=bundle, timeout=300).status_code == 200
    gateway = own_group.gateway(file_rows=1).start().ready()
    try:
        with own_group.client() as client:
            place = kick_off(client, "$export?_type=Patient&organizeOutputBy=Patient")
            assert in_the_middle(own_group, place, "output")
            gateway.kill()
            gateway.start().ready()

            manifest = finished(client, place).json()

            rows = [row for file in manifest["output"] for row in lines(client, file)]
    finally:
        gateway.stop()
    patients = [row["id"] for row in rows if row["resourceType"] == "Patient"]
    assert len(patients) == len(set(patients))
    assert set(patients) >= {f"block-{number}" for number in range(100)}


def test_b23_no_half_file_is_ever_listed(slow_group, many):
    """Killed again and again, as soon as anything moves."""
    gateway = slow_group.gateway(**SMALL_FILES).start().ready()
    try:
        with slow_group.client() as client:
            place = kick_off(client, "$export?_type=Flag")
            for _ in range(2):
                if state(slow_group, place)[0] not in ("accepted", "running"):
                    break
                time.sleep(0.7)
                gateway.kill()
                gateway.start().ready()
            found = resources(client, finished(client, place).json())

            assert {one["id"] for one in found["Flag"]} >= many
    finally:
        gateway.stop()


def test_b23_of_two_gateways_one_works_on_a_job_and_the_other_goes_on_after_a_crash(
    slow_group, many
):
    first = slow_group.gateway(**SMALL_FILES).start().ready()
    second = slow_group.gateway(port=free_port(), at_once=0, **SMALL_FILES).start().ready()
    third = slow_group.gateway(port=free_port(), **SMALL_FILES)
    try:
        with slow_group.client() as client, slow_group.client(base=second.base) as other:
            place = kick_off(client, "$export?_type=Flag")
            assert in_the_middle(slow_group, place)
            slow_group.relay.close()  # so that it is still at it when the third one is there
            first.kill()
            slow_group.relay.open()
            third.start().ready()
            elsewhere = f"export/{place.rsplit('/', 1)[-1]}"

            status = finished(other, elsewhere)

            manifest = status.json()
            for file in manifest["output"]:
                file["url"] = file["url"].replace(slow_group.public + "/fhir", second.base)
            assert ids(other, manifest)["Flag"] >= many
            assert state(slow_group, place)[1] == 2
    finally:
        for one in (first, second, third):
            if one.process is not None:
                one.stop()


def test_b23_two_gateways_share_the_jobs_and_do_none_twice(slow_group, many):
    both = [
        slow_group.gateway(port=port, open_per_client=20).start() for port in (None, free_port())
    ]
    try:
        for one in both:
            one.ready()
        with slow_group.client() as client:
            places = [kick_off(client, "$export?_type=Patient") for _ in range(6)]
            for place in places:
                assert finished(client, place).status_code == 200
        assert [state(slow_group, place)[1] for place in places] == [1] * 6
    finally:
        for one in both:
            one.stop()


def test_b23_a_store_that_goes_away_in_the_middle_is_waited_for(slow_group, many):
    gateway = slow_group.gateway(**SMALL_FILES).start().ready()
    try:
        with slow_group.client() as client:
            place = kick_off(client, "$export?_type=Flag")
            assert in_the_middle(slow_group, place)
            slow_group.relay.close()
            time.sleep(2)
            slow_group.relay.open()

            found = ids(client, finished(client, place).json())

            assert found["Flag"] >= many
            assert state(slow_group, place)[1] == 1
    finally:
        gateway.stop()


def test_b22_finished_files_are_listed_while_the_export_still_runs(slow_group, many):
    """The store goes away in the middle; what was finished by then can be fetched."""
    gateway = slow_group.gateway(page_files=1, **SMALL_FILES).start().ready()
    try:
        with slow_group.client() as client:
            place = kick_off(client, "$export?_type=Flag&allowPartialManifests=true")
            assert in_the_middle(slow_group, place)
            slow_group.relay.close()
            partial = client.get(place)

            assert partial.status_code == 202
            assert partial.headers["content-type"].startswith("application/json")
            assert partial.headers["x-progress"]
            file = partial.json()["output"][0]
            assert len(lines(client, file)) == file["count"]
            assert [one["relation"] for one in partial.json()["link"]] == ["next"]
            slow_group.relay.open()
            assert finished(client, place).json() == partial.json()
    finally:
        gateway.stop()
