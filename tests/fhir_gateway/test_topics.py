"""Topics of the Subscriptions R5 Backport IG 1.1: an EHR listens for finished reports."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.fhir_gateway.resources import assert_refused, new_patient
from tests.fhir_gateway.subscribers import (
    IG,
    TOPICS,
    Receiver,
    create,
    report,
    study,
    subscribe,
    topical,
    until,
)


@pytest.fixture
def other_patient(everything, unique):
    return everything.post("Patient", json=new_patient(f"{unique}-other")).json()


def test_a_handshake_makes_a_subscription_active(ehr, receiver, config):
    made = ehr.post("Subscription", json=topical(receiver, "diagnosticreport-final"))

    assert made.status_code == 201
    assert made.json()["status"] == "requested"
    url = f"Subscription/{made.json()['id']}"
    assert made.headers["location"].startswith(f"{config.fhir_base}/{url}/_history/")
    (call,) = receiver.wait(lambda calls: len(calls) == 1)
    assert (call.method, call.path, call.kind) == ("POST", "/hook", "handshake")
    assert call.headers["Content-Type"] == "application/fhir+json"
    assert call.status["events-since-subscription-start"] == "0"
    assert call.status["subscription"] == f"{config.fhir_base}/{url}"
    until(lambda: ehr.get(url).json()["status"] == "active", "active")


def test_a_receiver_that_refuses_the_handshake_puts_it_in_error(ehr, receiver):
    receiver.answer = 500

    made = ehr.post("Subscription", json=topical(receiver, "diagnosticreport-final")).json()

    url = f"Subscription/{made['id']}"
    held = until(lambda: (found := ehr.get(url).json())["status"] == "error" and found, "in error")
    assert held["error"] == "the receiver answered 500"


@pytest.mark.parametrize("content", ["empty", "id-only", "full-resource"])
def test_a_finished_report_is_told_in_the_content_that_was_asked_for(
    ehr, everything, receiver, stored_patient, config, content
):
    patient = f"DiagnosticReport?patient=Patient/{stored_patient['id']}"
    body = topical(receiver, "diagnosticreport-final", content=content, filters=[patient])
    subscribe(ehr, body)

    made = create(everything, report(stored_patient))

    (call,) = receiver.events(1)
    bundle, focus = call.json, f"{config.fhir_base}/DiagnosticReport/{made['id']}"
    assert bundle["type"] == "history"
    first, *rest = bundle["entry"]
    assert first["resource"]["resourceType"] == "Parameters"
    assert first["resource"]["meta"]["profile"] == [f"{IG}/backport-subscription-status-r4"]
    assert first["request"]["url"].endswith("/$status")
    assert all({"request", "response", "fullUrl"} <= set(one) for one in bundle["entry"])
    assert call.status["events-since-subscription-start"] == "1"
    assert call.numbers == [1]
    (event,) = call.status["notification-event"]
    if content == "empty":
        assert (rest, "topic" in call.status, "focus" in event) == ([], False, False)
        return
    assert event["focus"] == rest[0]["fullUrl"] == focus
    assert call.status["topic"] == f"{TOPICS}/diagnosticreport-final"
    if content == "id-only":
        assert "resource" not in rest[0]
    else:
        assert rest[0]["resource"]["id"] == made["id"]
        assert rest[0]["resource"]["status"] == "final"


def test_notifications_are_valid_fhir(ehr, everything, receiver, stored_patient):
    patient = f"DiagnosticReport?patient=Patient/{stored_patient['id']}"
    body = topical(receiver, "diagnosticreport-final", content="full-resource", filters=[patient])
    subscribe(ehr, body)
    create(everything, report(stored_patient))

    (call,) = receiver.events(1)

    bundle = call.json
    for part in [bundle, *(one["resource"] for one in bundle["entry"])]:
        part.pop("meta", None)  # the IG's profiles are not in the validator
    answer = everything.post("Bundle/$validate", json=bundle)
    found = [i for i in answer.json()["issue"] if i["severity"] in ("error", "fatal")]
    assert found == []


def test_a_preliminary_report_is_of_another_topic_and_its_final_version_of_this(
    ehr, everything, receiver, stored_patient
):
    patient = f"DiagnosticReport?patient={stored_patient['id']}"
    subscribe(ehr, topical(receiver, "diagnosticreport-final", filters=[patient]))
    early = Receiver().open()
    subscribe(ehr, topical(early, "diagnosticreport-preliminary", filters=[patient]))

    made = create(everything, report(stored_patient, "preliminary"))
    assert len(early.events(1)) == 1
    everything.put(f"DiagnosticReport/{made['id']}", json={**made, "status": "final"})
    final = receiver.events(1)
    everything.put(f"DiagnosticReport/{made['id']}", json={**made, "status": "amended"})

    assert receiver.events(2)[0].numbers == final[0].numbers == [1]
    assert [n for one in receiver.calls for n in one.numbers] == [1, 2]
    assert [n for one in early.calls for n in one.numbers] == [1]
    early.close()


@pytest.mark.parametrize(
    "filters",
    [
        ["ImagingStudy?modality=MR"],
        ["ImagingStudy?modality=CT,MR"],
        ["ImagingStudy?modality=http://dicom.nema.org/resources/ontology/DCM|MR"],
        ["ImagingStudy?modality=MR&patient=Patient/{patient}"],
        ["ImagingStudy?modality=MR", "ImagingStudy?patient={patient}"],
        ["ImagingStudy?identifier=urn:dicom:uid|urn:oid:{uid}"],
    ],
)
def test_filters_let_through_what_they_say(
    ehr, everything, receiver, stored_patient, other_patient, unique, filters
):
    uid = f"2.25.{int(unique, 16)}"
    filled = [one.format(patient=stored_patient["id"], uid=f"{uid}.1") for one in filters]
    subscribe(ehr, topical(receiver, "imagingstudy-available", filters=filled))

    wanted = create(everything, study(stored_patient, f"{uid}.1", "MR"))
    create(everything, study(stored_patient, f"{uid}.2", "US"))
    create(everything, study(other_patient, f"{uid}.3", "XA"))
    done = create(everything, study(stored_patient, f"{uid}.4", "MR"))

    focuses = [
        event["focus"].rpartition("/")[2]
        for call in receiver.events(1)
        for event in call.status["notification-event"]
    ]
    assert focuses[0] == wanted["id"]
    assert done["id"] != wanted["id"]


def test_several_events_come_in_order_and_no_more_at_once_than_asked_for(
    ehr, everything, receiver, stored_patient
):
    patient = f"DiagnosticReport?patient={stored_patient['id']}"
    body = topical(
        receiver,
        "diagnosticreport-final",
        filters=[patient],
        extensions=[("max-count", "valuePositiveInt", 2)],
    )
    subscribe(ehr, body)
    receiver.answer = 503  # so that several wait together

    made = [create(everything, report(stored_patient))["id"] for _ in range(5)]
    time.sleep(1)
    receiver.answer = 200

    calls = receiver.events(5)
    events = [one for call in calls for one in call.status["notification-event"]]
    assert [int(one["event-number"]) for one in events] == [1, 2, 3, 4, 5]
    assert [one["focus"].rpartition("/")[2] for one in events] == made
    assert max(len(call.numbers) for call in calls) == 2


def test_a_quiet_subscription_is_told_that_it_is_alive(ehr, receiver, stored_patient):
    body = topical(
        receiver,
        "diagnosticreport-final",
        filters=[f"DiagnosticReport?patient={stored_patient['id']}"],
        extensions=[("heartbeat-period", "valueUnsignedInt", 1)],
    )
    subscribe(ehr, body)

    calls = receiver.wait(lambda calls: [c.kind for c in calls].count("heartbeat") >= 2)

    assert calls[-1].status["events-since-subscription-start"] == "0"
    assert len(calls[-1].json["entry"]) == 1


def test_status_and_events_can_be_asked_for(ehr, everything, receiver, stored_patient, config):
    patient = f"DiagnosticReport?patient={stored_patient['id']}"
    url = subscribe(ehr, topical(receiver, "diagnosticreport-final", filters=[patient]))
    made = [create(everything, report(stored_patient))["id"] for _ in range(3)]
    receiver.events(3)

    status = ehr.get(f"{url}/$status").json()
    listed = ehr.get("Subscription/$status", params={"status": "active"}).json()
    nothing = ehr.get("Subscription/$status", params={"status": "error"}).json()
    events = ehr.get(f"{url}/$events", params={"eventsSinceNumber": 2}).json()
    first = ehr.get(f"{url}/$events?eventsUntilNumber=1&content=empty").json()

    (entry,) = status["entry"]
    values = {one["name"]: one for one in entry["resource"]["parameter"]}
    assert status["type"] == listed["type"] == "searchset"
    assert values["type"]["valueCode"] == "query-status"
    assert values["status"]["valueCode"] == "active"
    assert values["events-since-subscription-start"]["valueString"] == "3"
    assert (listed["total"], nothing["total"]) == (1, 0)
    assert [one["fullUrl"].rpartition("/")[2] for one in events["entry"][1:]] == made[1:]
    assert events["type"] == "history"
    assert len(first["entry"]) == 1


def test_a_subscription_that_failed_for_long_is_in_error_and_delivers_all_when_set_right(
    ehr, everything, receiver, stored_patient
):
    patient = f"DiagnosticReport?patient={stored_patient['id']}"
    url = subscribe(ehr, topical(receiver, "diagnosticreport-final", filters=[patient]))
    receiver.answer = 500
    create(everything, report(stored_patient))
    until(lambda: ehr.get(url).json()["status"] == "error", "in error", 30)
    create(everything, report(stored_patient))  # while nothing is sent
    receiver.answer = 200
    time.sleep(1)
    assert [one.kind for one in receiver.calls] == ["handshake"]

    held = ehr.get(url).json()
    again = ehr.put(url, json={**held, "status": "requested"})

    assert again.status_code == 200
    calls = receiver.events(2)
    assert [n for one in calls for n in one.numbers] == [1, 2]
    assert ehr.get(url).json()["status"] == "active"


def test_what_the_receiver_missed_while_it_was_away_is_delivered_once_it_is_back(
    ehr, everything, receiver, stored_patient
):
    patient = f"DiagnosticReport?patient={stored_patient['id']}"
    subscribe(ehr, topical(receiver, "diagnosticreport-final", filters=[patient]))
    receiver.close()
    made = [create(everything, report(stored_patient))["id"] for _ in range(3)]
    time.sleep(1)

    receiver.open()

    events = [one for call in receiver.events(3) for one in call.status["notification-event"]]
    assert [one["focus"].rpartition("/")[2] for one in events] == made


def test_what_happened_while_the_gateway_was_away_is_delivered_when_it_is_back(
    ehr, everything, receiver, stored_patient, notifier
):
    patient = f"DiagnosticReport?patient={stored_patient['id']}"
    subscribe(ehr, topical(receiver, "diagnosticreport-final", filters=[patient]))
    notifier.stop()
    made = create(everything, report(stored_patient, "preliminary"))
    everything.put(f"DiagnosticReport/{made['id']}", json={**made, "status": "final"})
    time.sleep(1)

    notifier.start()

    (call,) = receiver.events(1)
    assert call.numbers == [1]


def test_an_outage_of_the_store_delays_and_loses_nothing(
    ehr, everything, receiver, stored_patient, hapi_relay, hapi
):
    patient = f"DiagnosticReport?patient={stored_patient['id']}"
    subscribe(ehr, topical(receiver, "diagnosticreport-final", filters=[patient]))
    hapi_relay.close()
    try:
        made = hapi.client.post("DiagnosticReport", json=report(stored_patient))
        time.sleep(1.5)
    finally:
        hapi_relay.open()

    assert made.status_code == 201
    (call,) = receiver.events(1, 40)
    assert call.numbers == [1]


def test_the_operation_for_websockets_is_not_there(ehr, receiver):
    url = subscribe(ehr, topical(receiver, "diagnosticreport-final"))

    assert_refused(ehr.get(f"{url}/$get-ws-binding-token"), 404)


def test_an_end_that_has_come_turns_it_off(ehr, receiver):
    end = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    body = {**topical(receiver, "diagnosticreport-final"), "end": end}
    url = subscribe(ehr, body)

    until(lambda: ehr.get(url).json()["status"] == "off", "off")


def test_the_capability_statement_names_topics_profile_and_operations(everything):
    statement = everything.get("metadata").json()

    (one,) = [r for r in statement["rest"][0]["resource"] if r["type"] == "Subscription"]
    topics = {
        e["valueCanonical"]
        for e in one["extension"]
        if e["url"] == f"{IG}/capabilitystatement-subscriptiontopic-canonical"
    }
    assert one["supportedProfile"] == [f"{IG}/backport-subscription"]
    assert topics == {
        f"{TOPICS}/{name}"
        for name in (
            "imagingstudy-available",
            "diagnosticreport-final",
            "diagnosticreport-preliminary",
        )
    }
    assert {"status", "events"} <= {o["name"] for o in one["operation"]}
