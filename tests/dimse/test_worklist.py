"""The worklist: a modality is told the steps that are meant for it, and no others."""

from __future__ import annotations

import subprocess

import psycopg
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE

from archive.worklist import Worklist, WorklistError
from dimse.workflow.worklist import MODALITY_WORKLIST, service
from tests.fixtures.peers import needs


def step(number, **changes):
    """One scheduled procedure step."""
    found = Dataset()
    attributes = {
        "ScheduledProcedureStepID": number,
        "Modality": "MR",
        "ScheduledStationAETitle": ["MR1"],
        "ScheduledProcedureStepStartDate": "20260705",
        "ScheduledProcedureStepStartTime": "101500",
        "ScheduledPerformingPhysicianName": "House^Gregory",
        "ScheduledProcedureStepDescription": "MR head",
        **changes,
    }
    for name, value in attributes.items():
        setattr(found, name, value)
    return found


def item(*steps, **changes):
    """A worklist item as DICOM JSON."""
    found = Dataset()
    attributes = {
        "SpecificCharacterSet": "ISO_IR 192",
        "PatientName": "Doe^Jane",
        "PatientID": "P1",
        "PatientBirthDate": "19700101",
        "PatientSex": "F",
        "AccessionNumber": "A1",
        "StudyInstanceUID": generate_uid(),
        "RequestedProcedureID": "R1",
        "RequestedProcedureDescription": "Head",
        "ScheduledProcedureStepSequence": list(steps or [step("S1")]),
        **changes,
    }
    for name, value in attributes.items():
        setattr(found, name, value)
    return found.to_json_dict()


@pytest.fixture(scope="module")
def worklist_dsn(postgres):
    postgres.create_database("dimse_worklist")
    return postgres.dsn("dimse_worklist")


@pytest.fixture
def worklist(worklist_dsn):
    """An empty worklist."""
    worklist = Worklist(worklist_dsn)
    with psycopg.connect(worklist_dsn) as connection:
        connection.execute("truncate archive.worklist")
    return worklist


@pytest.fixture
def ris(open_door, worklist):
    """A server that answers worklist queries."""
    return open_door(services=lambda _archive, ledger: [service(worklist, ledger)])


def ask(door, step_keys=None, charset=None, **keys):
    """Identifiers of all answers, after checking that the query ended with success."""
    identifier = Dataset()
    for name, value in keys.items():
        setattr(identifier, name, value)
    inner = Dataset()
    names = {"ScheduledProcedureStepID": "", "ScheduledProcedureStepStartDate": "",
             "ScheduledStationAETitle": "", "Modality": ""}  # fmt: skip
    for name, value in {**names, **(step_keys or {})}.items():
        setattr(inner, name, value)
    identifier.ScheduledProcedureStepSequence = [inner]
    if charset:
        identifier.SpecificCharacterSet = charset
    ae = AE("MR1")
    ae.add_requested_context(MODALITY_WORKLIST)
    association = ae.associate("127.0.0.1", door.port)
    assert association.is_established
    try:
        answers = list(association.send_c_find(identifier, MODALITY_WORKLIST))
    finally:
        association.release()
    assert answers[-1][0].Status == 0x0000
    return [found for _, found in answers[:-1]]


def step_ids(answers):
    return [one.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID for one in answers]


def test_an_empty_worklist_answers_with_success(ris):
    assert ask(ris, PatientName="") == []


def test_a_universal_query_brings_every_open_step_with_the_keys_asked_for(ris, worklist):
    worklist.upsert("one", item(step("S1"), step("S2", Modality="CT")))

    answers = ask(ris, PatientName="", PatientID="", AdmissionID="", RequestedProcedureID="")

    assert step_ids(answers) == ["S1", "S2"]
    assert answers[0].PatientName == "Doe^Jane"
    assert answers[0].AdmissionID == ""
    assert [len(one.ScheduledProcedureStepSequence) for one in answers] == [1, 1]
    assert answers[1].ScheduledProcedureStepSequence[0].Modality == "CT"
    assert "ScheduledProcedureStepDescription" not in answers[0].ScheduledProcedureStepSequence[0]
    assert "QueryRetrieveLevel" not in answers[0]


