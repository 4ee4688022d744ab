"""Whom a study is about: who issued the number, what contradicts, and what a merge changes."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from access.internal_rights import MERGER
from archive.worklist import Worklist
from fhir_gateway.imaging import Publisher
from fhir_gateway.schema import make_pool
from records import Records, StoreFailed, identifiers
from tests.fhir_gateway.conftest import execute
from tests.fhir_gateway.dicom import header, store
from tests.fhir_gateway.orders import Merges, Orders, documented, placed, value
from tests.fhir_gateway.test_imaging import errors
from tests.fhir_gateway.test_orders import a_report, offered

ISSUER = "urn:oid:1.2.840.99999.7"
US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition"


@pytest.fixture
def tag():
    return uuid.uuid4().hex[:10].upper()


@pytest.fixture
async def merges(pool, config):
    """Follows merges when a test says so, with the product's rights: `round` is one look."""
    async with Records(config.records_url, config.grants.credentials(MERGER)) as allowed:
        yield Merges(allowed, pool)


def of_issuer(number, **changes):
    """A study whose images say who issued the PatientID."""
    issuer = Dataset()
    issuer.UniversalEntityID, issuer.UniversalEntityIDType = ISSUER.removeprefix("urn:oid:"), "ISO"
    return header(PatientID=number, IssuerOfPatientIDQualifiersSequence=[issuer], **changes)


def ehr_patient(number, **more):
    """A Patient as an EHR loads it, with what no image knows."""
    race = {
        "url": f"{US_CORE}/us-core-race",
        "extension": [
            {
                "url": "ombCategory",
                "valueCoding": {"system": "urn:oid:2.16.840.1.113883.6.238", "code": "2106-3"},
            },
            {"url": "text", "valueString": "White"},
        ],
    }
    return {
        "resourceType": "Patient",
        "extension": [race],
        "identifier": [{"system": ISSUER, "value": number}],
        "name": [{"family": "Doe", "given": ["Jane"]}, {"use": "old", "family": "Roe"}],
        "gender": "female",
        "birthDate": "1970-01-31",
        "address": [{"line": ["1 Main St"], "city": "Springfield", "postalCode": "12345"}],
    } | more


async def until(find, what):
    async with asyncio.timeout(30):
        while True:
            if found := await find():
                return found
            await asyncio.sleep(0.1)
    raise AssertionError(what)


async def test_what_the_ehr_knows_of_a_patient_survives_the_arrival_of_images(
    archive, publishing, records, tag
):
    loaded = await records.create(ehr_patient(tag))
    data = of_issuer(tag)

    store(archive, data)
    study = await publishing.study(data.StudyInstanceUID)

    assert study["subject"]["reference"] == f"Patient/{loaded['id']}"
    assert await records.read("Patient", loaded["id"]) == loaded


async def review_of(records, study):
    uid = identifiers.oid(identifiers.study_uid_of(study))
    found = await records.search("Task", {"identifier": f"{identifiers.SID}/identity-review|{uid}"})
    assert len(found) < 2
    return found[0] if found else None


async def test_demographics_that_contradict_are_a_task_for_a_person_and_change_nothing(
    archive, publishing, records, tag
):
    loaded = await records.create(ehr_patient(tag))
    data = of_issuer(tag, PatientName="Smith^John", PatientSex="M", PatientBirthDate="19500101")

    store(archive, data)
    study = await publishing.study(data.StudyInstanceUID)
    review = await until(lambda: review_of(records, study), "a review")

    assert study["numberOfInstances"] == 1
    assert await records.read("Patient", loaded["id"]) == loaded
    assert [one["code"] for one in study["meta"]["tag"]] == ["demographics-differ"]
    assert review["status"] == "requested"
    assert review["focus"]["reference"] == f"ImagingStudy/{study['id']}"
    assert review["reasonCode"]["coding"][0]["code"] == "demographics-differ"
    assert errors(await records.validate(review)) == []


