"""What happened at a door is found as AuditEvents, even after an outage of HAPI."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from uuid import uuid4

import orjson
import pytest

from access import AuditEventKind, AuditRecord, AuditSpool, Caller, SpoolReader
from access.audit import anchor as anchors
from access.audit.retention import Retention
from access.audit.verify import verify
from fhir_gateway.audit import REJECTED, AuditShipper, to_audit_event
from fhir_gateway.audit.compare import compare
from fhir_gateway.audit.door import DoorTrail
from fhir_gateway.audit.upkeep import TrailConfig, Upkeep
from records import RecordsUnavailable

CALLER = Caller("someone", "user", client="app", address="192.0.2.1")


def record(**changes):
    base = {
        "action": "R",
        "event": AuditEventKind.FHIR_READ,
        "outcome": "success",
        "caller": CALLER,
        "at": datetime.now(UTC),
    }
    return AuditRecord(**{**base, **changes})


async def ship(folder, records):
    reader, shipper = SpoolReader(folder), AuditShipper(folder, records)
    waiting = True
    while waiting:
        with contextlib.suppress(RecordsUnavailable):  # as the shipper does, without its pauses
            waiting = await shipper.ship_once(reader)


async def shipped(folder, records):
    """Ids in the spool, after all were shipped."""
    ids = [one.id for one in SpoolReader(folder).next_batch(100).records]
    await ship(folder, records)
    return [await records.read("AuditEvent", one) for one in ids]


@pytest.fixture
def spool(tmp_path):
    opened = AuditSpool(tmp_path, "web")
    yield opened
    opened.close()


@pytest.fixture
async def patient(records):
    body = {"resourceType": "Patient", "name": [{"family": "A"}], "gender": "unknown"}
    return await records.create(body)


@pytest.mark.parametrize("kind", list(AuditEventKind))
async def test_every_kind_of_event_is_valid(tmp_path, spool, records, patient, kind):
    reference = f"Patient/{patient['id']}"
    spool.record(
        record(
            event=kind, patient=reference, resource=reference, study="1.2.3", query="Patient?x=1"
        )
    )

    (event,) = await shipped(tmp_path, records)

    issues = await records.validate(event)
    assert [i["diagnostics"] for i in issues if i["severity"] in ("error", "fatal")] == []
    assert event["entity"][0]["what"]["reference"] == reference


async def test_a_record_about_what_is_not_there_is_kept_without_the_link(tmp_path, spool, records):
    spool.record(record(patient="Patient/never-was", resource="Patient/never-was"))
    spool.record(record(resource="studies/1.2.3/metadata"))

    first, second = await shipped(tmp_path, records)

    assert first["entity"][0]["what"]["identifier"]["value"] == "Patient/never-was"
    assert second["entity"][0]["what"]["display"] == "studies/1.2.3/metadata"
    assert not (tmp_path / REJECTED).exists()


async def test_shipping_twice_writes_once(tmp_path, spool, records):
    spool.record(record(study="1.2.3"))
    batch = SpoolReader(tmp_path).next_batch()

    await AuditShipper(tmp_path, records).ship(batch)
    (event,) = await shipped(tmp_path, records)

    assert event["meta"]["versionId"] == "1"


async def test_an_outage_of_hapi_loses_no_record(tmp_path, spool, records, hapi_relay):
    stop = asyncio.Event()
    hapi_relay.close()
    task = asyncio.create_task(AuditShipper(tmp_path, records).run(stop))
    try:
        for n in range(30):
            spool.record(record(study=f"1.2.{n}"))
        ids = [one.id for one in SpoolReader(tmp_path).next_batch(100).records]
        await asyncio.sleep(1.5)
    finally:
        hapi_relay.open()

    for _ in range(200):
        if not SpoolReader(tmp_path).next_batch(1).records:
            break
        await asyncio.sleep(0.1)
    stop.set()
    await asyncio.wait_for(task, 20)
    assert len(ids) == 30
    for one in ids:
        assert (await records.read("AuditEvent", one))["outcome"] == "0"


async def test_reads_searches_writes_and_denials_are_recorded(
    everything, client_for, config, records, unique
):
    start = len(SpoolReader(config.audit_folder).next_batch(100_000).records)
    body = {"resourceType": "Patient", "name": [{"family": unique}], "gender": "unknown"}
    created = everything.post("Patient", json=body).json()
    everything.get(f"Patient/{created['id']}")
    everything.get(f"Patient?name={unique}&gender=unknown")
    client_for("system/Observation.r").get(f"Patient/{created['id']}?x={unique}")

    new = SpoolReader(config.audit_folder).next_batch(100_000).records[start:]

    kinds = [one.record.event for one in new]
    assert kinds == [
        AuditEventKind.FHIR_WRITE,
        AuditEventKind.FHIR_READ,
        AuditEventKind.FHIR_SEARCH,
        AuditEventKind.DENIED,
    ]
    assert new[1].record.patient == f"Patient/{created['id']}"
    assert new[2].record.query == "Patient?name=***&gender=***"
    assert all(one.record.caller.token_id for one in new)
    assert all(unique not in str(to_audit_event(one)) for one in new)


async def test_what_the_store_never_takes_is_kept_on_disk_and_holds_up_nothing(
    tmp_path, spool, records
):
    spool.record(record(action="X"))  # no code of AuditEvent.action: cannot be parsed
    for _ in range(3):
        spool.record(record(study="1.2.3"))
    ids = [one.id for one in SpoolReader(tmp_path).next_batch(100).records]

    await ship(tmp_path, records)

    kept = [orjson.loads(line)["id"] for line in (tmp_path / REJECTED).read_bytes().splitlines()]
    assert kept == ids[:1]
    for one in ids[1:]:
        assert (await records.read("AuditEvent", one))["outcome"] == "0"


async def test_a_trail_that_was_shipped_is_the_same_in_the_store(tmp_path, spool, records, patient):
    for n in range(5):
        spool.record(record(patient=f"Patient/{patient['id']}", study=f"1.2.{n}"))
    spool.record(record(patient="Patient/never-was"))
    await ship(tmp_path, records)
    spool.record(record(study="1.2.9"))  # not shipped yet: not missed

    assert [one async for one in compare(tmp_path, records)] == []


async def test_an_event_that_was_changed_removed_or_added_in_the_store_is_named(
    tmp_path, spool, records
):
    for n in range(3):
        spool.record(record(study=f"1.2.{n}"))
    first, second, third = await shipped(tmp_path, records)
    await records.update({**first, "outcome": "8"})
    await records.delete("AuditEvent", second["id"])
    forged = {**third, "id": str(uuid4()), "recorded": datetime.now(UTC).isoformat()}
    await records.update(forged, if_match=False)

    found = {(one.kind, one.first) async for one in compare(tmp_path, records)}

    assert found >= {("changed in the store", 1), ("missing in the store", 2), ("unknown", 0)}
    assert ("changed in the store", 3) not in found


async def test_once_a_day_an_anchor_is_signed_kept_and_recorded(tmp_path, spool):
    spool.record(record())
    upkeep = Upkeep(tmp_path, TrailConfig(keys=tmp_path / "keys"))
    trail = AuditSpool(tmp_path, "trail")

    for _ in range(3):
        upkeep.round(trail)
    trail.close()

    key = anchors.load_or_create_key(tmp_path / "keys")
    (kept,) = anchors.stored(tmp_path, key)
    kinds = [one.record.event for one in SpoolReader(tmp_path).next_batch(100).records]
    assert kept.heads["web"].sequence == 1
    assert kinds.count(AuditEventKind.ANCHOR) == 1
    assert verify(tmp_path, [kept]).findings == []


async def test_the_patients_whose_data_was_handed_out_are_in_the_trail(
    everything, config, stored_patient, observation
):
    start = len(SpoolReader(config.audit_folder).next_batch(100_000).records)
    patient = f"Patient/{stored_patient['id']}"
    made = everything.post("Observation", json={**observation, "id": None}).json()
    everything.get(f"Observation/{observation['id']}")
    everything.get(f"Observation?patient={patient}")
    everything.get(f"Observation?_id={observation['id']}&_include=Observation:patient")

    new = SpoolReader(config.audit_folder).next_batch(100_000).records[start:]

    created, read, searched, included = [one.record for one in new]
    assert (created.resource, created.patient) == (f"Observation/{made['id']}", patient)
    assert (read.resource, read.patient) == (f"Observation/{observation['id']}", patient)
    assert searched.patients == included.patients == (patient,)


async def test_what_no_text_may_hold_reaches_the_store_without_it(tmp_path, spool, records):
    caller = Caller("a\x00b\ud800", "user", client="c\x1b", address="192.0.2.1")
    spool.record(record(caller=caller, resource="Patient/\x00", detail="d\x07\uffff"))

    (event,) = await shipped(tmp_path, records)

    assert event["outcomeDesc"] == "d\ufffd\ufffd"
    assert not (tmp_path / REJECTED).exists()


def written_since(config, start):
    return [one.record for one in SpoolReader(config.audit_folder).next_batch(100_000).records][
        start:
    ]


def entry(method, url, resource=None):
    given = {"resource": resource} if resource else {}
    return {**given, "request": {"method": method, "url": url}}


async def test_each_entry_of_a_batch_is_recorded_with_its_patient_and_its_outcome(
    everything, config, stored_patient, observation
):
    start, patient = len(written_since(config, 0)), f"Patient/{stored_patient['id']}"
    entries = [
        entry("GET", f"Observation/{observation['id']}"),
        entry("GET", f"Observation?patient={patient}"),
        entry("GET", "Observation/never-was"),
        entry("POST", "Observation", {**observation, "id": "mine"}),
    ]

    answer = everything.post("", json={"resourceType": "Bundle", "type": "batch", "entry": entries})

    read, searched, missing, created = written_since(config, start)
    assert (read.outcome, read.patient) == ("success", patient)
    assert (searched.outcome, searched.patients) == ("success", (patient,))
    assert (missing.outcome, missing.resource) == ("minor", "Observation/never-was")
    place = answer.json()["entry"][3]["response"]["location"].split("/_history")[0]
    assert place.endswith(created.resource)
    assert (created.resource != "Observation/mine", created.patient) == (True, patient)


async def test_what_was_created_is_named_though_the_client_wants_nothing_back(
    everything, config, observation
):
    start = len(written_since(config, 0))

    answer = everything.post(
        "Observation", json={**observation, "id": None}, headers={"Prefer": "return=minimal"}
    )

    (created,) = written_since(config, start)
    assert answer.status_code == 201
    assert created.resource.removeprefix("Observation/") in answer.headers["location"]


async def test_a_write_that_the_store_did_not_answer_is_recorded_for_it_may_have_been_done(
    everything, config, observation, hapi_relay
):
    start = len(written_since(config, 0))
    bundle = {"resourceType": "Bundle", "type": "transaction"}
    bundle["entry"] = [entry("PUT", f"Observation/{observation['id']}", observation)]
    hapi_relay.short_by = 20
    try:
        alone = everything.put(f"Observation/{observation['id']}", json=observation)
        together = everything.post("", json=bundle)
    finally:
        hapi_relay.short_by = 0

    assert (alone.status_code, together.status_code) == (503, 503)
    kept = [(one.event, one.action, one.outcome) for one in written_since(config, start)]
    assert kept == [(AuditEventKind.FHIR_WRITE, "U", "serious")] * 2


async def test_a_search_that_hands_out_many_patients_names_them_all(tmp_path, spool):
    patients = tuple(f"Patient/{n}" for n in range(250))
    trail = DoorTrail(spool)

    await trail.write(CALLER, "E", AuditEventKind.FHIR_SEARCH, 200, patients=patients)

    kept = [one.record.patients for one in SpoolReader(tmp_path).next_batch().records]
    assert tuple(one for some in kept for one in some) == patients


async def test_anchors_that_cannot_be_read_do_not_fill_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("access.audit.spool.ROTATE_BYTES", 500)
    spool = AuditSpool(tmp_path, "web")
    for n in range(10):
        spool.record(record(study=f"1.2.{n}"))
    reader = SpoolReader(tmp_path)
    reader.acknowledge(reader.next_batch(100))
    (tmp_path / anchors.STORED).write_text("damaged\n")
    files = len(list(tmp_path.glob("web.*.ndjson")))

    config = TrailConfig(keys=tmp_path / "keys", retention=Retention(keep_s=-1))
    Upkeep(tmp_path, config).round(spool)
    spool.close()

    assert files > 2
    assert len(list(tmp_path.glob("web.*.ndjson"))) < files
    assert verify(tmp_path).findings == []
