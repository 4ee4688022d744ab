"""Runs over a real archive, DICOMweb server, FHIR store and queue."""

import asyncio
import gc
from uuid import uuid4

import pytest
from pydicom import dcmread

from hilum.example.series import write_study
from inference import jobs
from inference.config import InferenceConfig
from inference.errors import SourceError
from inference.pipeline import find
from inference.source import Source
from inference.task import claim, run_of
from records.client import Records
from tests.fixtures.stores import everything_allowed
from tests.inference.stack import imaging_study

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def engine(config):
    return jobs.Engine(config)


@pytest.fixture
async def records(config):
    async with Records(config.records_url, everything_allowed()) as opened:
        yield opened


@pytest.fixture
def deferred():
    return []


@pytest.fixture
def deps(config, records, engine, deferred):
    async def defer_run(task_id):
        deferred.append(task_id)

    return jobs.Deps(config, records, engine, defer_run)


@pytest.fixture
def new_study(pixels, records, tmp_path):
    """Write, change, store and publish a case; returns Study Instance UID and ImagingStudy."""

    async def make(case="synth-ring", change=lambda _: None, keep=lambda _: True):
        study_uid = f"2.25.{uuid4().int}"
        paths = [p for p in write_study(case, tmp_path / case, study_uid=study_uid) if keep(p)]
        for path in paths:
            instance = dcmread(path)
            if change(instance) is not None:
                instance.save_as(path)
        pixels.store(paths)
        return study_uid, await publish(pixels, records, study_uid)

    return make


async def publish(pixels, records, study_uid):
    patient = await records.create(
        {
            "resourceType": "Patient",
            "identifier": [{"system": "https://hilum.dev/test/inference", "value": "1"}],
            "name": [{"family": "Synthetic", "given": ["Ring"]}],
            "gender": "other",
        },
        if_none_exist="identifier=https://hilum.dev/test/inference%7C1",
    )
    resource = imaging_study(pixels.archive, study_uid, f"Patient/{patient['id']}")
    query = {"identifier": f"urn:dicom:uid|urn:oid:{study_uid}"}
    known = await records.first("ImagingStudy", query)
    if known is None:
        return await records.create(resource)
    return await records.update(known | resource)


async def count(records, study, resource_type):
    by = {"DiagnosticReport": "imaging-study", "Task": "focus"}[resource_type]
    if resource_type == "Task":
        return len(await records.search("Task", {by: f"ImagingStudy/{study['id']}"}))
    found = await records.search("DiagnosticReport", {"subject": study["subject"]["reference"]})
    mine = {"reference": f"ImagingStudy/{study['id']}"}
    return sum(mine in report["imagingStudy"] for report in found)


async def test_a_study_ends_with_one_of_each_result_however_often_it_is_asked_for(
    deps, pixels, records, new_study, deferred
):
    study_uid, study = await new_study()

    asked = await jobs.consider(deps, study["id"])
    ended = await jobs.run(deps, asked["id"])
    again = await jobs.run(deps, asked["id"])
    study = await publish(pixels, records, study_uid)  # our own SEG and SR have joined it
    considered = await jobs.consider(deps, study["id"])

    assert ended["status"] == "completed"
    assert again == ended
    assert considered["id"] == asked["id"]
    assert deferred == [asked["id"]]
    assert len(pixels.stored(study_uid, "SEG")) == len(pixels.stored(study_uid, "SR")) == 1
    assert await count(records, study, "DiagnosticReport") == 1
    assert await count(records, study, "Task") == 1


async def test_the_validator_finds_no_error_in_anything_a_run_wrote(deps, records, new_study):
    _, study = await new_study()
    asked = await jobs.consider(deps, study["id"])

    task = await jobs.run(deps, asked["id"])

    written = [task]
    outputs = [o["valueReference"].get("reference") for o in task["output"]]
    for reference in filter(None, outputs):
        written.append(await records.read(*reference.split("/")))
    report = written[1]
    for entry in report["media"]:
        written.append(await records.read(*entry["link"]["reference"].split("/")))
    for reference in (written[2]["device"], report["performer"][0]):
        written.append(await records.read(*reference["reference"].split("/")))
    target = f"DiagnosticReport/{report['id']}"
    written += await records.search("Provenance", {"target": target})
    assert len(written) > 1 + 1 + 5 + 3 + 2 + 1
    for resource in written:
        issues = await records.validate(resource)
        bad = [i for i in issues if i["severity"] in ("error", "fatal")]
        assert not bad, (resource["resourceType"], bad)


async def test_a_run_cut_off_after_storing_is_finished_without_a_second_segmentation(
    deps, config, pixels, records, new_study, engine
):
    study_uid, study = await new_study()
    asked = await jobs.consider(deps, study["id"])
    series = [s["uid"] for s in study["series"]]
    source = Source(config.dicomweb_url, config.token())
    first = find(run_of(asked, study), series, source, engine.segmenter)
    source.store(study_uid, first.unstored)

    ended = await jobs.run(deps, asked["id"])

    assert ended["status"] == "completed"
    assert pixels.stored(study_uid, "SEG") == [first.seg_uid]
    assert pixels.stored(study_uid, "SR") == [first.sr_uid]
    assert await count(records, study, "DiagnosticReport") == 1


