"""Orders in the FHIR store reach the worklist, studies are linked, modalities report back."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from pydicom.dataset import Dataset

from fhir_gateway.orders.table import ImagingOrders
from tests.fhir_gateway.dicom import header, store
from tests.fhir_gateway.orders import (
    Orders,
    documented,
    entry,
    placed,
    step_of,
    value,
)
from tests.fhir_gateway.test_imaging import errors


@pytest.fixture
def tag():
    return uuid.uuid4().hex[:10].upper()


def offered(worklist, request):
    """The open steps of an order, as a modality would see them."""
    name = f"ServiceRequest/{request['id']}"
    return [
        one.item
        for one in worklist.list()
        if one.source == name and one.status in ("SCHEDULED", "ARRIVED", "STARTED")
    ]


async def test_the_documented_order_is_offered_with_every_attribute(orders, worklist, records, tag):
    made = await placed(records, documented(tag))

    await orders.round()

    item = offered(worklist, made["ServiceRequest"])[0]
    step = step_of(item)
    plain = {
        "00100020": f"EHR{tag}",
        "00100030": "19640812",
        "00100040": "F",
        "00080050": f"ACC{tag}",
        "00321060": "MR of the brain, without and with contrast",
        "00401001": f"PLA{tag}",
        "00401002": "Headache, first seizure",
        "00401003": "HIGH",
        "00402016": f"PLA{tag}",
        "00380010": f"V-4{tag}",
    }
    assert {name: value(item, name) for name in plain} == plain
    assert value(item, "00100010") == {"Alphabetic": "Example^Erika^M"}
    assert value(item, "00080090") == value(item, "00321032") == {"Alphabetic": "Refer^Rita^^Dr."}
    assert value(value(item, "00100024"), "00400032") == "1.2.276.0.76.3.1.999.1"
    assert value(value(item, "00080051"), "00400032") == "1.2.276.0.76.3.1.999.3"
    assert value(value(item, "00321064"), "00080100") == "24590-2"
    assert value(value(item, "0040100A"), "00080102") == "SCT"
    assert value(item, "0020000D").startswith("2.25.")
    assert value(step, "00400001") == "MR1"
    assert value(step, "00080060") == "MR"
    assert (value(step, "00400002"), value(step, "00400003")) == ("20261124", "143000")
    assert value(step, "00400011") == "MR room 1"
    assert len(value(step, "00400009")) == 16


async def test_a_backslash_in_a_name_makes_no_second_value(orders, worklist, records, tag):
    bundle = documented(tag)
    place = next(e for e in bundle["entry"] if e["resource"]["resourceType"] == "Location")
    place["request"].pop("ifNoneExist")  # a place of its own: the documented one may be there
    place["resource"]["identifier"][0]["value"] = f"A{tag}"
    place["resource"]["name"] = "MR\\room"
    entry(bundle, "ServiceRequest")["code"]["text"] = "MR\\brain"

    made = await placed(records, bundle)
    await orders.round()

    item = offered(worklist, made["ServiceRequest"])[0]
    assert value(step_of(item), "00400011") == "MR/room"
    assert value(item, "00321060") == "MR/brain"


async def test_sending_the_order_twice_offers_it_once(orders, worklist, records, tag):
    made = await placed(records, documented(tag))
    await orders.round()
    before = offered(worklist, made["ServiceRequest"])

    again = await placed(records, documented(tag))
    await orders.round()

    assert again["ServiceRequest"]["id"] == made["ServiceRequest"]["id"]
    assert offered(worklist, made["ServiceRequest"]) == before


@pytest.mark.parametrize("status", ["revoked", "on-hold", "completed", "entered-in-error"])
async def test_an_order_that_is_not_to_be_done_leaves_the_worklist(
    orders, worklist, records, tag, status
):
    made = await placed(records, documented(tag))
    await orders.round()
    request = made["ServiceRequest"]
    assert offered(worklist, request)

    changed = await records.update({**request, "status": status})
    await orders.round()
    gone = offered(worklist, request)
    await records.update({**changed, "status": "active"})
    await orders.round()

    assert gone == []
    assert len(offered(worklist, request)) == 1


async def test_a_cancelled_appointment_takes_its_step_off(orders, worklist, records, tag):
    made = await placed(records, documented(tag))
    await orders.round()

    await records.update({**made["Appointment"], "status": "cancelled"})
    await orders.round()

    assert offered(worklist, made["ServiceRequest"]) == []


async def test_a_moved_appointment_and_a_new_name_are_seen_by_the_modality(
    orders, worklist, records, tag
):
    made = await placed(records, documented(tag))
    await orders.round()
    first = step_of(offered(worklist, made["ServiceRequest"])[0])

    later = {"start": "2026-11-25T08:15:00+01:00", "end": "2026-11-25T08:45:00+01:00"}
    await records.update({**made["Appointment"], **later})
    await records.update({**made["Patient"], "name": [{"family": "Married", "given": ["Erika"]}]})
    await orders.round()

    item = offered(worklist, made["ServiceRequest"])[0]
    step = step_of(item)
    assert (value(step, "00400002"), value(step, "00400003")) == ("20261125", "081500")
    assert value(step, "00400009") == value(first, "00400009")
    assert value(item, "00100010") == {"Alphabetic": "Married^Erika"}


async def test_an_order_without_an_appointment_may_say_itself_when_and_where(
    orders, worklist, records, tag
):
    bundle = documented(tag)
    bundle["entry"] = bundle["entry"][:-1]
    place = next(e for e in bundle["entry"] if e["resource"]["resourceType"] == "Location")
    request = entry(bundle, "ServiceRequest")
    request["occurrenceDateTime"] = "2026-11-26T09:00:00+01:00"
    request["locationReference"] = [{"reference": place["fullUrl"]}]

    made = await placed(records, bundle)
    await orders.round()

    step = step_of(offered(worklist, made["ServiceRequest"])[0])
    assert (value(step, "00400002"), value(step, "00400001")) == ("20261126", "MR1")


async def test_an_order_that_lacks_a_station_is_kept_with_the_reason_until_it_has_one(
    orders, worklist, records, pool, tag
):
    bundle = documented(tag)
    entry(bundle, "Appointment")["participant"].pop()

    made = await placed(records, bundle)
    await orders.round()
    known = await ImagingOrders(pool).get(made["ServiceRequest"]["id"])
    participant = [
        *made["Appointment"]["participant"],
        {"actor": {"reference": f"Location/{made['Location']['id']}"}, "status": "accepted"},
    ]
    before = offered(worklist, made["ServiceRequest"])
    await records.update({**made["Appointment"], "participant": participant})
    await orders.round()

    assert before == []
    assert "AE title" in known.problem
    assert len(offered(worklist, made["ServiceRequest"])) == 1


async def test_an_order_of_something_else_is_none_of_ours(orders, worklist, records, tag):
    bundle = documented(tag)
    entry(bundle, "ServiceRequest")["category"][0]["coding"][0]["code"] = "108252007"

    made = await placed(records, bundle)
    await orders.round()

    assert offered(worklist, made["ServiceRequest"]) == []


def images_of(item, **changes):
    """What a modality makes of a worklist item that drops the issuers, as most do."""
    return header(
        value(item, "0020000D"),
        PatientID=value(item, "00100020"),
        PatientName="Example^Erika^M",
        PatientBirthDate="19640812",
        AccessionNumber=value(item, "00080050"),
        **changes,
    )


async def test_images_of_an_order_are_its_patients_and_point_to_order_and_encounter(
    orders, worklist, records, archive, publishing, tag
):
    made = await placed(records, documented(tag))
    await orders.round()
    data = images_of(offered(worklist, made["ServiceRequest"])[0])

    store(archive, data)
    study = await publishing.study(data.StudyInstanceUID)

    assert study["subject"]["reference"] == f"Patient/{made['Patient']['id']}"
    assert study["basedOn"][0]["reference"] == f"ServiceRequest/{made['ServiceRequest']['id']}"
    assert study["encounter"]["reference"] == f"Encounter/{made['Encounter']['id']}"
    assert errors(await records.validate(study)) == []


async def linked_study(publishing, uid, reference):
    async with asyncio.timeout(20):
        while True:
            study = await publishing.study(uid)
            if study["basedOn"][0].get("reference") == reference:
                return study
            await asyncio.sleep(0.1)


async def test_an_order_that_comes_late_is_linked_reports_included(
    orders, records, archive, publishing, tag
):
    patient, accession = Dataset(), Dataset()
    patient.UniversalEntityID, patient.UniversalEntityIDType = "1.2.276.0.76.3.1.999.1", "ISO"
    accession.UniversalEntityID, accession.UniversalEntityIDType = "1.2.276.0.76.3.1.999.3", "ISO"
    data = header(
        PatientID=f"EHR{tag}",
        PatientName="Example^Erika^M",
        IssuerOfPatientIDQualifiersSequence=[patient],
        AccessionNumber=f"ACC{tag}",
        IssuerOfAccessionNumberSequence=[accession],
    )
    store(archive, data)
    early = await publishing.study(data.StudyInstanceUID)
    report = await records.create(a_report(early))

    made = await placed(records, documented(tag))
    await orders.round()
    reference = f"ServiceRequest/{made['ServiceRequest']['id']}"
    late = await linked_study(publishing, data.StudyInstanceUID, reference)

    assert "reference" not in early["basedOn"][0]
    assert late["encounter"]["reference"] == f"Encounter/{made['Encounter']['id']}"
    after = await records.read("DiagnosticReport", report["id"])
    assert after["basedOn"][0]["reference"] == reference
    assert after["encounter"]["reference"] == late["encounter"]["reference"]

    await records.update(
        {**await records.read("ServiceRequest", reference[15:]), "status": "entered-in-error"}
    )
    await orders.round()
    unlinked = await linked_study(publishing, data.StudyInstanceUID, None)
    assert "encounter" not in unlinked
    async with asyncio.timeout(20):
        while "encounter" in (left := await records.read("DiagnosticReport", report["id"])):
            await asyncio.sleep(0.1)
    assert left["basedOn"] == unlinked["basedOn"]


async def test_an_order_that_somebody_else_gave_a_report_stays(
    orders, worklist, records, archive, publishing, tag
):
    made = await placed(records, documented(tag))
    await orders.round()
    other = {k: v for k, v in made["ServiceRequest"].items() if k not in ("id", "meta")}
    del other["identifier"]
    own = await records.create(other)
    data = images_of(offered(worklist, made["ServiceRequest"])[0])
    store(archive, data)
    study = await publishing.study(data.StudyInstanceUID)
    linked = [{"reference": f"ServiceRequest/{own['id']}", "type": "ServiceRequest"}]
    report = await records.create(a_report(study) | {"basedOn": linked})

    store(archive, images_of(offered(worklist, made["ServiceRequest"])[0]))
    await publishing.study(data.StudyInstanceUID, instances=2)
    async with asyncio.timeout(20):
        while "encounter" not in (after := await records.read("DiagnosticReport", report["id"])):
            await asyncio.sleep(0.1)

    assert after["basedOn"] == linked


def a_report(study):
    return {
        "resourceType": "DiagnosticReport",
        "status": "preliminary",
        "code": {"text": "MR"},
        "subject": study["subject"],
        "imagingStudy": [{"reference": f"ImagingStudy/{study['id']}"}],
    }


async def test_the_same_accession_number_of_another_issuer_or_patient_is_not_linked(
    orders, records, archive, publishing, tag
):
    await placed(records, documented(tag))
    await orders.round()
    other = Dataset()
    other.UniversalEntityID, other.UniversalEntityIDType = "1.2.3.4", "ISO"
    elsewhere = header(AccessionNumber=f"ACC{tag}", IssuerOfAccessionNumberSequence=[other])
    stranger = header(AccessionNumber=f"ACC{tag}")

    for data in (elsewhere, stranger):
        store(archive, data)

    first = await publishing.study(elsewhere.StudyInstanceUID)
    second = await publishing.study(stranger.StudyInstanceUID)
    assert "reference" not in first["basedOn"][0]
    assert "reference" not in second["basedOn"][0]
    assert [one["code"] for one in second["meta"]["tag"]] == ["order-differs"]
    assert "tag" not in first["meta"]


async def test_an_order_at_which_the_store_failed_once_is_looked_at_again(
    troubled, worklist, records, pool, config, tag
):
    follower = Orders(worklist, troubled, pool, config.timezone)
    await follower.round()
    made = await placed(records, documented(tag))

    troubled.broken = "Appointment"
    await follower._follow_alone(made["ServiceRequest"])
    known = await ImagingOrders(pool).get(made["ServiceRequest"]["id"])
    before = offered(worklist, made["ServiceRequest"])
    troubled.broken = ""
    await Orders(worklist, troubled, pool, config.timezone)._check_open()

    assert (known.problem, before) == ("could not be followed: StoreFailed", [])
    assert len(offered(worklist, made["ServiceRequest"])) == 1
