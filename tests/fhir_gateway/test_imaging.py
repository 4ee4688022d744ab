"""A study that goes quiet becomes one ImagingStudy, with the right patient, once."""

from __future__ import annotations

import asyncio
import time

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from fhir_gateway import names
from records import RecordsUnavailable
from tests.fhir_gateway.conftest import execute
from tests.fhir_gateway.dicom import code, header, store


def errors(issues):
    return [i["diagnostics"] for i in issues if i["severity"] in ("error", "fatal")]


def full_header(study, series):
    """A header that has something for each element of the mapping."""
    specimen, request = Dataset(), Dataset()
    specimen.SpecimenIdentifier = "SPEC-7"
    request.LocalNamespaceEntityID = "CLINIC"
    return header(
        study,
        series,
        AccessionNumber="ACC1",
        IssuerOfAccessionNumberSequence=[request],
        StudyID="ST1",
        TimezoneOffsetFromUTC="+0200",
        ReferringPhysicianName="Refer^Rita^^Dr.",
        NameOfPhysiciansReadingStudy="Read^Rolf",
        ProcedureCodeSequence=[code("24590-2", "LN", "MR Brain WO and W contrast IV")],
        InstitutionalDepartmentName="MR 1",
        ReasonForRequestedProcedureCodeSequence=[code("25064002", "SCT", "Headache")],
        StudyDescription="Brain MR",
        SeriesDescription="T1",
        SeriesDate="20260102",
        SeriesTime="030500",
        BodyPartExamined="BRAIN",
        Laterality="L",
        SpecimenDescriptionSequence=[specimen],
        PerformingPhysicianName="Perform^Petra",
        OperatorsName="Op^Otto",
        ImageType=["ORIGINAL", "PRIMARY"],
    )


async def test_every_element_of_the_mapping_is_filled_and_valid(archive, publishing, records):
    study, series = generate_uid(), generate_uid()
    data = full_header(study, series)
    store(archive, data)

    got = await publishing.study(study)

    one = got["series"][0]
    assert [i.get("value") for i in got["identifier"]] == [f"urn:oid:{study}", "ACC1", "ST1"]
    assert got["identifier"][1]["system"].endswith("/accession/CLINIC")
    assert got["started"] == "2026-01-02T03:04:05+02:00"
    assert got["basedOn"][0]["identifier"]["value"] == "ACC1"
    assert got["referrer"]["display"] == "Dr. Rita Refer"
    assert got["interpreter"][0]["display"] == "Rolf Read"
    assert got["procedureCode"][0]["coding"][0]["code"] == "24590-2"
    assert got["location"]["display"] == "MR 1"
    assert got["reasonCode"][0]["text"] == "Headache"
    assert got["description"] == "Brain MR"
    assert (got["numberOfSeries"], got["numberOfInstances"]) == (1, 1)
    assert got["modality"][0]["code"] == one["modality"]["code"] == "MR"
    assert (one["uid"], one["number"], one["description"]) == (series, 1, "T1")
    assert one["numberOfInstances"] == 1
    assert one["bodySite"]["code"] == "12738006"
    assert one["laterality"]["code"] == "7771000"
    assert one["specimen"][0]["identifier"]["value"] == "SPEC-7"
    assert one["started"] == "2026-01-02T03:05:00+02:00"
    assert [p["actor"]["display"] for p in one["performer"]] == ["Petra Perform", "Otto Op"]
    assert one["instance"][0]["uid"] == data.SOPInstanceUID
    assert one["instance"][0]["sopClass"]["code"] == f"urn:oid:{data.SOPClassUID}"
    assert (one["instance"][0]["number"], one["instance"][0]["title"]) == (1, "ORIGINAL\\PRIMARY")
    assert got["endpoint"] == one["endpoint"]
    kind, identity = got["endpoint"][0]["reference"].split("/")
    for resource in (
        got,
        await records.read("Patient", got["subject"]["reference"].split("/")[1]),
        await records.read(kind, identity),
    ):
        assert errors(await records.validate(resource)) == []


