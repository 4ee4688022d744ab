"""Work items and Tasks, each shown as the other; every round by a bridge that has just started.

The part of the worker is played by its own module of states (inference.task): what a model does
in between is of no concern here.
"""

from __future__ import annotations

import asyncio

import pytest
from pydicom.uid import generate_uid

from archive.workitem_document import code_item, element, first
from fhir_gateway import workitem_map as mapping
from fhir_gateway.workitems import WorkitemBridge
from inference import task as tasks
from records import RecordsUnavailable, identifiers
from tests.dicomweb.workitem import value, work_item
from tests.fhir_gateway.bridge import MODEL, Bridge
from tests.fhir_gateway.conftest import execute
from tests.fhir_gateway.dicom import header, store


@pytest.fixture
def bridge(config, archive, records, pool):
    return Bridge(config, archive, records, pool)


@pytest.fixture
def new_study(archive, publishing):
    """A study of one MR image, in the archive and in FHIR: its UID and ImagingStudy."""

    async def make(instances=1):
        uid = generate_uid()
        series, patient = generate_uid(), generate_uid()[-12:]
        for _ in range(instances):
            store(archive, header(uid, series, PatientID=patient))
        return uid, await publishing.study(uid, instances=instances)

    return make


async def test_an_order_becomes_one_task_whose_states_come_back(bridge, new_study, config):
    study_uid, study = await new_study()
    uid = bridge.order(study_uid)

    await bridge.round()
    await bridge.round()
    task = await bridge.the_task(study)
    before = bridge.state(uid)
    claimed = await tasks.claim(bridge.records, task)
    await bridge.round()
    running = bridge.item(uid)
    made = await bridge.complete(claimed, study_uid)
    await bridge.round()
    done = bridge.item(uid)

    assert task["status"] == "requested" and before == "SCHEDULED"
    assert tasks.identifier_of(task) == tasks.identifier_for(study, MODEL)
    assert mapping.order_identifier(uid) in task["identifier"]
    assert set(bridge.started) == {task["id"]}
    assert running.state == "IN PROGRESS" and running.own
    assert "attempt 1" in value(running.attributes, "00741002", "00741006")
    assert done.state == "COMPLETED"
    performed = value(done.attributes, "00741216")
    assert value(performed, "00404019", "00080119") == MODEL.label
    outputs = performed["00404033"]["Value"]
    references = {value(one, "00081199", "00081155"): one for one in outputs}
    assert set(references) == set(made.values())
    for one in outputs:
        url = value(one, "0040E025", "00081190")
        assert url.startswith(f"{config.dicomweb_base}/studies/{study_uid}/series/")
    assert len(await bridge.tasks_of(study)) == 1


async def test_an_order_for_a_result_that_is_there_is_completed_by_it(bridge, new_study):
    study_uid, study = await new_study()
    task = await tasks.request(
        bridge.records, study, MODEL, str(tasks.identifier_for(study, MODEL))
    )
    await bridge.complete(task, study_uid)
    uid = bridge.order(study_uid)

    await bridge.round()

    assert bridge.state(uid) == "COMPLETED"
    assert len(await bridge.tasks_of(study)) == 1
    assert bridge.started == []


async def test_an_order_joins_the_automatic_run_without_disturbing_its_worker(bridge, new_study):
    study_uid, study = await new_study()
    task = await tasks.request(
        bridge.records, study, MODEL, str(tasks.identifier_for(study, MODEL))
    )
    claimed = await tasks.claim(bridge.records, task)
    uid = bridge.order(study_uid)

    await bridge.round()

    now = await bridge.the_task(study)
    assert now["meta"]["versionId"] == claimed["meta"]["versionId"]
    assert bridge.state(uid) == "IN PROGRESS"


async def test_a_failed_run_cancels_its_item_and_a_new_order_begins_it_anew(bridge, new_study):
    study_uid, study = await new_study()
    first_order = bridge.order(study_uid)
    await bridge.round()
    task = await tasks.claim(bridge.records, await bridge.the_task(study))
    await tasks.end(bridge.records, task, "failed", "the disk is on fire")
    await bridge.round()
    second_order = bridge.order(study_uid)
    await bridge.round()
    again = await bridge.the_task(study)

    assert bridge.state(first_order) == "CANCELED"
    assert bridge.reason(first_order) == "the disk is on fire"
    assert value(bridge.item(first_order).attributes, "00741002", "0074100E", "00080100")
    assert bridge.state(second_order) == "SCHEDULED"
    assert again["status"] == "requested" and tasks.attempts(again) == 0
    assert "statusReason" not in again
    await bridge.complete(again, study_uid)
    await bridge.round()
    assert [bridge.state(one) for one in (first_order, second_order)] == ["CANCELED", "COMPLETED"]


