"""What modalities report (MPPS) reaches the FHIR store, whatever stands in the way."""

from __future__ import annotations

import json
import uuid

import pytest
from pydicom.uid import generate_uid

from fhir_gateway.orders.performed import TRIES, PerformedFollower
from fhir_gateway.patient import IssuerRules
from records import Records
from tests.fhir_gateway.dicom import header, store
from tests.fhir_gateway.orders import ENDED, documented, placed, reported
from tests.fhir_gateway.test_identity import ehr_patient, merged, of_issuer, subject_is, until
from tests.fhir_gateway.test_identity import merges as merges
from tests.fhir_gateway.test_imaging import errors
from tests.fhir_gateway.test_orders import offered
from tests.fixtures.stores import everything_allowed

COMPLETED = {"vr": "CS", "Value": ["COMPLETED"]}


@pytest.fixture
def tag():
    return uuid.uuid4().hex[:10].upper()


async def test_a_report_of_a_modality_at_which_the_store_failed_is_told_later(
    orders, troubled, steps, worklist, records, pool, config, tag
):
    made = await placed(records, documented(tag))
    await orders.round()
    item = offered(worklist, made["ServiceRequest"])[0]
    rules = IssuerRules(config.default_issuer, config.issuer_of_ae)
    follower = PerformedFollower(steps, worklist, troubled, pool, rules, config.timezone)
    await follower.round()
    first, second = generate_uid(), generate_uid()

    troubled.broken = "Procedure"
    steps.create(first, reported(item, "IN PROGRESS"), "MR1")
    await follower.round()
    lost = await procedure_of(records, first)
    troubled.broken = ""
    steps.create(second, reported(item, "IN PROGRESS"), "MR1")
    again = PerformedFollower(steps, worklist, troubled, pool, rules, config.timezone)
    await again.round()

    assert lost == []
    assert len(await procedure_of(records, first)) == len(await procedure_of(records, second)) == 1


async def test_a_report_that_is_refused_again_and_again_is_given_up(
    orders, troubled, steps, worklist, records, pool, config, tag
):
    made = await placed(records, documented(tag))
    await orders.round()
    rules = IssuerRules(config.default_issuer, config.issuer_of_ae)
    follower = PerformedFollower(steps, worklist, troubled, pool, rules, config.timezone)
    await follower.round()
    item, uid = offered(worklist, made["ServiceRequest"])[0], generate_uid()
    troubled.broken = "Procedure"
    steps.create(uid, reported(item, "IN PROGRESS"), "MR1")

    for _ in range(TRIES):
        await follower.round()
    troubled.broken = ""
    await follower.round()

    assert await procedure_of(records, uid) == []


async def test_a_report_about_a_merged_patient_is_the_surviving_patients(
    performed, steps, records, tag, config
):
    number = {"system": config.default_issuer, "value": f"OLD{tag}"}
    old = await records.create(a_patient(identifier=[number]))
    new = await records.create(a_patient())
    link = {"other": {"reference": f"Patient/{new['id']}"}, "type": "replaced-by"}
    await records.update({**old, "active": False, "link": [link]})
    item = {
        "0020000D": {"vr": "UI", "Value": [generate_uid()]},
        "00080050": {"vr": "SH", "Value": [f"N{tag}"]},
        "00100020": {"vr": "LO", "Value": [f"OLD{tag}"]},
        "00400100": {"vr": "SQ", "Value": [{"00400009": {"vr": "SH", "Value": ["S1"]}}]},
    }
    uid = generate_uid()

    steps.create(uid, reported(item, "IN PROGRESS"), "MR1")
    await performed.round()

    (procedure,) = await procedure_of(records, uid)
    assert procedure["subject"] == {"reference": f"Patient/{new['id']}"}


def unscheduled(study, patient_id):
    """What a modality reports of an examination that nobody has ordered."""
    item = {
        "0020000D": {"vr": "UI", "Value": [study]},
        "00080050": {"vr": "SH", "Value": [""]},
        "00100020": {"vr": "LO", "Value": [patient_id]},
        "00400100": {"vr": "SQ", "Value": [{"00400009": {"vr": "SH", "Value": [""]}}]},
    }
    return reported(item, "IN PROGRESS")


