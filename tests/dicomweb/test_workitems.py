"""UPS-RS (PS3.18 chapter 11) over HTTP against a real server: the life of a work item."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydicom.uid import generate_uid

from inference.models import load_model
from tests.dicomweb.workitem import JSON, TASKS, element, performed, state, value, work_item

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def manager(server):
    """A workflow manager with every right on tasks."""
    token = server.token_for(TASKS)
    with server.client(Authorization=f"Bearer {token}") as client:
        yield client


@pytest.fixture
def create(manager):
    def create(**changes) -> str:
        answer = manager.post("/workitems", json=[work_item(**changes)], headers=JSON)
        assert answer.status_code == 201, answer.text
        return answer.headers["Location"].rsplit("/", 1)[1]

    return create


@pytest.fixture
def claimed(manager, create):
    uid, transaction = create(), generate_uid()
    answer = manager.put(f"/workitems/{uid}/state", json=state("IN PROGRESS", transaction))
    assert answer.status_code == 200, answer.text
    return uid, transaction


def read(manager, uid: str) -> dict:
    answer = manager.get(f"/workitems/{uid}", headers={"Accept": "application/dicom+json"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/dicom+json"
    return answer.json()[0]


def test_a_created_item_is_scheduled_and_comes_back_whole(manager, server):
    uid, document = generate_uid(), work_item()

    answer = manager.post(f"/workitems?{uid}", json=[document], headers=JSON)
    found = read(manager, uid)

    place = f"{server.base}/workitems/{uid}"
    assert answer.status_code == 201
    assert answer.headers["Location"] == answer.headers["Content-Location"] == place
    assert "Warning" not in answer.headers
    assert {name: found[name] for name in document} == document
    assert value(found, "00080018") == uid
    assert value(found, "00080016") == "1.2.840.10008.5.1.4.34.6.1"
    assert value(found, "00404010").endswith("+0000")
    assert "Value" not in found["00741002"] and "Value" not in found["00741216"]


def test_an_item_that_has_not_changed_is_not_sent_again(manager, create):
    path = f"/workitems/{create()}"
    tag = manager.get(path).headers["ETag"]

    same = manager.get(path, headers={"If-None-Match": tag})
    manager.post(path, json={"00741200": element("CS", "LOW")})
    other = manager.get(path, headers={"If-None-Match": tag})

    assert [same.status_code, other.status_code] == [304, 200]


def test_the_uid_may_be_given_by_name_in_the_data_set_or_by_the_server(manager):
    named, inside = generate_uid(), generate_uid()
    document = {**work_item(), "00080018": element("UI", inside)}

    places = [
        manager.post(f"/workitems?workitem={named}", json=work_item()).headers["Location"],
        manager.post("/workitems", json=document).headers["Location"],
        manager.post("/workitems", json=work_item()).headers["Location"],
    ]

    uids = [place.rsplit("/", 1)[1] for place in places]
    assert uids[:2] == [named, inside]
    assert uids[2].startswith("2.25.")


def test_the_order_of_the_how_to_page_is_taken_and_names_the_packaged_model(manager):
    page = (ROOT / "docs" / "howto" / "order-inference.md").read_text()
    text = page.split("```json\n")[1].split("```")[0]

    order = json.loads(text.replace("STUDY INSTANCE UID", generate_uid()))

    assert manager.post("/workitems", json=order).status_code == 201
    assert value(order[0], "00404018", "00080119") == load_model().label


def test_a_uid_is_used_once(manager, create):
    uid = create()

    again = manager.post(f"/workitems?{uid}", json=work_item())

    assert again.status_code == 409
    assert "already exists" in again.headers["Warning"]


@pytest.mark.parametrize("missing", ["00741000", "00741200", "00741204", "00404005", "00404041"])
def test_an_attribute_of_type_1_must_be_there(manager, missing):
    absent = manager.post("/workitems", json=work_item(**{f"t{missing}": None}))
    empty = manager.post("/workitems", json=work_item(**{f"t{missing}": {"vr": "LO"}}))

    assert [absent.status_code, empty.status_code] == [400, 400]


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("00081195", element("UI", "1.2.3")),  # the lock comes with the claim
        ("00741216", element("SQ", {"00404050": element("DT", "2026")})),
        ("00741002", element("SQ", {"00741004": element("DS", "1")})),
        ("00741000", element("CS", "IN PROGRESS")),
        ("00741200", element("CS", "URGENT")),
        ("00404041", element("CS", "YES")),
        ("00404005", element("DT", "tomorrow")),
        ("00404005", element("DA", "20260101")),
        ("00404018", element("SQ", {"00080104": element("LO", "no value")})),
        ("00080016", element("UI", "1.2.840.10008.5.1.4.1.1.2")),
        ("00100020", "P1"),
        ("PatientID", element("LO", "P1")),
        ("00100020", element("LO", "a\0b")),
    ],
)
def test_what_may_not_be_there_is_refused(manager, name, given):
    answer = manager.post("/workitems", json={**work_item(), name: given})

    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"


def test_missing_attributes_of_type_2_are_added_and_said(manager):
    sparse = {
        name: found
        for name, found in work_item().items()
        if name in ("00741000", "00741200", "00741204", "00404005", "00404041")
    }

    answer = manager.post("/workitems", json=sparse)
    found = read(manager, answer.headers["Location"].rsplit("/", 1)[1])

    assert answer.status_code == 201
    assert "created with modifications" in answer.headers["Warning"]
    assert found["00404021"] == {"vr": "SQ"}
    assert value(found, "00741202")


@pytest.mark.parametrize("body", [b"{", b"[]", b"[{}, {}]", b'"x"', b"[" * 100_000])
def test_a_body_that_is_no_data_set_gets_400(manager, body):
    assert manager.post("/workitems", content=body, headers=JSON).status_code == 400


def test_a_body_of_another_type_or_without_end_is_refused(manager):
    text = manager.post("/workitems", content=b"x", headers={"Content-Type": "text/plain"})
    huge = manager.post("/workitems", content=b" " * (5 * 1024 * 1024), headers=JSON)

    assert [text.status_code, huge.status_code] == [415, 413]


def test_an_item_is_claimed_by_one_performer_only(manager, create):
    uid, first, second = create(), generate_uid(), generate_uid()
    path = f"/workitems/{uid}/state"

    claims = [
        manager.put(path, json=state("IN PROGRESS", first)),
        manager.put(path, json=state("IN PROGRESS", second)),
        manager.put(path, json=state("IN PROGRESS", first)),
    ]

    assert [one.status_code for one in claims] == [200, 400, 409]
    assert "Transaction UID is incorrect" in claims[1].headers["Warning"]
    assert "inconsistent with the current state" in claims[2].headers["Warning"]


def test_the_transaction_uid_is_never_shown(manager, claimed):
    uid, transaction = claimed

    answers = [
        manager.get(f"/workitems/{uid}"),
        manager.get("/workitems", params={"SOPInstanceUID": uid, "includefield": "all"}),
        manager.get("/workitems", params={"SOPInstanceUID": uid, "includefield": "00081195"}),
    ]

    assert all(transaction not in one.text and one.status_code == 200 for one in answers)
    probe = manager.get("/workitems", params={"TransactionUID": transaction})
    assert probe.status_code == 400


def test_only_the_performer_changes_a_claimed_item(manager, claimed):
    uid, transaction = claimed
    change = {"00741202": element("LO", "other")}

    missing = manager.post(f"/workitems/{uid}", json=change)
    wrong = manager.post(f"/workitems/{uid}?transaction={generate_uid()}", json=change)
    right = manager.post(f"/workitems/{uid}?{transaction}", json=change)

    assert [missing.status_code, wrong.status_code, right.status_code] == [400, 400, 200]
    assert value(read(manager, uid), "00741202") == "other"


def test_a_scheduled_item_is_changed_without_a_transaction(manager, create):
    uid = create()
    change = {"00741200": element("CS", "HIGH")}

    with_one = manager.post(f"/workitems/{uid}?transaction={generate_uid()}", json=change)
    without = manager.post(f"/workitems/{uid}", json=change)

    assert with_one.status_code == 409
    assert "did not reference a claimed Workitem" in with_one.headers["Warning"]
    assert without.status_code == 200
    assert value(read(manager, uid), "00741200") == "HIGH"


@pytest.mark.parametrize(
    "change",
    [
        {"00741000": element("CS", "COMPLETED")},
        {"00100020": element("LO", "other patient")},
        {"0040A370": element("SQ")},
        {"00741204": element("LO")},
    ],
)
def test_what_an_update_may_not_change_is_refused(manager, create, change):
    uid = create()
    before = read(manager, uid)

    assert manager.post(f"/workitems/{uid}", json=change).status_code == 400
    assert read(manager, uid) == before


def test_an_item_completes_only_with_what_was_performed(manager, claimed):
    uid, transaction = claimed
    complete = state("COMPLETED", transaction)

    too_early = manager.put(f"/workitems/{uid}/state", json=complete)
    manager.post(f"/workitems/{uid}?{transaction}", json=performed(generate_uid()))
    done = manager.put(f"/workitems/{uid}/state", json=complete)
    again = manager.put(f"/workitems/{uid}/state", json=complete)
    cancel = manager.put(f"/workitems/{uid}/state", json=state("CANCELED", transaction))
    late = manager.post(f"/workitems/{uid}?{transaction}", json=performed(generate_uid()))

    assert too_early.status_code == 409
    assert "00741216" in too_early.json()["detail"]
    assert [done.status_code, again.status_code] == [200, 200]
    assert "already in the requested state of COMPLETED" in again.headers["Warning"]
    assert [cancel.status_code, late.status_code] == [409, 400]
    assert value(read(manager, uid), "00741000") == "COMPLETED"


@pytest.mark.parametrize("wanted", ["COMPLETED", "CANCELED"])
def test_a_scheduled_item_must_be_claimed_before_it_ends(manager, create, wanted):
    answer = manager.put(f"/workitems/{create()}/state", json=state(wanted, generate_uid()))

    assert answer.status_code == 409


@pytest.mark.parametrize(
    "body",
    [
        state("SCHEDULED", "1.2.3"),
        state("DONE", "1.2.3"),
        state("IN PROGRESS", None),
        {"00081195": element("UI", "1.2.3")},
    ],
)
def test_a_state_change_that_makes_no_sense_gets_400(manager, create, body):
    assert manager.put(f"/workitems/{create()}/state", json=body).status_code == 400


def test_a_request_to_cancel_ends_a_scheduled_item(manager, create):
    uid = create()
    reason = {"00741238": element("LT", "Patient has left")}

    first = manager.post(f"/workitems/{uid}/cancelrequest", json=reason)
    again = manager.post(f"/workitems/{uid}/cancelrequest")
    found = read(manager, uid)

    assert [first.status_code, again.status_code] == [202, 202]
    assert "already in the requested state of CANCELED" in again.headers["Warning"]
    assert value(found, "00741000") == "CANCELED"
    assert value(found, "00741002", "00741238") == "Patient has left"
    assert value(found, "00741002", "0074100E", "00080100") == "110513"
    assert value(found, "00741002", "00404052")


def test_a_request_to_cancel_claimed_work_needs_somebody_who_hears_it(manager, claimed):
    uid, _ = claimed

    unheard = manager.post(f"/workitems/{uid}/cancelrequest")
    manager.post(f"/workitems/{uid}/subscribers/PERFORMER")
    heard = manager.post(f"/workitems/{uid}/cancelrequest")

    assert unheard.status_code == 409
    assert "performer cannot be contacted" in unheard.headers["Warning"]
    assert heard.status_code == 202
    assert value(read(manager, uid), "00741000") == "IN PROGRESS"


def test_completed_work_is_not_cancelled(manager, claimed):
    uid, transaction = claimed
    manager.post(f"/workitems/{uid}?{transaction}", json=performed(generate_uid()))
    manager.put(f"/workitems/{uid}/state", json=state("COMPLETED", transaction))

    answer = manager.post(f"/workitems/{uid}/cancelrequest")

    assert answer.status_code == 409
    assert "already COMPLETED" in answer.headers["Warning"]


def test_an_item_that_is_not_there_gets_404(manager):
    path = f"/workitems/{generate_uid()}"

    answers = [
        manager.get(path),
        manager.post(path, json={"00741200": element("CS", "LOW")}),
        manager.put(f"{path}/state", json=state("IN PROGRESS", "1.2.3")),
        manager.post(f"{path}/cancelrequest"),
        manager.post(f"{path}/subscribers/WATCHER"),
        manager.delete(f"{path}/subscribers/WATCHER"),
    ]

    assert [one.status_code for one in answers] == [404] * 6
    assert manager.get("/workitems/1.02").status_code == 400


def test_dicom_xml_goes_in_and_comes_out(manager):
    from dicomweb.xml import to_native

    uid = generate_uid()
    kind = {"Content-Type": "application/dicom+xml"}
    created = manager.post(f"/workitems?{uid}", content=to_native(work_item()), headers=kind)
    whole = manager.get(f"/workitems/{uid}", headers={"Accept": "application/dicom+xml"})

    assert created.status_code == 201, created.text
    assert whole.headers["content-type"].startswith("application/dicom+xml")
    assert "Jörg" in whole.text
    assert value(read(manager, uid), "00100010")["Alphabetic"] == "Müller^Jörg"
