"""R4 rest-hooks of system clients: what is told, in order, and that nothing is lost."""

from __future__ import annotations

import time

from tests.fhir_gateway.resources import new_observation, new_patient
from tests.fhir_gateway.subscribers import (
    R4_SCOPES,
    classic,
    of,
    subscribe,
    updates,
)


def test_a_match_is_sent_as_an_update_with_the_clients_header(
    client, everything, receiver, stored_patient
):
    body = classic(receiver, of(stored_patient), header=["Authorization: Bearer of-the-receiver"])
    subscribe(client, body)

    made = everything.post("Observation", json=new_observation(stored_patient)).json()

    (call,) = updates(receiver.wait(lambda calls: updates(calls)))
    assert call.path == f"/hook/Observation/{made['id']}"
    assert call.headers["Authorization"] == "Bearer of-the-receiver"
    assert call.headers["Content-Type"] == "application/fhir+json"
    assert call.json["id"] == made["id"]


def test_without_a_payload_the_receiver_is_only_called(
    client, everything, receiver, stored_patient
):
    body = classic(receiver, of(stored_patient))
    del body["channel"]["payload"]
    subscribe(client, body)
    receiver.wait(lambda calls: len(calls) == 1)  # the handshake

    everything.post("Observation", json=new_observation(stored_patient))

    calls = receiver.wait(lambda calls: len(calls) == 2)
    assert [(one.method, one.path, one.body) for one in calls] == [("POST", "/hook", b"")] * 2


def test_what_does_not_match_is_not_sent(client, everything, receiver, stored_patient, unique):
    subscribe(client, classic(receiver, f"{of(stored_patient)}&status=amended"))
    other = everything.post("Patient", json=new_patient(f"{unique}-o")).json()

    everything.post("Observation", json=new_observation(stored_patient))
    everything.post("Observation", json=new_observation(other, status="amended"))
    wanted = everything.post("Observation", json=new_observation(stored_patient, status="amended"))

    calls = updates(receiver.wait(lambda calls: updates(calls)))
    assert [one.json["id"] for one in calls] == [wanted.json()["id"]]


def test_an_update_that_comes_to_match_is_sent(client, everything, receiver, observation):
    patient = observation["subject"]["reference"]
    subscribe(client, classic(receiver, f"Observation?patient={patient}&status=amended"))

    url = f"Observation/{observation['id']}"
    everything.put(url, json={**observation, "status": "amended"})

    (call,) = updates(receiver.wait(lambda calls: updates(calls)))
    assert call.json["meta"]["versionId"] == "2"


def test_a_storm_of_updates_is_told_in_order_and_ends_with_the_last(
    client, everything, receiver, observation
):
    patient = observation["subject"]["reference"]
    subscribe(client, classic(receiver, f"Observation?patient={patient}"))

    current = observation
    for n in range(30):
        text = {"text": f"size {n}"}
        current = everything.put(
            f"Observation/{observation['id']}", json={**current, "code": text}
        ).json()

    last = current["meta"]["versionId"]
    calls = updates(
        receiver.wait(
            lambda calls: any(one.json["meta"]["versionId"] == last for one in updates(calls))
        )
    )
    told = [int(one.json["meta"]["versionId"]) for one in calls]
    assert told == sorted(told)


def test_a_receiver_that_was_down_gets_all_of_it_once(client, everything, receiver, stored_patient):
    subscribe(client, classic(receiver, of(stored_patient)))
    receiver.close()
    made = [
        everything.post("Observation", json=new_observation(stored_patient)).json()["id"]
        for _ in range(5)
    ]
    time.sleep(2)

    receiver.open()

    calls = updates(receiver.wait(lambda calls: len(updates(calls)) >= 5))
    time.sleep(1)
    assert [one.json["id"] for one in calls] == made
    assert len(updates(receiver.calls)) == 5


def test_a_receiver_that_fails_in_between_is_called_again_until_it_takes_it(
    client, everything, receiver, stored_patient
):
    subscribe(client, classic(receiver, of(stored_patient)))
    receiver.answer = 503
    made = everything.post("Observation", json=new_observation(stored_patient)).json()
    time.sleep(1)

    receiver.answer = 200

    (call,) = updates(receiver.wait(lambda calls: updates(calls)))
    assert call.json["id"] == made["id"]


def test_what_happened_while_the_gateway_was_killed_is_delivered(
    client, everything, receiver, stored_patient, notifier
):
    subscribe(client, classic(receiver, of(stored_patient)))
    notifier.stop()
    made = everything.post("Observation", json=new_observation(stored_patient)).json()
    time.sleep(1)

    notifier.start()

    (call,) = updates(receiver.wait(lambda calls: updates(calls)))
    assert call.json["id"] == made["id"]


def test_each_event_is_told_once_in_the_order_of_its_happening(
    client, everything, receiver, stored_patient
):
    subscribe(client, classic(receiver, of(stored_patient)))
    made = [
        everything.post("Observation", json=new_observation(stored_patient)).json()["id"]
        for _ in range(3)
    ]

    calls = updates(receiver.wait(lambda calls: len(updates(calls)) >= 3))

    assert [one.json["id"] for one in calls] == made


def test_a_redirect_is_not_followed(client, everything, receiver, stored_patient):
    subscribe(client, classic(receiver, of(stored_patient)))
    receiver.answer = 302
    everything.post("Observation", json=new_observation(stored_patient))
    time.sleep(1)
    receiver.answer = 200

    calls = receiver.wait(lambda calls: updates(calls))

    assert all(one.path.startswith("/hook") for one in calls)


def test_what_the_client_may_not_read_is_not_sent(
    client_for, everything, receiver, stored_patient, unique, notifier
):
    scope = "system/Subscription.cruds system/Observation.rs?category=laboratory"
    narrow = client_for(scope, client=f"narrow-{unique}")
    url = subscribe(narrow, classic(receiver, of(stored_patient)))
    system = "http://terminology.hl7.org/CodeSystem/observation-category"

    def of_category(code):
        category = [{"coding": [{"system": system, "code": code}]}]
        return new_observation(stored_patient, category=category)

    everything.post("Observation", json=of_category("vital-signs"))
    seen = everything.post("Observation", json=of_category("laboratory")).json()

    calls = updates(receiver.wait(lambda calls: updates(calls)))
    assert [one.json["id"] for one in calls] == [seen["id"]]
    narrow.delete(url)


def test_a_client_that_lost_its_rights_is_told_nothing_more(
    client_for, everything, receiver, stored_patient, unique, notifier, rights
):
    name = f"fallen-{unique}"
    fallen = client_for(R4_SCOPES, client=name)
    url = subscribe(fallen, classic(receiver, of(stored_patient)))

    rights[name] = "system/Subscription.cruds system/Patient.rs"
    everything.post("Observation", json=new_observation(stored_patient))
    time.sleep(2)

    assert updates(receiver.calls) == []
    fallen.delete(url)