@pytest.mark.parametrize(
    ("step_keys", "keys", "matching"),
    [
        ({"ScheduledStationAETitle": "MR1"}, {}, ["S1", "S3"]),
        ({"ScheduledStationAETitle": "MR2"}, {}, ["S3"]),
        ({"ScheduledStationAETitle": "MR"}, {}, []),
        ({"ScheduledStationAETitle": "MR*"}, {}, ["S1", "S3"]),
        ({"Modality": "CT"}, {}, ["S2"]),
        ({"Modality": "CT", "ScheduledStationAETitle": "MR1"}, {}, []),
        ({"ScheduledProcedureStepStartDate": "20260705"}, {}, ["S1"]),
        ({"ScheduledProcedureStepStartDate": "20260705-20260706"}, {}, ["S1", "S2"]),
        ({"ScheduledProcedureStepStartDate": "20260706-"}, {}, ["S2", "S3"]),
        ({"ScheduledProcedureStepStartDate": "-20260705"}, {}, ["S1"]),
        ({"ScheduledProcedureStepStartTime": "0900-1030"}, {}, ["S1", "S2"]),
        # Both ranges are one period (table K.6-1): from the 5th 10:00 to the 7th 08:00.
        (
            {"ScheduledProcedureStepStartDate": "20260705-20260707",
             "ScheduledProcedureStepStartTime": "1000-0800"}, {}, ["S1", "S2"],
        ),
        ({"ScheduledPerformingPhysicianName": "house*"}, {}, ["S1", "S2", "S3"]),
        ({"ScheduledPerformingPhysicianName": "wilson*"}, {}, []),
        ({"ScheduledProcedureStepID": "S?"}, {}, ["S1", "S2", "S3"]),
        ({}, {"PatientID": "P1"}, ["S1", "S2"]),
        ({}, {"PatientName": "MULLER*"}, ["S3"]),
        ({}, {"AccessionNumber": "A2"}, ["S3"]),
        ({}, {"RequestedProcedureID": "R1", "PatientSex": "F"}, ["S1", "S2", "S3"]),
        ({}, {"PatientSex": "M"}, []),
        ({}, {"PatientWeight": "70"}, []),
        ({}, {"AdmissionID": "*"}, ["S1", "S2", "S3"]),
    ],
)  # fmt: skip
def test_only_the_steps_that_match_are_told(ris, worklist, step_keys, keys, matching):
    second = step("S2", Modality="CT", ScheduledStationAETitle=["CT1"],
                  ScheduledProcedureStepStartDate="20260706",
                  ScheduledProcedureStepStartTime="0930")  # fmt: skip
    third = step("S3", ScheduledStationAETitle=["MR1", "MR2"],
                 ScheduledProcedureStepStartDate="20260707",
                 ScheduledProcedureStepStartTime="1500")  # fmt: skip
    worklist.upsert("one", item(step("S1"), second))
    worklist.upsert(
        "two", item(third, PatientID="P2", PatientName="Müller^Eva", AccessionNumber="A2")
    )

    answers = ask(ris, step_keys, **{"PatientName": "", **keys})

    assert step_ids(answers) == matching


def test_a_sequence_asked_for_whole_comes_whole(ris, worklist):
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99X", "Head"
    worklist.upsert("one", item(RequestedProcedureCodeSequence=[code]))
    key = Dataset()
    key.CodeValue = "2"

    (answer,) = ask(ris, RequestedProcedureCodeSequence=[])
    none = ask(ris, RequestedProcedureCodeSequence=[key])

    assert answer.RequestedProcedureCodeSequence[0].CodeMeaning == "Head"
    assert none == []


def test_finished_and_cancelled_steps_leave_the_worklist(ris, worklist):
    for name, status in (("a", "ARRIVED"), ("b", "STARTED"), ("c", "COMPLETED")):
        worklist.upsert(name, item(step(name)), status)
    worklist.upsert("d", item(step("d")))
    worklist.cancel("d")

    answers = ask(ris, {"ScheduledProcedureStepStatus": ""}, PatientName="")

    statuses = [one.ScheduledProcedureStepSequence[0].ScheduledProcedureStepStatus
                for one in answers]  # fmt: skip
    assert list(zip(step_ids(answers), statuses, strict=True)) == [
        ("a", "ARRIVED"),
        ("b", "STARTED"),
    ]