async def test_a_review_ends_by_itself_when_the_record_is_mended_and_comes_back(
    archive, publishing, records, tag
):
    loaded = await records.create(ehr_patient(tag, birthDate="1971-01-31"))
    data = of_issuer(tag)
    store(archive, data)
    study = await publishing.study(data.StudyInstanceUID)
    review = await until(lambda: review_of(records, study), "a review")

    await records.update({**loaded, "birthDate": "1970-01-31"})
    await publishing.publisher.publish(data.StudyInstanceUID)

    after = await records.read("Task", review["id"])
    mended = await publishing.study(data.StudyInstanceUID)
    assert after["status"] == "completed"
    assert "tag" not in mended["meta"]

    spoiled = await records.read("Patient", loaded["id"])
    await records.update({**spoiled, "birthDate": "1971-01-31"})
    await publishing.publisher.publish(data.StudyInstanceUID)

    again = await records.read("Task", review["id"])
    assert again["status"] == "requested"
    assert "statusReason" not in again


async def test_a_review_that_a_person_has_ended_stays_ended(archive, publishing, records, tag):
    await records.create(ehr_patient(tag, birthDate="1971-01-31"))
    data = of_issuer(tag)
    store(archive, data)
    study = await publishing.study(data.StudyInstanceUID)
    review = await until(lambda: review_of(records, study), "a review")
    ended = await records.update({**review, "status": "rejected"})

    store(archive, of_issuer(tag, StudyInstanceUID=data.StudyInstanceUID))
    await publishing.study(data.StudyInstanceUID, instances=2)
    await publishing.publisher.publish(data.StudyInstanceUID)

    assert await records.read("Task", review["id"]) == ended


async def test_without_an_issuer_two_studies_of_one_number_are_two_unidentified_patients(
    archive, config, records, pool
):
    strict = Publisher(replace(config, default_issuer=""), archive, records, pool)
    number = generate_uid()[-12:]
    studies = [header(PatientID=number) for _ in range(2)]

    for data in studies:
        store(archive, data)
        await strict.publish(data.StudyInstanceUID)

    patients = []
    for data in studies:
        token = f"urn:dicom:uid|urn:oid:{data.StudyInstanceUID}"
        study = await records.first("ImagingStudy", {"identifier": token})
        patients.append(await records.read(*study["subject"]["reference"].split("/")))
    assert len({one["id"] for one in patients}) == 2
    for one in patients:
        assert [tag["code"] for tag in one["meta"]["tag"]] == ["unidentified"]
        assert one["identifier"][0]["system"] == identifiers.UNIDENTIFIED_PATIENT
        assert one["identifier"][1]["value"] == number
        assert errors(await records.validate(one)) == []


async def test_two_gateways_on_one_new_patient_double_nothing(archive, config, records, tag):
    studies = [of_issuer(tag) for _ in range(4)]
    for data in studies:
        store(archive, data)
    pools = [make_pool(config.dsn) for _ in range(2)]
    for one in pools:
        await one.open(wait=True)
    gateways = [Publisher(config, archive, records, one) for one in pools]

    await asyncio.gather(
        *(one.publish(data.StudyInstanceUID) for one in gateways for data in studies)
    )

    for one in pools:
        await one.close()
    patients = await records.search("Patient", {"identifier": f"{ISSUER}|{tag}"})
    found = [
        await records.search(
            "ImagingStudy", {"identifier": f"urn:dicom:uid|urn:oid:{data.StudyInstanceUID}"}
        )
        for data in studies
    ]
    assert len(patients) == 1
    assert [len(one) for one in found] == [1] * len(studies)
    versions = [one[0]["meta"]["versionId"] for one in found]
    assert versions == ["1"] * len(studies)


async def merged(records, old, survivor):
    """As an EHR writes a merge."""
    link = {"other": {"reference": f"Patient/{survivor['id']}"}, "type": "replaced-by"}
    return await records.update({**old, "active": False, "link": [link]})


async def subject_is(records, kind, name, patient):
    found = await records.read(kind, name)
    return found["subject"]["reference"] == f"Patient/{patient['id']}"


def finding(study):
    return {
        "resourceType": "Observation",
        "status": "preliminary",
        "code": {"text": "Size"},
        "subject": study["subject"],
        "valueString": "large",
    }