async def test_each_automatic_run_shows_as_one_work_item(bridge, new_study):
    study_uid, study = await new_study(instances=2)
    task = await tasks.request(
        bridge.records, study, MODEL, str(tasks.identifier_for(study, MODEL))
    )
    uid = mapping.mirror_uid(task)

    await bridge.round()
    await bridge.round()
    shown = bridge.item(uid)
    await bridge.complete(task, study_uid)
    await bridge.round()

    assert shown.state == "SCHEDULED"
    assert shown.studies == [study_uid]
    assert value(shown.attributes, "00100010")["Alphabetic"] == "Doe^Jane"
    assert value(shown.attributes, "00404018", "00080119") == MODEL.label
    assert len(value(shown.attributes, "00404021")["00081199"]["Value"]) == 2
    assert bridge.state(uid) == "COMPLETED"
    assert bridge.archive.workitems.several([uid])


async def test_a_cancelled_order_ends_a_run_that_has_not_begun(bridge, new_study):
    study_uid, study = await new_study()
    uid = bridge.order(study_uid)
    await bridge.round()

    bridge.archive.workitems.request_cancel(uid, {}, "TEST")
    await bridge.round()

    assert (await bridge.the_task(study))["status"] == "cancelled"
    assert bridge.state(uid) == "CANCELED"


async def test_a_request_to_cancel_ends_a_run_at_work(bridge, new_study):
    study_uid, study = await new_study()
    uid = bridge.order(study_uid)
    await bridge.round()
    await tasks.claim(bridge.records, await bridge.the_task(study))
    await bridge.round()

    bridge.archive.workitems.request_cancel(uid, {}, "TEST")
    await bridge.round()

    assert (await bridge.the_task(study))["status"] == "cancelled"
    assert bridge.state(uid) == "CANCELED"


async def test_a_run_that_somebody_else_waits_for_is_not_cancelled(bridge, new_study):
    study_uid, study = await new_study()
    mine, other = bridge.order(study_uid), bridge.order(study_uid)
    await bridge.round()
    await tasks.claim(bridge.records, await bridge.the_task(study))
    await bridge.round()

    bridge.archive.workitems.request_cancel(mine, {}, "TEST")
    await bridge.round()
    await bridge.complete(await bridge.the_task(study), study_uid)
    await bridge.round()

    assert [bridge.state(one) for one in (mine, other)] == ["CANCELED", "COMPLETED"]


async def test_an_order_that_cannot_be_carried_out_is_cancelled_with_the_reason(bridge, new_study):
    study_uid, _ = await new_study()
    other_model = element("00404018", code_item("other@9", "99HILUM", "Other"))
    two = [value(work_item(study=generate_uid()), "00404021") for _ in range(2)]
    orders_ = {
        "no model other@9": bridge.order(study_uid, t00404018=other_model),
        "names 2 studies": bridge.order(study_uid, t00404021={"vr": "SQ", "Value": two}),
    }

    await bridge.round()

    for reason, uid in orders_.items():
        assert bridge.state(uid) == "CANCELED"
        assert reason in bridge.reason(uid)


async def test_an_order_waits_for_its_study_its_input_and_its_time(bridge, new_study, archive):
    study_uid, _ = await new_study()
    unready = bridge.order(study_uid, t00404041=element("00404041", "INCOMPLETE"))
    tomorrow = bridge.order(study_uid, t00404005=element("00404005", "29990101"))
    early = bridge.order(unborn := generate_uid())
    foreign = bridge.order(study_uid, t00404018=element("00404018", code_item("1", "99X", "X")))
    await bridge.round()
    waiting = [bridge.state(uid) for uid in (unready, tomorrow, early, foreign)]
    assert bridge.started == []

    store(archive, header(unborn))
    archive.workitems.update(unready, {"00404041": element("00404041", "READY")}, None)
    for _ in range(100):
        await bridge.round()
        if len(bridge.started) == 2:
            break
        await asyncio.sleep(0.1)

    assert waiting == ["SCHEDULED"] * 4
    assert len(set(bridge.started)) == 2