async def test_a_report_of_a_patient_nobody_knows_is_told_when_the_images_come(
    performed, steps, records, archive, publishing, tag
):
    data, uid = header(PatientID=f"NEW{tag}"), generate_uid()
    steps.create(uid, unscheduled(data.StudyInstanceUID, f"NEW{tag}"), "MR1")
    await performed.round()
    early = await procedure_of(records, uid)

    store(archive, data)
    study = await publishing.study(data.StudyInstanceUID)
    await published(records, performed, uid)
    await performed.round()

    (procedure,) = await procedure_of(records, uid)
    assert early == []
    assert procedure["subject"]["reference"] == study["subject"]["reference"]
    assert procedure["meta"]["versionId"] == "1"


async def test_a_report_without_a_patient_id_is_the_studys_and_follows_it(
    performed, steps, records, archive, publishing, merges, tag
):
    twins = [await records.create(ehr_patient(tag)) for _ in range(2)]
    data, uid = of_issuer(tag), generate_uid()
    store(archive, data)
    study = await publishing.study(data.StudyInstanceUID)
    steps.create(uid, unscheduled(data.StudyInstanceUID, ""), "MR1")
    await published(records, performed, uid)
    first = await procedure_of(records, uid)
    await merges.round()

    await merged(records, twins[1], twins[0])
    await merges.round()
    await until(lambda: subject_is(records, "ImagingStudy", study["id"], twins[0]), "moved")

    async def followed():
        await performed.round()
        return await subject_is(records, "Procedure", first[0]["id"], twins[0])

    assert first[0]["subject"]["reference"] == study["subject"]["reference"]
    await until(followed, "the Procedure follows its study")


async def test_a_study_at_whose_report_the_store_failed_is_looked_at_again(
    troubled, steps, worklist, records, pool, config, archive, publishing, tag
):
    rules = IssuerRules(config.default_issuer, config.issuer_of_ae)
    data, uid = header(PatientID=f"NEW{tag}"), generate_uid()
    steps.create(uid, unscheduled(data.StudyInstanceUID, f"NEW{tag}"), "MR1")
    follower = PerformedFollower(steps, worklist, troubled, pool, rules, config.timezone)
    await follower.round()
    store(archive, data)
    await publishing.publisher.publish(data.StudyInstanceUID)

    troubled.broken = "Procedure"
    await follower.round()
    lost = await procedure_of(records, uid)
    troubled.broken = ""
    again = PerformedFollower(steps, worklist, troubled, pool, rules, config.timezone)
    await again.round()

    assert lost == []
    assert len(await procedure_of(records, uid)) == 1


async def test_numbers_that_two_issuers_gave_to_two_people_lead_to_no_order(
    orders, performed, steps, records, tag
):
    bundle = documented(tag)
    other = json.loads(json.dumps(bundle).replace("1.2.276.0.76.3.1.999", "1.2.276.0.76.3.1.998"))
    requests = [(await placed(records, one))["ServiceRequest"] for one in (bundle, other)]
    await orders.round()
    report = unscheduled(generate_uid(), f"EHR{tag}") | {"00400252": COMPLETED}
    report["00400270"]["Value"][0]["00080050"] = {"vr": "SH", "Value": [f"ACC{tag}"]}
    uid = generate_uid()

    steps.create(uid, report, "MR1")
    await performed.round()

    assert requests[0]["subject"] != requests[1]["subject"]
    assert await procedure_of(records, uid) == []
    for one in requests:
        assert (await records.read("ServiceRequest", one["id"]))["status"] == "active"


async def published(records, performed, uid):
    """Look until the step has its Procedure: the study is on the list a moment after FHIR."""

    async def told():
        await performed.round()
        return await procedure_of(records, uid)

    return await until(told, "a Procedure")


