"""An order that comes while its study is published, or while the store fails, is linked."""

from __future__ import annotations

import asyncio

import pytest
from pydicom.uid import generate_uid

from fhir_gateway.imaging import Publisher
from records import Records, StoreFailed
from tests.fhir_gateway.dicom import header, store
from tests.fhir_gateway.orders import Orders, documented, placed
from tests.fhir_gateway.test_identity import until
from tests.fhir_gateway.test_orders import a_report, linked_study
from tests.fhir_gateway.test_orders import tag as tag
from tests.fhir_gateway.test_performed import procedure_of, published, unscheduled
from tests.fixtures.stores import everything_allowed


def of_the_site(tag, config):
    """The documented order and a study of it, both by the numbers of the site."""
    bundle, data = documented(tag), header(PatientID=f"EHR{tag}", AccessionNumber=f"ACC{tag}")
    patient = next(e for e in bundle["entry"] if e["resource"]["resourceType"] == "Patient")
    patient["resource"]["identifier"][0]["system"] = config.default_issuer
    patient["request"]["ifNoneExist"] = f"identifier={config.default_issuer}|EHR{tag}"
    return bundle, data


async def test_an_order_at_whose_studies_the_store_failed_is_linked_later(
    troubled, worklist, records, pool, config, archive, publishing, tag
):
    bundle, data = of_the_site(tag, config)
    follower = Orders(worklist, troubled, pool, config.timezone)
    await follower.round()
    made = await placed(records, bundle)
    store(archive, data)
    early = await publishing.study(data.StudyInstanceUID)

    troubled.broken = "ImagingStudy"
    await follower._follow_alone(made["ServiceRequest"])
    troubled.broken = ""
    await follower._check_open()

    reference = f"ServiceRequest/{made['ServiceRequest']['id']}"
    assert "reference" not in early["basedOn"][0]
    assert await linked_study(publishing, data.StudyInstanceUID, reference)


async def test_a_procedure_gets_an_order_that_comes_after_the_images(
    orders, performed, steps, records, archive, publishing, tag, config
):
    bundle, data = of_the_site(tag, config)
    report, uid = unscheduled(data.StudyInstanceUID, f"EHR{tag}"), generate_uid()
    report["00400270"]["Value"][0]["00080050"] = {"vr": "SH", "Value": [f"ACC{tag}"]}
    steps.create(uid, report, "MR1")
    store(archive, data)
    await publishing.study(data.StudyInstanceUID)
    early = await published(records, performed, uid)

    made = await placed(records, bundle)
    await orders.round()
    reference = f"ServiceRequest/{made['ServiceRequest']['id']}"

    async def linked():
        await performed.round()
        (procedure,) = await procedure_of(records, uid)
        return procedure.get("basedOn") == [{"reference": reference}]

    assert "basedOn" not in early[0]
    await until(linked, "the Procedure has the order")


def a_document(report):
    return {
        "resourceType": "DocumentReference",
        "status": "current",
        "subject": report["subject"],
        "content": [{"attachment": {"contentType": "text/plain", "data": "eA=="}}],
        "context": {"related": [{"reference": f"DiagnosticReport/{report['id']}"}]},
    }


async def an_encounter(records, study):
    made = await records.create(
        {
            "resourceType": "Encounter",
            "status": "finished",
            "class": {
                "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
                "code": "AMB",
            },
            "subject": {"reference": study["subject"]["reference"]},
        }
    )
    return f"Encounter/{made['id']}"


async def test_files_of_a_report_get_the_encounter_of_a_late_order_and_lose_it_with_the_order(
    orders, records, archive, publishing, tag, config
):
    bundle, data = of_the_site(tag, config)
    store(archive, data)
    report = await records.create(a_report(await publishing.study(data.StudyInstanceUID)))
    own, foreign = a_document(report), a_document(report)
    foreign["context"]["encounter"] = [{"reference": await an_encounter(records, report)}]
    own, foreign = await records.create(own), await records.create(foreign)

    made = await placed(records, bundle)
    await orders.round()
    reference = f"ServiceRequest/{made['ServiceRequest']['id']}"
    late = await linked_study(publishing, data.StudyInstanceUID, reference)
    filed = await records.read("DocumentReference", own["id"])

    await records.update({**made["ServiceRequest"], "status": "entered-in-error"})
    await orders.round()
    await linked_study(publishing, data.StudyInstanceUID, None)

    assert filed["context"] == {**own["context"], "encounter": [late["encounter"]]}
    assert (await records.read("DocumentReference", own["id"]))["context"] == own["context"]
    assert await records.read("DocumentReference", foreign["id"]) == foreign


async def test_an_order_that_is_gone_while_the_store_fails_is_unlinked_later(
    troubled, worklist, records, pool, config, archive, publishing, tag
):
    bundle, data = of_the_site(tag, config)
    follower = Orders(worklist, troubled, pool, config.timezone)
    await follower.round()
    made = await placed(records, bundle)
    await follower.follow(made["ServiceRequest"])
    store(archive, data)
    reference = f"ServiceRequest/{made['ServiceRequest']['id']}"
    await linked_study(publishing, data.StudyInstanceUID, reference)

    wrong = await records.update({**made["ServiceRequest"], "status": "entered-in-error"})
    troubled.broken = "ImagingStudy"
    with pytest.raises(StoreFailed):
        await follower.follow(wrong)
    troubled.broken = ""
    await follower.follow(wrong)

    assert await linked_study(publishing, data.StudyInstanceUID, None)


class Interrupted(Records):
    """Something happens, or tries to, just before a transaction is sent."""

    meanwhile = None

    async def transaction(self, entries, *, idempotent=False):
        if self.meanwhile is not None:
            await asyncio.wait([self.meanwhile()], timeout=2)
            self.meanwhile = None
        return await super().transaction(entries, idempotent=idempotent)


async def test_an_order_that_comes_while_its_study_is_published_is_linked(
    worklist, records, pool, config, archive, tag
):
    bundle, data = of_the_site(tag, config)
    follower = Orders(worklist, records, pool, config.timezone)
    made = await placed(records, bundle)
    store(archive, data)
    following = []

    def order_comes():
        following.append(asyncio.create_task(follower.follow(made["ServiceRequest"])))
        return following[0]

    async with Interrupted(config.records_url, everything_allowed()) as interrupted:
        interrupted.meanwhile = order_comes
        publisher = Publisher(config, archive, interrupted, pool)
        await publisher._take_changes()
        await publisher.publish(data.StudyInstanceUID)
        await asyncio.gather(*following)
        waiting = await publisher._pending.mark(data.StudyInstanceUID)
        await publisher.publish(data.StudyInstanceUID)

    token = f"urn:dicom:uid|urn:oid:{data.StudyInstanceUID}"
    study = await records.first("ImagingStudy", {"identifier": token})
    assert waiting.again == 1
    assert study["basedOn"][0]["reference"] == f"ServiceRequest/{made['ServiceRequest']['id']}"
