"""Performed procedure steps: begun, ended once, seen in the worklist, and kept over a restart."""

from __future__ import annotations

import psycopg
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE

from archive.procedure import PerformedSteps
from archive.worklist import Worklist
from dimse.workflow.mpps import STEP, STEP_RETRIEVE, service
from tests.dimse.test_worklist import item, step


@pytest.fixture(scope="module")
def steps_dsn(postgres):
    postgres.create_database("dimse_mpps")
    return postgres.dsn("dimse_mpps")


@pytest.fixture
def worklist(steps_dsn):
    worklist = Worklist(steps_dsn)
    with psycopg.connect(steps_dsn) as connection:
        connection.execute("truncate archive.worklist, archive.procedure_step")
    return worklist


@pytest.fixture
def ris(open_door, worklist, steps_dsn):
    """A server that takes reports of performed steps."""
    return open_door(services=lambda _archive, ledger: [service(PerformedSteps(steps_dsn), ledger)])


@pytest.fixture
def modality(ris):
    """An association of a modality."""
    ae = AE("MR1")
    ae.add_requested_context(STEP)
    ae.add_requested_context(STEP_RETRIEVE)
    association = ae.associate("127.0.0.1", ris.port)
    assert association.is_established
    yield association
    association.release()


def begun(study="1.2.3", step_id="S1", **changes):
    """The attributes of a step that begins."""
    reference = Dataset()
    reference.StudyInstanceUID = study
    reference.AccessionNumber = ""
    reference.ScheduledProcedureStepID = step_id
    found = Dataset()
    attributes = {
        "SpecificCharacterSet": "ISO_IR 100",
        "ScheduledStepAttributesSequence": [reference],
        "PatientName": "Müller^Eva",
        "PatientID": "P1",
        "PerformedProcedureStepID": "PPS1",
        "PerformedStationAETitle": "MR1",
        "PerformedProcedureStepStartDate": "20260705",
        "PerformedProcedureStepStartTime": "1015",
        "PerformedProcedureStepStatus": "IN PROGRESS",
        "PerformedProcedureStepEndDate": "",
        "PerformedProcedureStepEndTime": "",
        "Modality": "MR",
        "PerformedSeriesSequence": [],
        **changes,
    }
    for name, value in attributes.items():
        if value is not None:
            setattr(found, name, value)
    return found


def ended(status="COMPLETED", **changes):
    """The changes with which a step ends."""
    series = Dataset()
    series.SeriesInstanceUID = "1.2.3.4"
    series.ProtocolName = "head"
    found = Dataset()
    attributes = {
        "PerformedProcedureStepStatus": status,
        "PerformedProcedureStepEndDate": "20260705",
        "PerformedProcedureStepEndTime": "1030",
        "PerformedSeriesSequence": [series],
        **changes,
    }
    for name, value in attributes.items():
        if value is not None:
            setattr(found, name, value)
    return found


def test_a_step_is_begun_and_completed_and_changes_no_more(modality, steps_dsn, worklist):
    uid, study = generate_uid(), generate_uid()
    worklist.upsert("order", item(step("S1"), step("S2"), StudyInstanceUID=study))

    created, _ = modality.send_n_create(begun(study), STEP, uid)
    started = {one.step_id: one.status for one in worklist.list()}
    completed, _ = modality.send_n_set(ended(), STEP, uid)
    again, _ = modality.send_n_set(ended("DISCONTINUED"), STEP, uid)

    assert (created.Status, completed.Status) == (0x0000, 0x0000)
    assert started == {"S1": "STARTED", "S2": "SCHEDULED"}
    assert {one.step_id: one.status for one in worklist.list()} == {
        "S1": "COMPLETED",
        "S2": "SCHEDULED",
    }
    assert again.Status == 0x0110
    assert again.ErrorID == 0xA710
    assert "no longer be updated" in again.ErrorComment
    kept = PerformedSteps(steps_dsn).get(uid)
    assert (kept.status, kept.study_uids, kept.calling_ae) == ("COMPLETED", (study,), "MR1")
    assert kept.attributes["00100010"]["Value"][0]["Alphabetic"] == "Müller^Eva"