async def test_an_item_that_another_performer_has_claimed_is_left_to_it(bridge, new_study):
    study_uid, study = await new_study()
    uid = bridge.order(study_uid)
    await bridge.round()
    bridge.archive.workitems.change_state(uid, "IN PROGRESS", generate_uid())

    await bridge.complete(await bridge.the_task(study), study_uid)
    await bridge.round()

    assert bridge.state(uid) == "IN PROGRESS"


async def test_an_odd_task_of_somebody_else_holds_up_no_other(bridge, new_study):
    _, study = await new_study()
    odd = {
        "resourceType": "Task",
        "identifier": [{"system": identifiers.INFERENCE_RUN, "value": generate_uid()}],
        "status": "completed",
        "intent": "order",
        "focus": {"reference": f"ImagingStudy/{study['id']}"},
    }
    await bridge.records.create(odd)
    good = await tasks.request(
        bridge.records, study, MODEL, str(tasks.identifier_for(study, MODEL))
    )

    await bridge.round()

    assert bridge.state(mapping.mirror_uid(good)) == "SCHEDULED"


@pytest.mark.parametrize("lost", ["link", "link and cursor"])
async def test_a_crash_between_task_and_link_ends_with_one_task(bridge, new_study, config, lost):
    study_uid, study = await new_study()
    uid = bridge.order(study_uid)
    await bridge.round()
    execute_ = "delete from gateway.workitem_link where uid = %s returning uid"
    assert execute(config.dsn, execute_, [uid])
    if "cursor" in lost:
        execute(
            config.dsn,
            "update gateway.workitem_cursor set at = now() - interval '1 day' returning at",
        )

    await bridge.round()
    await bridge.complete(await bridge.the_task(study), study_uid)
    await bridge.round()

    assert bridge.state(uid) == "COMPLETED"
    task = await bridge.the_task(study)
    assert not bridge.archive.workitems.several([mapping.mirror_uid(task)])


async def test_a_crash_before_a_known_state_is_brought_is_made_good(bridge, new_study, config):
    study_uid, study = await new_study()
    uid = bridge.order(study_uid)
    await bridge.round()
    await bridge.complete(await bridge.the_task(study), study_uid)
    # As if the change had been seen, and the process had died with it.
    execute(
        config.dsn, "update gateway.workitem_cursor set at = now() + interval '1 h' returning at"
    )
    try:
        await bridge.round()
    finally:
        execute(config.dsn, "update gateway.workitem_cursor set at = now() returning at")

    assert bridge.state(uid) == "COMPLETED"


async def test_an_outage_of_the_fhir_store_only_delays(bridge, new_study, hapi_relay):
    study_uid, study = await new_study()
    uid = bridge.order(study_uid)
    hapi_relay.close()
    try:
        with pytest.raises(RecordsUnavailable):
            await bridge.round()
    finally:
        hapi_relay.open()
    during = bridge.state(uid)

    await bridge.round()
    await bridge.complete(await bridge.the_task(study), study_uid)
    await bridge.round()

    assert [during, bridge.state(uid)] == ["SCHEDULED", "COMPLETED"]


async def test_a_crash_between_two_steps_of_an_item_is_made_good(bridge, new_study):
    study_uid, study = await new_study()
    uid = bridge.order(study_uid)
    await bridge.round()
    lock = WorkitemBridge(
        bridge.config, bridge.archive.workitems, bridge.archive, bridge.records, bridge.pool
    )._lock(uid)
    bridge.archive.workitems.change_state(uid, "IN PROGRESS", lock, own=True)

    await bridge.complete(await bridge.the_task(study), study_uid)
    await bridge.round()

    assert bridge.state(uid) == "COMPLETED"
    assert first(bridge.item(uid).attributes, "00741216")


@pytest.mark.parametrize(
    ("written", "zone", "expected"),
    [
        ("20260115103000", "Europe/Berlin", "2026-01-15T10:30:00+01:00"),
        ("20260115103000.5+0200", None, "2026-01-15T10:30:00+02:00"),
        ("20260115", None, "2026-01-15T00:00:00+00:00"),
        ("2026", None, None),
    ],
)
def test_a_scheduled_start_is_read_in_its_own_zone(written, zone, expected):
    at = mapping.starts_at(written, zone)

    assert (at.isoformat() if at else None) == expected
