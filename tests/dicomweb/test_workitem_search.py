"""Search for work items (PS3.18 section 11.9): matching, what comes back, paging."""

from __future__ import annotations

import pytest
from pydicom.uid import generate_uid

from dicomweb.config import DicomwebConfig
from tests.dicomweb.server import running
from tests.dicomweb.workitem import TASKS, code, element, value, work_item


@pytest.fixture(scope="module")
def manager(server):
    with server.client(Authorization=f"Bearer {server.token_for(TASKS)}") as client:
        yield client


STUDY = generate_uid()
LABEL = "Search tests"


@pytest.fixture(scope="module")
def items(manager):
    """Two items that differ in everything that can be asked for; names by UID."""
    person = {
        "00404009": element("SQ", code("DOE", "99TEST", "Doe")),
        "00404037": element("PN", {"Alphabetic": "Doe^Jane"}),
    }
    documents = {
        "early": work_item(
            study=STUDY,
            t00741202=element("LO", LABEL),
            t00741200=element("CS", "HIGH"),
            t00404005=element("DT", "20250101080000"),
            t00404034=element("SQ", person),
            t00100020=element("LO", "EARLY"),
        ),
        "late": work_item(
            t00741202=element("LO", LABEL),
            t00741200=element("CS", "LOW"),
            t00404005=element("DT", "20250301080000"),
            t00404018=element("SQ", code("67890", "99OTHER", "Other work")),
            t00404025=element("SQ", code("GPU2", "99TEST", "GPU 2")),
            t00100010=element("PN", {"Alphabetic": "Łukasz^Ø", "Ideographic": "山田^太郎"}),
            t00100020=element("LO", "LATE"),
            t00404041=element("CS", "INCOMPLETE"),
            t0040A370=element("SQ", {"00080050": element("SH", "ACC9")}),
        ),
    }
    names = {}
    for name, document in documents.items():
        answer = manager.post("/workitems", json=document)
        assert answer.status_code == 201, answer.text
        names[answer.headers["Location"].rsplit("/", 1)[1]] = name
    return names


@pytest.fixture
def find(manager, items):
    def find(**query) -> list[str]:
        answer = manager.get("/workitems", params={"WorklistLabel": LABEL, **query})
        assert answer.status_code in (200, 204), answer.text
        found = answer.json() if answer.status_code == 200 else []
        return [items[value(item, "00080018")] for item in found]

    return find


@pytest.mark.parametrize(
    ("key", "wanted", "found"),
    [
        ("PatientID", "EARLY", ["early"]),
        ("00100020", "*", ["early", "late"]),
        ("PatientName", "mueller*", []),
        ("PatientName", "muller^*", ["early"]),
        ("PatientName", "LUKASZ*", ["late"]),
        ("PatientName", "山田*", ["late"]),
        ("ScheduledWorkitemCodeSequence.CodeValue", "67890", ["late"]),
        ("00404018.00080100", "12345", ["early"]),
        ("ScheduledStationNameCodeSequence.CodeValue", "GPU?", ["early", "late"]),
        ("ScheduledStationNameCodeSequence.CodeValue", "GPU1", ["early"]),
        ("ReferencedRequestSequence.AccessionNumber", "ACC9", ["late"]),
        ("InputInformationSequence.StudyInstanceUID", STUDY, ["early"]),
        ("ScheduledProcedureStepPriority", "HIGH", ["early"]),
        ("ScheduledProcedureStepStartDateTime", "20250101-20250201", ["early"]),
        ("ScheduledProcedureStepStartDateTime", "20250201-", ["late"]),
        ("ScheduledProcedureStepStartDateTime", "202503", ["late"]),
        ("InputReadinessState", "INCOMPLETE", ["late"]),
        ("ScheduledHumanPerformersSequence.HumanPerformerName", "doe^jane", ["early"]),
        ("ProcedureStepState", "SCHEDULED", ["early", "late"]),
        ("ProcedureStepState", "COMPLETED", []),
    ],
)
def test_items_match_by_every_key_a_performer_asks_for(find, key, wanted, found):
    assert find(**{key: wanted}) == found


def test_keys_of_a_sequence_are_met_by_one_item_of_it(find):
    code, scheme = (
        f"ScheduledWorkitemCodeSequence.{name}" for name in ("CodeValue", "CodingSchemeDesignator")
    )

    assert find(**{code: "67890", scheme: "99OTHER"}) == ["late"]
    assert find(**{code: "67890", scheme: "99TEST"}) == []


def test_a_uid_list_finds_each_of_its_items(find, items):
    assert find(SOPInstanceUID=",".join([*items, generate_uid()])) == ["early", "late"]


def test_fuzzy_matching_finds_words_of_a_name(find):
    assert find(PatientName="jor mul", fuzzymatching="true") == ["early"]


def test_items_come_by_scheduled_start_in_pages(find):
    assert find(limit="1") == ["early"]
    assert find(limit="1", offset="1") == ["late"]
    assert find(offset="2") == []


def test_an_answer_holds_what_tells_the_work_and_what_was_asked_for(manager, items):
    base = {"WorklistLabel": LABEL, "PatientID": "EARLY"}

    plain = manager.get("/workitems", params=base).json()[0]
    more = manager.get("/workitems", params={**base, "includefield": "00404021"}).json()[0]
    whole = manager.get("/workitems", params={**base, "includefield": "all"}).json()[0]

    assert {"00080018", "00741000", "00741204", "00404018", "00100010"} <= set(plain)
    assert "00404021" not in plain and "00404021" in more
    assert set(more) < set(whole)


def test_no_match_gets_204_and_a_key_that_nobody_knows_400(manager):
    none = manager.get("/workitems", params={"PatientID": generate_uid()})
    unknown = manager.get("/workitems", params={"NoSuchAttribute": "x"})
    senseless = manager.get("/workitems", params={"ScheduledProcedureStepStartDateTime": "soon"})

    assert [none.status_code, unknown.status_code, senseless.status_code] == [204, 400, 400]


def test_an_answer_that_the_server_cuts_off_says_so(dsn, tmp_path):
    with (
        running(dsn, tmp_path, DicomwebConfig(max_results=1)) as small,
        small.client(Authorization=f"Bearer {small.token_for(TASKS)}") as client,
    ):
        for _ in range(2):
            client.post("/workitems", json=work_item(t00741202=element("LO", "Cut off")))
        cut = client.get("/workitems", params={"WorklistLabel": "Cut off"})
        asked = client.get("/workitems", params={"WorklistLabel": "Cut off", "limit": "1"})

    assert [cut.status_code, asked.status_code] == [206, 200]
    assert len(cut.json()) == 1
    assert cut.headers["Warning"].startswith("299 ") and "Warning" not in asked.headers