class Hurried(Records):
    """Somebody else is always a moment faster at the first attempt to change a Task."""

    hurried = False

    async def update(self, resource, *, if_match=True):
        if resource["resourceType"] == "Task" and not self.hurried:
            self.hurried = True
            current = await self.read("Task", resource["id"])
            await super().update({**current, "description": "somebody else was here"})
        return await super().update(resource, if_match=if_match)


async def test_a_task_that_somebody_changes_meanwhile_goes_on_and_keeps_the_change(
    orders, steps, worklist, records, pool, config, tag
):
    made = await placed(records, documented(tag))
    await orders.round()
    task = await records.create(
        {
            "resourceType": "Task",
            "status": "requested",
            "intent": "order",
            "focus": {"reference": f"ServiceRequest/{made['ServiceRequest']['id']}"},
        }
    )
    item = offered(worklist, made["ServiceRequest"])[0]
    rules = IssuerRules(config.default_issuer, config.issuer_of_ae)
    steps.create(generate_uid(), reported(item, "IN PROGRESS"), "MR1")

    async with Hurried(config.records_url, everything_allowed()) as hurried:
        await PerformedFollower(steps, worklist, hurried, pool, rules, config.timezone).round()

    after = await records.read("Task", task["id"])
    assert (after["status"], after["description"]) == ("in-progress", "somebody else was here")


def a_patient(**more):
    return {"resourceType": "Patient", "name": [{"family": "Merged"}], "gender": "other"} | more


async def procedure_of(records, uid):
    return await records.search("Procedure", {"identifier": f"urn:dicom:uid|urn:oid:{uid}"})


async def test_what_the_modality_reports_moves_procedure_order_task_and_worklist(
    orders, performed, steps, worklist, records, tag
):
    made = await placed(records, documented(tag))
    await orders.round()
    request = made["ServiceRequest"]
    reference = f"ServiceRequest/{request['id']}"
    item = offered(worklist, request)[0]
    task = await records.create(
        {
            "resourceType": "Task",
            "status": "requested",
            "intent": "order",
            "focus": {"reference": reference},
        }
    )
    uid = generate_uid()

    steps.create(uid, reported(item, "IN PROGRESS"), "MR1")
    await performed.round()
    begun = (await procedure_of(records, uid))[0]
    began = await records.read("Task", task["id"])
    steps.update(uid, reported(item, "COMPLETED", **ENDED))
    await performed.round()
    await performed.round()
    await orders.round()

    found = await procedure_of(records, uid)
    assert len(found) == 1
    assert (begun["status"], found[0]["status"]) == ("in-progress", "completed")
    assert found[0]["basedOn"] == [{"reference": reference}]
    assert found[0]["encounter"] == {"reference": f"Encounter/{made['Encounter']['id']}"}
    assert found[0]["performedPeriod"] == {
        "start": "2026-11-24T14:35:00+01:00",
        "end": "2026-11-24T14:50:00+01:00",
    }
    assert errors(await records.validate(found[0])) == []
    assert (await records.read("ServiceRequest", request["id"]))["status"] == "completed"
    assert (began["status"], (await records.read("Task", task["id"]))["status"]) == (
        "in-progress",
        "completed",
    )
    assert offered(worklist, request) == []


async def test_a_discontinued_step_leaves_the_order_to_be_booked_again(
    orders, performed, steps, worklist, records, tag
):
    made = await placed(records, documented(tag))
    await orders.round()
    request = made["ServiceRequest"]
    item = offered(worklist, request)[0]
    uid = generate_uid()

    steps.create(uid, reported(item, "IN PROGRESS"), "MR1")
    steps.update(uid, reported(item, "DISCONTINUED", **ENDED))
    await performed.round()
    await orders.follow(await records.read("ServiceRequest", request["id"]))

    assert (await procedure_of(records, uid))[0]["status"] == "stopped"
    assert (await records.read("ServiceRequest", request["id"]))["status"] == "active"
    assert offered(worklist, request) == []