async def test_late_instances_update_the_same_resource(archive, publishing):
    first = header()
    store(archive, first)
    before = await publishing.study(first.StudyInstanceUID, instances=1)

    store(archive, header(first.StudyInstanceUID, PatientID=first.PatientID))
    after = await publishing.study(first.StudyInstanceUID, instances=2)

    assert after["id"] == before["id"]
    assert after["numberOfSeries"] == 2
    assert int(after["meta"]["versionId"]) == int(before["meta"]["versionId"]) + 1


async def test_a_study_that_is_published_again_unchanged_is_not_written(
    archive, publishing, records, config
):
    data = header()
    store(archive, data)
    before = await publishing.study(data.StudyInstanceUID)

    await publishing.publisher.publish(data.StudyInstanceUID)

    after = await publishing.study(data.StudyInstanceUID)
    assert after["meta"]["versionId"] == before["meta"]["versionId"]


async def test_two_first_studies_of_a_new_patient_make_one_patient(archive, publishing, records):
    patient = generate_uid()[-16:]
    studies = [header(PatientID=patient) for _ in range(6)]
    for data in studies:
        store(archive, data)

    got = [await publishing.study(data.StudyInstanceUID) for data in studies]

    assert len({one["subject"]["reference"] for one in got}) == 1
    assert len(await records.search("Patient", {"identifier": f"|{patient}"})) == 0
    system = publishing.publisher._config.default_issuer
    assert len(await records.search("Patient", {"identifier": f"{system}|{patient}"})) == 1


async def test_the_same_id_from_other_issuers_is_another_patient(archive, publishing, records):
    patient = generate_uid()[-16:]
    universal = Dataset()
    universal.UniversalEntityID, universal.UniversalEntityIDType = "1.2.3.9", "ISO"
    senders = [
        (header(PatientID=patient), "CLINIC_A"),
        (header(PatientID=patient), "CLINIC_B"),
        (header(PatientID=patient, IssuerOfPatientID="Clinic"), "CLINIC_B"),
        (
            header(
                PatientID=patient,
                IssuerOfPatientID="Clinic",
                IssuerOfPatientIDQualifiersSequence=[universal],
            ),
            "CLINIC_B",
        ),
    ]
    for data, ae in senders:
        store(archive, data, ae)

    got = [await publishing.study(data.StudyInstanceUID) for data, _ in senders]

    patients = [
        await records.read("Patient", one["subject"]["reference"].split("/")[1]) for one in got
    ]
    systems = [one["identifier"][0]["system"] for one in patients]
    assert systems == [
        publishing.publisher._config.default_issuer,
        "urn:oid:1.2.3.4.5",
        "https://hilum.dev/fhir/sid/issuer/Clinic",
        "urn:oid:1.2.3.9",
    ]
    assert len({one["id"] for one in patients}) == 4


async def test_studies_without_a_patient_id_are_never_merged(archive, publishing, records):
    studies = [header(PatientID=""), header(PatientID="")]
    for data in studies:
        store(archive, data)

    got = [await publishing.study(data.StudyInstanceUID) for data in studies]

    references = {one["subject"]["reference"] for one in got}
    assert len(references) == 2
    patient = await records.read("Patient", references.pop().split("/")[1])
    assert patient["meta"]["tag"][0]["code"] == "unidentified"
    assert errors(await records.validate(patient)) == []


async def test_demographics_of_the_record_survive_and_a_difference_is_flagged(
    archive, publishing, records
):
    value = generate_uid()[-16:]
    system = publishing.publisher._config.default_issuer
    race = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race"
    stored = await records.create(
        {
            "resourceType": "Patient",
            "extension": [{"url": race, "extension": [{"url": "text", "valueString": "Asian"}]}],
            "identifier": [{"system": system, "value": value}],
            "name": [{"family": "Roe", "given": ["Richard"]}],
            "gender": "male",
            "birthDate": "1950-05-05",
        }
    )
    data = header(PatientID=value)

    store(archive, data)
    study = await publishing.study(data.StudyInstanceUID)

    assert await records.read("Patient", stored["id"]) == stored
    assert study["subject"]["reference"] == f"Patient/{stored['id']}"
    assert study["meta"]["tag"][0]["code"] == "demographics-differ"