async def test_an_empty_result_is_a_result(deps, pixels, records, new_study):
    study_uid, study = await new_study("synth-no-tumour")
    asked = await jobs.consider(deps, study["id"])

    ended = await jobs.run(deps, asked["id"])

    report = await records.read(*ended["output"][0]["valueReference"]["reference"].split("/"))
    assert ended["status"] == "completed"
    assert report["conclusion"].startswith("No lesion found")
    assert len(pixels.stored(study_uid, "SEG")) == 1


async def test_a_study_without_a_readable_series_is_rejected_and_that_is_recorded(
    deps, new_study, deferred
):
    def as_ct(instance):
        instance.Modality = "CT"
        return instance

    def unreadable(instance):
        instance.SeriesDescription = instance.ProtocolName = "DWI b1000"
        instance.SequenceName = "*ep2d"
        return instance

    _, ct = await new_study(change=as_ct, keep=lambda p: p.name == "0001.dcm")
    _, diffusion = await new_study(change=unreadable, keep=lambda p: "02-t1" in str(p))

    first = await jobs.consider(deps, ct["id"])
    asked = await jobs.consider(deps, diffusion["id"])
    second = await jobs.run(deps, asked["id"])

    assert [first["status"], second["status"]] == ["rejected", "rejected"]
    assert "no model applies" in second["statusReason"]["text"]
    assert deferred == [asked["id"]]


async def test_a_study_with_a_missing_slice_fails_at_once_with_the_reason(deps, new_study):
    _, study = await new_study(keep=lambda p: "05-t1c" in str(p) and p.name != "0040.dcm")
    asked = await jobs.consider(deps, study["id"])

    ended = await jobs.run(deps, asked["id"])

    assert ended["status"] == "failed"
    assert ended["statusReason"]["text"].startswith("SliceGap: 3.000 mm between slices 39 and 40")


async def test_pixels_that_cannot_be_had_are_asked_for_again_then_the_task_fails(
    deps, config, records, engine, new_study
):
    _, study = await new_study(keep=lambda p: "04-flair" in str(p))
    asked = await jobs.consider(deps, study["id"])
    gone = InferenceConfig(
        records_url=config.records_url,
        records_credentials=config.records_credentials,
        dicomweb_url="http://127.0.0.1:9",  # nothing listens there
        token=config.token,
        hook_secret=config.hook_secret,
        max_attempts=2,
    )
    away = jobs.Deps(gone, records, engine, deps.defer_run)

    with pytest.raises(SourceError):
        await jobs.run(away, asked["id"])
    ended = await jobs.run(away, asked["id"])

    assert ended["status"] == "failed"
    assert "could not be had" in ended["statusReason"]["text"]


@pytest.fixture
def grow(pixels, records, tmp_path):
    """Store the T2 series of a study that came without it, and publish it."""

    async def add(study_uid):
        paths = write_study("synth-ring", tmp_path / "late", study_uid=study_uid)
        pixels.store([p for p in paths if "03-t2" in str(p)])
        return await publish(pixels, records, study_uid)

    return add


async def test_late_instances_cancel_the_runs_that_have_not_ended(deps, records, new_study, grow):
    study_uid, study = await new_study(keep=lambda p: "04-flair" in str(p))
    early = await jobs.consider(deps, study["id"])
    await claim(records, early)
    await grow(study_uid)

    late = await jobs.consider(deps, study["id"])
    again = await jobs.consider(deps, study["id"])

    ended = await records.read("Task", early["id"])
    assert late["id"] != early["id"]
    assert (again["id"], again["status"]) == (late["id"], "requested")
    assert ended["status"] == "cancelled"
    assert ended["statusReason"]["text"] == "superseded: the study has changed"
    assert await jobs.run(deps, early["id"]) == ended


async def test_a_run_stores_nothing_when_the_study_grows_under_it(
    deps, pixels, records, new_study, grow
):
    study_uid, study = await new_study(keep=lambda p: "04-flair" in str(p))
    asked = await jobs.consider(deps, study["id"])
    running = asyncio.create_task(jobs.run(deps, asked["id"]))
    async with asyncio.timeout(60):
        while (await records.read("Task", asked["id"]))["status"] == "requested":
            await asyncio.sleep(0.05)
    await grow(study_uid)

    ended = await running

    assert ended["status"] == "cancelled"
    assert pixels.stored(study_uid, "SEG") == pixels.stored(study_uid, "SR") == []
    assert await count(records, study, "DiagnosticReport") == 0