def test_the_same_order_again_changes_it_and_keeps_its_status(worklist):
    order = item(step("S1"), step("S2"))
    worklist.upsert("one", order)
    worklist.upsert("one", order, "STARTED")

    worklist.upsert("one", item(step("S1", Modality="CT")))

    (left,) = worklist.list()
    assert (left.step_id, left.status) == ("S1", "STARTED")
    assert left.item["00400100"]["Value"][0]["00080060"]["Value"] == ["CT"]
    assert worklist.remove("one") == 1
    assert worklist.list() == []


@pytest.mark.parametrize(
    "name", ["PatientID", "StudyInstanceUID", "ScheduledProcedureStepSequence"]
)
def test_an_item_without_what_every_modality_needs_is_refused(worklist, name):
    wrong = item()
    from pydicom.datadict import tag_for_keyword

    del wrong[f"{tag_for_keyword(name):08X}"]

    with pytest.raises(WorklistError, match=name):
        worklist.upsert("one", wrong)
    assert worklist.list() == []


@pytest.mark.parametrize(
    ("name", "charset", "answered"),
    [
        ("Doe^Jane", None, None),
        ("Müller^Jörg", "ISO_IR 100", "ISO_IR 100"),
        ("Müller^Jörg", None, "ISO_IR 192"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", ["", "ISO 2022 IR 87"], ["", "ISO 2022 IR 87"]),
        ("Hong^Gildong=洪^吉洞=홍^길동", ["", "ISO 2022 IR 149"], ["", "ISO 2022 IR 149"]),
        ("Wang^XiaoDong=王^小东", "GB18030", "GB18030"),
        ("Wang^XiaoDong=王^小东", "ISO_IR 100", "ISO_IR 192"),
    ],
)
def test_names_come_in_the_character_set_of_the_question_or_in_utf_8(
    ris, worklist, name, charset, answered
):
    worklist.upsert("one", item(PatientName=name))

    (answer,) = ask(ris, charset=charset, PatientName=name)

    assert answer.get("SpecificCharacterSet") == answered
    assert str(answer.PatientName) == name


@pytest.mark.parametrize(
    "step_keys",
    [{"ScheduledProcedureStepStartDate": "yesterday"}, {"ScheduledProcedureStepStartTime": "25"}],
)
def test_a_value_that_cannot_be_is_refused(ris, worklist, step_keys):
    worklist.upsert("one", item())
    inner, identifier = Dataset(), Dataset()
    for name, value in step_keys.items():
        setattr(inner, name, value)
    identifier.ScheduledProcedureStepSequence = [inner]
    ae = AE("MR1")
    ae.add_requested_context(MODALITY_WORKLIST)
    association = ae.associate("127.0.0.1", ris.port)

    ((status, _),) = association.send_c_find(identifier, MODALITY_WORKLIST)
    association.release()

    assert status.Status == 0xA900


@needs("findscu")
def test_dcmtk_gets_its_worklist(ris, worklist, tmp_path):
    worklist.upsert("one", item(step("S1")))
    worklist.upsert("two", item(step("S2", Modality="CT")))

    done = subprocess.run(
        ["findscu", "-W", "-aet", "MR1", "-aec", "HILUM", "127.0.0.1", str(ris.port), "-X",
         "-od", tmp_path, "-k", "PatientName", "-k", "AccessionNumber",
         "-k", "ScheduledProcedureStepSequence[0].Modality=MR",
         "-k", "ScheduledProcedureStepSequence[0].ScheduledProcedureStepID"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    from pydicom import dcmread

    assert done.returncode == 0, done.stderr
    (answer,) = [dcmread(path, force=True) for path in tmp_path.glob("rsp*.dcm")]
    assert answer.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID == "S1"
    assert answer.AccessionNumber == "A1"