def test_a_step_is_given_back_whole_and_by_attributes(modality):
    uid = generate_uid()
    modality.send_n_create(begun(), STEP, uid)

    status, whole = modality.send_n_get([], STEP_RETRIEVE, uid)
    partly, some = modality.send_n_get([0x00100020, 0x00102000], STEP_RETRIEVE, uid)
    unknown, _ = modality.send_n_get([], STEP_RETRIEVE, "1.2.3.4.5")

    assert status.Status == 0x0000
    assert (str(whole.PatientName), whole.PerformedProcedureStepStatus) == (
        "Müller^Eva",
        "IN PROGRESS",
    )
    assert (partly.Status, some.PatientID) == (0x0001, "P1")
    assert unknown.Status == 0x0112


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"PerformedProcedureStepStatus": "COMPLETED"}, 0x0106),
        ({"PerformedProcedureStepStatus": "BEGUN"}, 0x0106),
        ({"Modality": None}, 0x0120),
        ({"PerformedProcedureStepID": ""}, 0x0121),
        ({"ScheduledStepAttributesSequence": None}, 0x0120),
        ({"ScheduledStepAttributesSequence": []}, 0x0121),
        ({"ScheduledStepAttributesSequence": [Dataset()]}, 0x0121),
    ],
)
def test_a_step_that_lacks_what_it_must_say_is_refused_with_the_reason(
    modality, steps_dsn, changes, status
):
    uid = generate_uid()

    answer, _ = modality.send_n_create(begun(**changes), STEP, uid)

    assert answer.Status == status
    assert answer.ErrorComment
    assert PerformedSteps(steps_dsn).changes(0, 10) == []


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"PerformedProcedureStepStatus": "DONE"}, 0x0106),
        ({"PatientID": "P2"}, 0x0106),
        ({"PerformedSeriesSequence": []}, 0x0121),
        ({"PerformedProcedureStepEndDate": None}, 0x0121),
    ],
)
def test_an_end_that_is_not_complete_is_refused_and_the_step_goes_on(
    modality, steps_dsn, changes, status
):
    uid = generate_uid()
    modality.send_n_create(begun(), STEP, uid)

    refused, _ = modality.send_n_set(ended(**changes), STEP, uid)
    accepted, _ = modality.send_n_set(ended(), STEP, uid)

    assert (refused.Status, accepted.Status) == (status, 0x0000)


def test_a_uid_is_used_once_and_an_unknown_one_is_told(modality):
    uid = generate_uid()

    first, _ = modality.send_n_create(begun(), STEP, uid)
    second, _ = modality.send_n_create(begun(), STEP, uid)
    unknown, _ = modality.send_n_set(ended(), STEP, generate_uid())

    assert [first.Status, second.Status, unknown.Status] == [0x0000, 0x0111, 0x0112]


def test_a_step_without_a_uid_gets_one(modality, steps_dsn):
    created, _ = modality.send_n_create(begun(), STEP, None)

    (kept,) = PerformedSteps(steps_dsn).changes(0, 10)
    assert created.Status == 0x0000
    assert kept.sop_uid.startswith("2.25.")


def test_a_step_may_be_discontinued_without_images(modality):
    uid = generate_uid()
    modality.send_n_create(begun(), STEP, uid)

    stopped, _ = modality.send_n_set(ended("DISCONTINUED", PerformedSeriesSequence=[]), STEP, uid)

    assert stopped.Status == 0x0000


def test_a_step_outlives_the_server(open_door, worklist, steps_dsn):
    uid = generate_uid()

    def send(what, *arguments):
        door = open_door(
            services=lambda _archive, ledger: [service(PerformedSteps(steps_dsn), ledger)]
        )
        ae = AE("MR1")
        ae.add_requested_context(STEP)
        association = ae.associate("127.0.0.1", door.port)
        status, _ = getattr(association, what)(*arguments)
        association.release()
        door.server.stop(timeout_s=2)
        return status.Status

    assert send("send_n_create", begun(), STEP, uid) == 0x0000
    assert send("send_n_set", ended(), STEP, uid) == 0x0000


def test_changes_are_followed_in_order(modality, steps_dsn):
    first, second = generate_uid(), generate_uid()
    modality.send_n_create(begun(), STEP, first)
    modality.send_n_create(begun(), STEP, second)
    modality.send_n_set(ended(), STEP, first)
    steps = PerformedSteps(steps_dsn)

    changes = steps.changes(0, 10)

    assert [(one.sop_uid, one.status) for one in changes] == [
        (second, "IN PROGRESS"),
        (first, "COMPLETED"),
    ]
    assert steps.changes(changes[-1].change, 10) == []


def test_a_report_is_audited_without_the_patient(modality, ris):
    uid = generate_uid()
    modality.send_n_create(begun(), STEP, uid)

    lines = ris.audit()
    assert f"MPPS {uid}: begun" in lines
    assert "Eva" not in lines
