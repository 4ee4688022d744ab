"""Who is told of events, and who else is not; what is handed out is in the audit trail."""

from __future__ import annotations

import pytest

from access.audit import AuditEventKind
from access.audit.verify import records as spooled
from fhir_gateway.topics import catalogue
from tests.fhir_gateway.resources import assert_refused
from tests.fhir_gateway.subscribers import (
    EHR_SCOPES,
    Receiver,
    create,
    report,
    study,
    subscribe,
    topical,
    until,
)


def test_a_notification_that_hands_out_data_is_audited(
    ehr, everything, receiver, stored_patient, config
):
    patient = f"DiagnosticReport?patient={stored_patient['id']}"
    url = subscribe(ehr, topical(receiver, "diagnosticreport-final", filters=[patient]))
    made = create(everything, report(stored_patient))
    receiver.events(1)

    def found():
        return [
            one.record
            for one in spooled(config.audit_folder)
            if one.record.event is AuditEventKind.NOTIFY and one.record.resource == url
        ]

    (one,) = until(found, "audited")
    assert one.patients == (f"Patient/{stored_patient['id']}",)
    assert one.detail == f"DiagnosticReport/{made['id']}"
    assert one.caller.client.startswith("ehr-")


def test_what_a_receiver_did_not_take_was_recorded_before_it_left_and_after(
    ehr, everything, receiver, stored_patient, config
):
    patient = f"DiagnosticReport?patient={stored_patient['id']}"
    url = subscribe(ehr, topical(receiver, "diagnosticreport-final", filters=[patient]))
    receiver.answer = 503
    made = create(everything, report(stored_patient))

    def found():
        kept = [one.record for one in spooled(config.audit_folder) if one.record.resource == url]
        told = [one for one in kept if one.event is AuditEventKind.NOTIFY]
        return len(told) > 1 and told

    left, refused = until(found, "recorded")[:2]
    assert (left.outcome, left.detail) == ("success", f"DiagnosticReport/{made['id']}")
    assert (refused.outcome, refused.detail) == ("minor", f"not taken: {left.detail}")
    assert left.patients == refused.patients == (f"Patient/{stored_patient['id']}",)


def test_events_are_told_again_only_to_who_may_read_them_and_that_is_audited(
    ehr, everything, receiver, stored_patient, config, client_for, unique
):
    patient = f"DiagnosticReport?patient={stored_patient['id']}"
    url = subscribe(ehr, topical(receiver, "diagnosticreport-final", filters=[patient]))
    made = create(everything, report(stored_patient))
    receiver.events(1)
    narrow = client_for("system/Subscription.r", client=f"ehr-{unique}")

    told, withheld = ehr.get(f"{url}/$events"), narrow.get(f"{url}/$events")

    assert made["id"] in told.text
    assert withheld.status_code == 200
    assert made["id"] not in withheld.text
    reads = [
        one.record.patients
        for one in spooled(config.audit_folder)
        if one.record.resource == url and one.record.event is AuditEventKind.FHIR_READ
    ]
    assert reads == [(f"Patient/{stored_patient['id']}",), ()]


@pytest.mark.parametrize("number", ["²", "-1", "x", "9" * 30])
def test_an_event_number_that_is_none_is_refused(ehr, receiver, number):
    url = subscribe(ehr, topical(receiver, "diagnosticreport-final"))

    assert_refused(ehr.get(f"{url}/$events", params={"eventsSinceNumber": number}), 400)


def test_a_receiver_that_hangs_holds_up_no_other_client(
    ehr, client_for, everything, receiver, stored_patient, unique
):
    stuck, other = Receiver().open(), client_for(EHR_SCOPES, client=f"stuck-{unique}")
    filters = [f"DiagnosticReport?patient={stored_patient['id']}"]
    patient = {"filters": filters, "extensions": [("timeout", "valueUnsignedInt", 60)]}
    hanging = topical(stuck, "diagnosticreport-preliminary", **patient)
    urls = [subscribe(other, hanging) for _ in range(12)]
    subscribe(ehr, topical(receiver, "diagnosticreport-final", filters=filters))
    stuck.delay_s = 120
    made = create(everything, report(stored_patient, "preliminary"))
    stuck.wait_for_a_call()

    everything.put(f"DiagnosticReport/{made['id']}", json={**made, "status": "final"})

    (call,) = receiver.events(1)
    assert call.numbers == [1]
    for url in urls:
        other.delete(url)
    stuck.close()


def test_a_subscription_that_turns_to_another_type_is_told_nothing_of_the_first(
    ehr, everything, receiver, stored_patient, unique
):
    patient = f"DiagnosticReport?patient={stored_patient['id']}"
    body = topical(receiver, "diagnosticreport-final", filters=[patient])
    url = subscribe(ehr, body)
    before = create(everything, study(stored_patient, f"2.25.{int(unique, 16)}.1", "MR"))
    receiver.answer = 503
    create(everything, report(stored_patient))
    until(lambda: "error" in ehr.get(url).json(), "tried")
    other = topical(
        receiver,
        "imagingstudy-available",
        filters=[f"ImagingStudy?patient={stored_patient['id']}"],
    )
    assert ehr.put(url, json={**other, "id": url.partition("/")[2]}).status_code == 200
    receiver.answer = 200
    after = create(everything, study(stored_patient, f"2.25.{int(unique, 16)}.2", "MR"))

    (call,) = receiver.events(1)

    (event,) = call.status["notification-event"]
    assert event["focus"].rpartition("/")[2] == after["id"] != before["id"]
    assert call.numbers == [2]


def test_a_series_without_a_modality_stops_no_filter():
    (topic,) = [one for one in catalogue.TOPICS.values() if one.resource_type == "ImagingStudy"]
    of_two = {"status": "available", "series": [{"uid": "1.2"}, {"modality": {"code": "MR"}}]}

    assert topic.passes(of_two, {"modality": "MR"})
    assert not topic.passes(of_two, {"modality": "CT"})
