"""B13 and B14 of the bulk checklist: the store as it was at one moment, and what was deleted."""

from __future__ import annotations

import threading
import time
from datetime import datetime

from tests.bulk.conftest import execute
from tests.bulk.exporting import exported, finished, ids, kick_off, lines, resources
from tests.bulk.test_rows import updated, written


def deleted(client, manifest):
    """References in the `deleted` files, which are looked at for their form."""
    found = []
    for file in manifest["deleted"]:
        for bundle in lines(client, file):
            assert bundle["resourceType"] == "Bundle" and bundle["type"] == "transaction"
            assert {one["request"]["method"] for one in bundle["entry"]} == {"DELETE"}
            found += [one["request"]["url"] for one in bundle["entry"]]
    assert len(found) == len(set(found))
    return set(found)


def test_b13_nothing_is_newer_than_the_transaction_time_and_all_up_to_it_is_there(
    everything, fresh
):
    """While the store is being written to."""
    stop, made = threading.Event(), []

    def write():
        while not stop.is_set():
            made.append(fresh.observation(fresh.stranger))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        time.sleep(1)
        manifest = exported(everything, f"$export?{fresh.filtered('Observation')}")
    finally:
        stop.set()
        writer.join()

    at = datetime.fromisoformat(manifest["transactionTime"])
    rows = resources(everything, manifest)["Observation"]
    assert all(updated(row) <= at for row in rows)
    assert {one["id"] for one in made if updated(one) <= at} <= {row["id"] for row in rows}
    assert len({row["id"] for row in rows}) == len(rows)


def test_b13_what_changes_while_it_runs_is_shown_as_it_was(own_group, everything, fresh):
    """Rows are held back in the wire; meanwhile one is updated, one deleted, one made."""
    gateway = own_group.gateway().start().ready()
    changed, gone = (fresh.observation(fresh.members[0]) for _ in range(2))
    try:
        with own_group.client() as client:
            url = f"Group/{fresh.group}/$export?_type=Patient,Observation"
            place = kick_off(client, url)
            plan_made(own_group, place)
            own_group.relay.close()
            changed["status"] = "amended"
            everything.put(f"Observation/{changed['id']}", json=changed)
            everything.delete(f"Observation/{gone['id']}")
            late = fresh.observation(fresh.members[0])
            own_group.relay.open()
            manifest = finished(client, place).json()

            rows = {one["id"]: one for one in resources(client, manifest)["Observation"]}
            at = datetime.fromisoformat(manifest["transactionTime"])
    finally:
        gateway.stop()
    assert late["id"] not in rows
    assert rows[changed["id"]]["status"] == "final"
    assert rows[changed["id"]]["meta"]["versionId"] == "1"
    assert gone["id"] in rows
    assert all(updated(one) <= at for one in rows.values())


def plan_made(group, place):
    """Wait until the job has its transaction time."""
    job = place.rsplit("/", 1)[-1]
    query = "select transaction_time from gateway.bulk_job where id = %s"
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if execute(group.dsn, query, [job])[0][0] is not None:
            return
        time.sleep(0.005)
    raise AssertionError("no plan")


def test_b13_a_transaction_larger_than_a_page_is_exported_whole(hapi, everything, fresh):
    """All its resources have one `lastUpdated`, so that pages by time alone would not end."""
    tag = [{"system": "urn:test:mark", "code": fresh.mark}]
    entries = [
        {
            "resource": {
                "resourceType": "Basic",
                "code": {"text": str(number)},
                "meta": {"tag": tag},
            },
            "request": {"method": "POST", "url": "Basic"},
        }
        for number in range(1200)
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    answer = hapi.client.post("", json=bundle, timeout=300)  # the door takes fewer entries
    assert answer.status_code == 200, answer.text[:300]

    found = resources(everything, exported(everything, f"$export?{fresh.filtered('Basic')}"))

    assert {one["code"]["text"] for one in found["Basic"]} == {str(n) for n in range(1200)}
    assert len(found["Basic"]) == 1200


def test_b13_a_row_that_changes_before_its_page_is_read_is_shown_as_it_was(
    hapi, own_group, everything, fresh
):
    """The store finds rows first and reads them later: here, those of a large transaction."""
    tag = [{"system": "urn:test:mark", "code": fresh.mark}]
    names = [f"{fresh.mark}-{number:04}" for number in range(1800)]
    for some in (names[:600], names[600:]):  # the first page ends within the second transaction
        entries = [
            {
                "resource": {
                    "resourceType": "Basic",
                    "id": name,
                    "code": {"text": "before"},
                    "meta": {"tag": tag},
                },
                "request": {"method": "PUT", "url": f"Basic/{name}"},
            }
            for name in some
        ]
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        assert hapi.client.post("", json=bundle, timeout=300).status_code == 200
    answers = []

    def change():
        for name in names[1100::100]:  # the store has found the first of them by then
            changed = {"resourceType": "Basic", "id": name, "code": {"text": "after"}}
            answers.append(everything.put(f"Basic/{name}", json=changed).status_code)

    own_group.relay.before = (b"_getpages", change)  # the rows of its first page are read
    gateway = own_group.gateway().start().ready()
    try:
        with own_group.client() as client:
            place = kick_off(client, f"$export?{fresh.filtered('Basic')}")
            rows = resources(client, finished(client, place).json())["Basic"]
    finally:
        gateway.stop()

    assert answers == [200] * 7
    assert sorted(row["id"] for row in rows) == names
    assert {row["code"]["text"] for row in rows} == {"before"}


def test_b14_what_was_deleted_since_is_told_in_bundles_and_not_exported(everything, fresh):
    since = written(updated(fresh.observation(None)))
    kept, gone = (fresh.observation(fresh.stranger) for _ in range(2))
    before = fresh.observations[fresh.stranger][0]
    for one in (gone["id"], before):
        assert everything.delete(f"Observation/{one}").status_code in (200, 204)

    manifest = exported(everything, f"$export?_type=Observation&_since={since}")

    found = deleted(everything, manifest)
    exported_ids = ids(everything, manifest)["Observation"]
    assert {f"Observation/{gone['id']}", f"Observation/{before}"} <= found
    assert kept["id"] in exported_ids
    assert not {f"Observation/{one}" for one in exported_ids} & found


def test_b14_what_was_deleted_and_made_anew_is_exported_and_not_told_as_deleted(everything, fresh):
    since = written(updated(fresh.observation(None)))
    back = {"resourceType": "Basic", "id": f"back-{fresh.mark}", "code": {"text": "x"}}
    url = f"Basic/{back['id']}"
    everything.put(url, json=back)
    everything.delete(url)
    everything.put(url, json=back)

    manifest = exported(everything, f"$export?_type=Basic&_since={since}")

    assert back["id"] in ids(everything, manifest)["Basic"]
    assert url not in deleted(everything, manifest)


def test_b14_a_group_is_told_of_deletions_of_its_members_only(everything, fresh):
    since = written(updated(fresh.observation(None)))
    ours = fresh.observations[fresh.members[0]][0]
    theirs = fresh.observations[fresh.stranger][0]
    for one in (ours, theirs):
        everything.delete(f"Observation/{one}")

    url = f"Group/{fresh.group}/$export?_type=Observation&_since={since}"
    found = deleted(everything, exported(everything, url))

    assert found == {f"Observation/{ours}"}