async def test_names_keep_their_characters_in_all_three_writings(archive, publishing, records):
    data = header(
        SpecificCharacterSet=["", "ISO 2022 IR 87"],
        PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう",
    )
    store(archive, data)

    study = await publishing.study(data.StudyInstanceUID)

    patient = await records.read("Patient", study["subject"]["reference"].split("/")[1])
    assert [(n["family"], n["given"]) for n in patient["name"]] == [
        ("Yamada", ["Tarou"]),
        ("山田", ["太郎"]),
        ("やまだ", ["たろう"]),
    ]
    kinds = [n["extension"][0] for n in patient["name"]]
    assert [k["valueCode"] for k in kinds] == ["ABC", "IDE", "SYL"]
    assert {k["url"] for k in kinds} == {names.REPRESENTATION}
    assert errors(await records.validate(patient)) == []


async def test_a_study_of_a_day_before_time_zones_is_published_with_its_date(archive, publishing):
    data = header(StudyDate="18900101")  # Berlin was 53 minutes and 28 seconds ahead

    store(archive, data)
    study = await publishing.study(data.StudyInstanceUID)

    assert study["started"] == "1890-01-01"


async def test_what_others_added_to_a_study_stays(archive, publishing, records):
    data = header()
    store(archive, data)
    study = await publishing.study(data.StudyInstanceUID)
    await records.update({**study, "note": [{"text": "seen"}]})

    store(archive, header(data.StudyInstanceUID, PatientID=data.PatientID))
    after = await publishing.study(data.StudyInstanceUID, instances=2)

    assert after["note"] == [{"text": "seen"}]


async def test_an_outage_of_hapi_loses_no_study(archive, publishing, hapi_relay, config):
    studies = [header() for _ in range(5)]
    hapi_relay.close()
    try:
        for data in studies:
            store(archive, data)
        await asyncio.sleep(3)
        waiting = execute(config.dsn, "select count(*) from gateway.pending_study")[0][0]
    finally:
        hapi_relay.open()

    assert waiting >= 5
    for data in studies:
        assert (await publishing.study(data.StudyInstanceUID))["numberOfInstances"] == 1


async def test_a_study_that_hapi_never_answers_waits_and_does_not_hold_up_the_next(
    archive, publishing, config, monkeypatch
):
    poison, good = header(), header()
    real = publishing.publisher._write

    async def unanswered(summary, mark, held):
        if summary.uid == poison.StudyInstanceUID:
            raise RecordsUnavailable("TimeoutError")
        return await real(summary, mark, held)

    monkeypatch.setattr(publishing.publisher, "_write", unanswered)
    query = "select attempts, reason from gateway.pending_study where study_uid = %s"
    rows = []
    store(archive, poison)
    async with asyncio.timeout(30):
        while not (rows and rows[0][0]):
            store(archive, good)
            await publishing.study(good.StudyInstanceUID)
            good = header()
            rows = execute(config.dsn, query, [poison.StudyInstanceUID])

    assert "no answer" in rows[0][1]


async def test_a_study_that_hapi_refuses_does_not_hold_up_the_next(
    archive, publishing, config, monkeypatch
):
    poison, good = header(), header()
    real = publishing.publisher._map

    def refused(summary, subject, tags):
        mapped = real(summary, subject, tags)
        if summary.uid == poison.StudyInstanceUID:
            mapped["status"] = "no-such-status"
        return mapped

    monkeypatch.setattr(publishing.publisher, "_map", refused)
    store(archive, poison)
    store(archive, good)

    await publishing.study(good.StudyInstanceUID)

    query = "select attempts, reason from gateway.pending_study where study_uid = %s"
    deadline = time.monotonic() + 10
    rows = []
    while time.monotonic() < deadline and not (rows and rows[0][0]):
        rows = execute(config.dsn, query, [poison.StudyInstanceUID])
        await asyncio.sleep(0.1)
    assert rows[0][0] >= 1
    assert "HTTP 4" in rows[0][1]