async def test_a_draft_on_fewer_series_is_cancelled_by_the_result_on_all_of_them(
    deps, pixels, records, new_study, grow
):
    study_uid, study = await new_study(keep=lambda p: "04-flair" in str(p))
    early = await jobs.run(deps, (await jobs.consider(deps, study["id"]))["id"])
    await grow(study_uid)

    late = await jobs.run(deps, (await jobs.consider(deps, study["id"]))["id"])

    old, new = [
        await records.read(*task["output"][0]["valueReference"]["reference"].split("/"))
        for task in (early, late)
    ]
    assert (old["status"], new["status"]) == ("cancelled", "preliminary")
    assert not [i for i in await records.validate(old) if i["severity"] in ("error", "fatal")]
    found = await records.search("Provenance", {"target": f"DiagnosticReport/{new['id']}"})
    revised = [e["what"]["reference"] for e in found[0]["entity"] if e["role"] == "revision"]
    assert revised == [f"DiagnosticReport/{old['id']}"]
    told = await records.search("Provenance", {"target": f"DiagnosticReport/{old['id']}"})
    assert any("superseded" in one["activity"]["text"] for one in told)
    for task, status in ((early, {"cancelled"}), (late, {"preliminary"})):
        assert await statuses(records, task) == status
    assert len(pixels.stored(study_uid, "SEG")) == 2
    assert len(pixels.stored(study_uid, "KO")) == 1


async def statuses(records, task):
    """Of all Observations that a run has written."""
    references = [o["valueReference"].get("reference", "") for o in task["output"]]
    return {
        (await records.read(*reference.split("/")))["status"]
        for reference in references
        if reference.startswith("Observation/")
    }


async def test_the_sweep_takes_up_what_no_hook_spoke_of(deps, records, new_study, deferred):
    _, study = await new_study(keep=lambda p: "04-flair" in str(p))

    first = await jobs.sweep(deps, 600)
    queued = list(deferred)
    await jobs.sweep(deps, 600)

    tasks = await records.search("Task", {"focus": f"ImagingStudy/{study['id']}"})
    assert first >= 1
    assert len(tasks) == 1
    assert tasks[0]["id"] in queued
    assert deferred.count(tasks[0]["id"]) >= 2  # unfinished, so it is offered again


async def test_the_sweep_keeps_no_study_that_it_has_looked_at(deps, new_study, monkeypatch):
    _, study = await new_study(keep=lambda p: "04-flair" in str(p))
    ask, kept = jobs.tasks.existing_identifiers, []

    async def look_and_ask(*arguments):
        dicts = [one for one in gc.get_objects() if type(one) is dict and one is not study]
        kept.extend(one for one in dicts if str(one.get("id")) == study["id"])
        return await ask(*arguments)

    monkeypatch.setattr(jobs.tasks, "existing_identifiers", look_and_ask)
    await jobs.sweep(deps, 600)

    assert kept == []


@pytest.mark.parametrize("identifier", [[], [{"system": "urn:dicom:uid", "value": "urn:oid:1.2"}]])
async def test_an_odd_study_of_somebody_else_does_not_stop_the_sweep(
    deps, records, new_study, deferred, identifier
):
    series = {"uid": "1.2.3", "modality": {"display": "Magnetic resonance"}}
    series["instance"] = [{"uid": "1.2.3.4", "sopClass": {"code": "urn:oid:1.2"}}]
    odd = {"resourceType": "ImagingStudy", "status": "available", "series": [series]}
    await records.create({**odd, "identifier": identifier, "subject": {"display": "nobody"}})
    _, study = await new_study(keep=lambda p: "04-flair" in str(p))

    await jobs.sweep(deps, 600)

    (task,) = await records.search("Task", {"focus": f"ImagingStudy/{study['id']}"})
    assert task["id"] in deferred


async def test_the_same_call_to_several_workers_at_once_gives_one_result(
    deps, pixels, records, new_study
):
    study_uid, study = await new_study(keep=lambda p: "04-flair" in str(p))

    asked = await asyncio.gather(*(jobs.consider(deps, study["id"]) for _ in range(5)))
    (task_id,) = {one["id"] for one in asked}
    ended = await asyncio.gather(*(jobs.run(deps, task_id) for _ in range(3)))

    assert [one["status"] for one in ended if one is not None].count("completed") >= 1
    assert (await records.read("Task", task_id))["status"] == "completed"
    assert len(pixels.stored(study_uid, "SEG")) == len(pixels.stored(study_uid, "SR")) == 1
    assert (
        await count(records, study, "Task") == await count(records, study, "DiagnosticReport") == 1
    )


async def test_a_storm_of_updates_while_a_study_arrives_ends_in_one_result(
    deps, pixels, records, tmp_path, deferred
):
    study_uid = f"2.25.{uuid4().int}"
    paths = write_study("synth-ring", tmp_path / "storm", study_uid=study_uid)
    series = sorted({path.parent for path in paths})
    for one in series:  # each series is stored, published and announced by itself
        pixels.store([path for path in paths if path.parent == one])
        study = await publish(pixels, records, study_uid)
        await jobs.consider(deps, study["id"])

    ended = [await jobs.run(deps, task_id) for task_id in dict.fromkeys(deferred)]
    study = await publish(pixels, records, study_uid)
    await jobs.consider(deps, study["id"])

    assert len(series) > 2
    assert [one["status"] for one in ended].count("completed") == 1
    assert {one["status"] for one in ended} <= {"completed", "cancelled", "rejected"}
    assert await count(records, study, "DiagnosticReport") == 1
    assert len(pixels.stored(study_uid, "SEG")) == len(pixels.stored(study_uid, "SR")) == 1
