"""Several Patients have the number of a study: none is taken at random, and it can be mended."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from archive.worklist import Worklist
from records import identifiers
from tests.fhir_gateway.dicom import header, store
from tests.fhir_gateway.orders import Orders, documented, placed, value
from tests.fhir_gateway.test_identity import (
    ISSUER,
    ehr_patient,
    merged,
    of_issuer,
    review_of,
    subject_is,
    until,
)
from tests.fhir_gateway.test_identity import merges as merges
from tests.fhir_gateway.test_identity import tag as tag
from tests.fhir_gateway.test_imaging import errors
from tests.fhir_gateway.test_orders import a_report, offered


async def doubled(records, publishing, archive, tag):
    """Two active Patients of one number, and a study with it."""
    twins = [await records.create(ehr_patient(tag)) for _ in range(2)]
    data = of_issuer(tag)
    store(archive, data)
    return *twins, await publishing.study(data.StudyInstanceUID)


async def test_of_two_patients_with_one_number_neither_gets_the_study_and_a_person_is_asked(
    archive, publishing, records, tag
):
    first, second, study = await doubled(records, publishing, archive, tag)
    review = await until(lambda: review_of(records, study), "a review")

    own = await records.read(*study["subject"]["reference"].split("/"))
    assert own["id"] not in (first["id"], second["id"])
    assert [one["system"] for one in own["identifier"]] == [
        identifiers.UNIDENTIFIED_PATIENT,
        identifiers.UNISSUED_NUMBER,
    ]
    assert study["subject"]["identifier"] == {"system": ISSUER, "value": tag}
    assert [one["code"] for one in study["meta"]["tag"]] == ["patients-doubled"]
    assert review["status"] == "requested"
    assert review["reasonCode"]["coding"][0]["code"] == "patients-doubled"
    assert errors(await records.validate(study)) == []
    for one in (first, second):
        assert await records.read("Patient", one["id"]) == one


@pytest.mark.parametrize("how", ["merged", "inactive"])
async def test_a_study_of_two_patients_is_the_remaining_ones_with_its_results(
    archive, publishing, records, merges, tag, how
):
    first, second, study = await doubled(records, publishing, archive, tag)
    review = await until(lambda: review_of(records, study), "a review")
    report = await records.create(a_report(study))
    await merges.round()

    if how == "merged":
        await merged(records, second, first)
    else:
        await records.update({**second, "active": False})
    await merges.round()

    for kind, name in (("ImagingStudy", study["id"]), ("DiagnosticReport", report["id"])):
        await until(
            lambda k=kind, n=name: subject_is(records, k, n, first), f"{kind} at the right patient"
        )

    async def settled():
        moved = await records.read("ImagingStudy", study["id"])
        task = await records.read("Task", review["id"])
        return "tag" not in moved["meta"] and task["status"] == "completed"

    await until(settled, "no doubt any more")


async def test_a_person_settles_it_by_merging_the_patient_that_the_study_got(
    archive, publishing, records, merges, tag
):
    _, second, study = await doubled(records, publishing, archive, tag)
    await until(lambda: review_of(records, study), "a review")
    await merges.round()

    own = await records.read(*study["subject"]["reference"].split("/"))
    await merged(records, own, second)
    await merges.round()
    await until(lambda: subject_is(records, "ImagingStudy", study["id"], second), "settled")
    await publishing.publisher.publish(identifiers.study_uid_of(study))

    kept = await records.read("ImagingStudy", study["id"])
    assert kept["subject"]["reference"] == f"Patient/{second['id']}"
    assert "tag" not in kept["meta"]


async def test_a_study_stays_where_it_is_when_a_second_patient_gets_the_number(
    archive, publishing, records, tag
):
    first = await records.create(ehr_patient(tag))
    data = of_issuer(tag)
    store(archive, data)
    study = await publishing.study(data.StudyInstanceUID)

    await records.create(ehr_patient(tag))
    store(archive, of_issuer(tag, StudyInstanceUID=data.StudyInstanceUID))
    after = await publishing.study(data.StudyInstanceUID, instances=2)

    assert "tag" not in study["meta"]
    assert after["subject"]["reference"] == f"Patient/{first['id']}"
    assert [one["code"] for one in after["meta"]["tag"]] == ["patients-doubled"]


async def test_an_order_says_which_of_two_patients_is_meant(
    archive, publishing, records, pool, config, tag
):
    bundle = documented(tag)
    made = await placed(records, bundle)
    twin = {k: v for k, v in made["Patient"].items() if k not in ("id", "meta")}
    await records.create(twin)
    orders = Orders(Worklist(config.dsn), records, pool, config.timezone)
    await orders.round()
    item = offered(Worklist(config.dsn), made["ServiceRequest"])[0]
    data = header(
        value(item, "0020000D"),
        PatientID=value(item, "00100020"),
        IssuerOfPatientIDQualifiersSequence=[Dataset.from_json(value(item, "00100024"))],
        PatientName="Example^Erika^M",
        PatientBirthDate="19640812",
    )

    store(archive, data)
    study = await publishing.study(data.StudyInstanceUID)

    assert study["subject"]["reference"] == f"Patient/{made['Patient']['id']}"
    assert study["basedOn"][0]["reference"] == f"ServiceRequest/{made['ServiceRequest']['id']}"
    assert "tag" not in study["meta"]