async def test_studies_and_results_of_a_merged_patient_follow_and_come_back(
    archive, publishing, records, merges, config, tag
):
    old, new = [await records.create(ehr_patient(f"{tag}{n}")) for n in (1, 2)]
    data = of_issuer(f"{tag}1")
    store(archive, data)
    study = await publishing.study(data.StudyInstanceUID)
    observation = await records.create(finding(study))
    result = {"result": [{"reference": f"Observation/{observation['id']}"}]}
    report = await records.create(a_report(study) | result)
    before = execute(config.dsn, "select last_value from gateway.access_generation")

    gone = await merged(records, old, new)
    await merges.round()

    for kind, one in (("ImagingStudy", study), ("DiagnosticReport", report)):
        name, where = one["id"], kind
        await until(lambda n=name, k=where: subject_is(records, k, n, new), f"{kind} moved")
    assert await subject_is(records, "Observation", observation["id"], new)
    assert execute(config.dsn, "select last_value from gateway.access_generation") > before

    late = of_issuer(f"{tag}1")
    store(archive, late)
    next_study = await publishing.study(late.StudyInstanceUID)
    assert next_study["subject"]["reference"] == f"Patient/{new['id']}"

    separated = {k: v for k, v in gone.items() if k != "link"} | {"active": True}
    await records.update(separated)
    await merges.round()
    await until(lambda: subject_is(records, "ImagingStudy", study["id"], old), "back again")
    assert await subject_is(records, "Observation", observation["id"], old)


async def test_a_separation_at_which_the_store_failed_is_followed_later(
    archive, publishing, records, troubled, pool, tag
):
    old, new = [await records.create(ehr_patient(f"{tag}{n}")) for n in (1, 2)]
    data, follower = of_issuer(f"{tag}1"), Merges(troubled, pool)
    store(archive, data)
    study = await publishing.study(data.StudyInstanceUID)
    gone = await merged(records, old, new)
    await follower.follow(gone)
    await until(lambda: subject_is(records, "ImagingStudy", study["id"], new), "moved")

    separated = await records.update(
        {k: v for k, v in gone.items() if k != "link"} | {"active": True}
    )
    troubled.broken = "ImagingStudy"
    with pytest.raises(StoreFailed):
        await follower.follow(separated)
    troubled.broken = ""
    await follower.follow(separated)

    await until(lambda: subject_is(records, "ImagingStudy", study["id"], old), "back again")


async def test_the_worklist_shows_the_surviving_patient(records, archive, pool, config, tag):
    worklist = Worklist(config.dsn)
    orders = Orders(worklist, records, pool, config.timezone)
    made = await placed(records, documented(tag))
    await orders.round()

    survivor = await records.create(ehr_patient(f"{tag}9"))
    await merged(records, made["Patient"], survivor)
    await orders.round()

    item = offered(worklist, made["ServiceRequest"])[0]
    assert value(item, "00100020") == f"{tag}9"
    assert value(item, "00100010") == {"Alphabetic": "Doe^Jane"}


async def test_a_circle_of_merges_ends_and_a_plan_to_merge_is_none(
    archive, publishing, records, tag
):
    first, second = [await records.create(ehr_patient(f"{tag}{n}")) for n in (1, 2)]
    await merged(records, first, second)
    await merged(records, second, first)
    planned = await records.create(ehr_patient(f"{tag}3"))
    link = {"other": {"reference": f"Patient/{first['id']}"}, "type": "replaced-by"}
    await records.update({**planned, "active": True, "link": [link]})

    circle, plan = of_issuer(f"{tag}1"), of_issuer(f"{tag}3")
    store(archive, circle)
    store(archive, plan)

    found = await publishing.study(circle.StudyInstanceUID)
    other = await publishing.study(plan.StudyInstanceUID)
    assert found["subject"]["reference"] in {
        f"Patient/{first['id']}",
        f"Patient/{second['id']}",
    }
    assert other["subject"]["reference"] == f"Patient/{planned['id']}"
