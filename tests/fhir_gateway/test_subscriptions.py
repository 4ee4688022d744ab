"""R4 rest-hooks of system clients: who may, where to, what for, and that nothing is lost."""

from __future__ import annotations

import dataclasses
import time

import pytest

from access.audit import AuditEventKind
from access.audit.verify import records as spooled
from tests.fhir_gateway.resources import assert_refused, new_observation, new_patient
from tests.fhir_gateway.subscribers import Notifier, Receiver, classic, topical, until

SCOPES = "system/Subscription.cruds system/Patient.rs system/Observation.rs"


@pytest.fixture
def receiver():
    opened = Receiver().open()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def rights():
    """What is left of a client's scopes, by client; as the client register says it."""
    return {}


@pytest.fixture(scope="module")
def notifier(config, door, rights):
    settings = dataclasses.replace(
        config.subscriptions, standing=lambda client, scopes: rights.get(client)
    )
    running = Notifier(dataclasses.replace(config, subscriptions=settings)).start()
    yield running
    running.stop()


@pytest.fixture
def client(client_for, unique, notifier):
    made = client_for(SCOPES, client=f"client-{unique}")
    yield made
    for one in made.get("Subscription").json().get("entry", []):
        made.delete(f"Subscription/{one['resource']['id']}")


def subscribe(client, body):
    made = client.post("Subscription", json=body)
    assert made.status_code == 201, made.text
    url = f"Subscription/{made.json()['id']}"
    until(lambda: client.get(url).json()["status"] == "active", "active")
    return url


def updates(calls):
    return [one for one in calls if one.method == "PUT"]


def of(patient):
    return f"Observation?patient=Patient/{patient['id']}"


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
    fallen = client_for(SCOPES, client=name)
    url = subscribe(fallen, classic(receiver, of(stored_patient)))

    rights[name] = "system/Subscription.cruds system/Patient.rs"
    everything.post("Observation", json=new_observation(stored_patient))
    time.sleep(2)

    assert updates(receiver.calls) == []
    fallen.delete(url)


@pytest.mark.parametrize(
    "scope",
    ["user/*.cruds", "user/Subscription.cruds system/*.rs", "system/Observation.rs", "system/*.rs"],
)
def test_only_system_clients_with_the_scope_may_subscribe(client_for, receiver, scope):
    someone = client_for(scope, client="someone")

    assert_refused(someone.post("Subscription", json=classic(receiver, "Observation?")), 403)


def test_a_machine_without_a_client_id_may_not_subscribe(client_for, receiver):
    nobody = client_for("system/*.cruds")

    assert_refused(nobody.post("Subscription", json=classic(receiver, "Observation?")), 403)


def test_a_patients_app_may_not_subscribe(authority, door, stored_patient, receiver):
    import httpx

    token = authority.mint(
        subject="p",
        scope="patient/*.cruds",
        lifetime_s=60,
        client="app",
        context={"patient": stored_patient["id"]},
    )
    answer = httpx.post(
        f"{door}/Subscription",
        json=classic(receiver, "Observation?"),
        headers={"Authorization": f"Bearer {token}"},
        trust_env=False,
    )

    assert_refused(answer, 403)


def test_subscribing_to_a_type_needs_the_scopes_to_read_and_search_it(client_for, receiver):
    narrow = client_for("system/Subscription.cruds system/Patient.r", client="narrow")

    assert_refused(narrow.post("Subscription", json=classic(receiver, "Patient?name=x")), 403)
    assert_refused(
        narrow.post("Subscription", json=topical(receiver, "diagnosticreport-final")), 403
    )


def test_a_client_sees_changes_and_removes_its_own_and_no_others(
    client, client_for, receiver, stored_patient
):
    url = subscribe(client, classic(receiver, of(stored_patient), header=["X-Key: very-secret"]))
    other = client_for("system/*.cruds", client="other")

    refused = [
        other.get(url),
        other.put(url, json=classic(receiver, of(stored_patient))),
        other.delete(url),
        other.get(f"{url}/$status"),
        other.get(f"{url}/$events"),
    ]

    for one in refused:
        assert_refused(one, 404)
    assert other.get("Subscription").json()["total"] == 0
    assert other.get("Subscription/$status").json()["total"] == 0
    assert client.get("Subscription").json()["total"] == 1
    assert client.delete(url).status_code == 204
    assert_refused(client.get(url), 404)


def test_a_header_is_shown_to_nobody_and_kept_when_it_comes_back_as_shown(
    client, everything, receiver, stored_patient, hapi
):
    url = subscribe(client, classic(receiver, of(stored_patient), header=["X-Key: very-secret"]))
    shown = client.get(url)
    held = shown.json()

    again = client.put(url, json={**held, "status": "requested"})
    until(lambda: client.get(url).json()["status"] == "active", "active")
    everything.post("Observation", json=new_observation(stored_patient))

    (call,) = updates(receiver.wait(lambda calls: updates(calls)))
    assert call.headers["X-Key"] == "very-secret"
    everywhere = [shown.text, again.text, client.get("Subscription").text]
    everywhere.append(hapi.client.get("Subscription?_count=200").text)
    assert all("very-secret" not in text for text in everywhere)
    assert held["channel"]["header"] == ["X-Key: (not shown)"]


def test_a_stale_change_is_refused(client, receiver, stored_patient):
    url = subscribe(client, classic(receiver, of(stored_patient)))
    body = classic(receiver, of(stored_patient))

    first = client.put(url, json=body, headers={"If-Match": 'W/"1"'})
    second = client.put(url, json=body, headers={"If-Match": 'W/"1"'})

    assert first.status_code == 200
    assert_refused(second, 412)


def test_a_client_may_have_only_so_many(client, receiver, config, stored_patient):
    body = {**classic(receiver, of(stored_patient)), "status": "off"}
    answers = [client.post("Subscription", json=body) for _ in range(31)]

    assert [one.status_code for one in answers].count(201) == config.subscriptions.per_client
    assert_refused(answers[-1], 422)


def test_one_that_is_off_is_told_nothing(client, everything, receiver, stored_patient):
    url = subscribe(client, classic(receiver, of(stored_patient)))
    client.put(url, json={**classic(receiver, of(stored_patient)), "status": "off"})

    everything.post("Observation", json=new_observation(stored_patient))
    time.sleep(1.5)

    assert updates(receiver.calls) == []
    assert client.get(url).json()["status"] == "off"


def test_one_that_is_on_again_is_told_what_happens_from_then_on(
    client, everything, receiver, stored_patient
):
    body = classic(receiver, of(stored_patient))
    url = subscribe(client, body)
    client.put(url, json={**body, "status": "off"})
    everything.post("Observation", json=new_observation(stored_patient))
    time.sleep(0.1)

    client.put(url, json=body)
    until(lambda: client.get(url).json()["status"] == "active", "active")
    wanted = everything.post("Observation", json=new_observation(stored_patient)).json()

    (call,) = updates(receiver.wait(lambda calls: updates(calls)))
    assert call.json["id"] == wanted["id"]


@pytest.mark.parametrize(
    "criteria",
    [
        "Observation?code:missing=true",
        "Observation?subject:missing=false",
        "Observation?patient.name=x",
        "Observation?_has:Provenance:target:agent=x",
        "Observation?_include=Observation:patient",
        "Observation?_sort=date",
        "Observation?_count=1",
        "Observation?never-was=x",
        "Observation",
        "NeverWas?x=y",
        "",
    ],
)
def test_criteria_that_are_no_plain_filter_are_refused(client, receiver, criteria):
    answer = client.post("Subscription", json=classic(receiver, criteria))

    assert answer.status_code in (400, 403, 404, 422)
    assert_refused(answer, answer.status_code)


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://elsewhere.example.org/hook",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/hook",
        "http://[::1]:8080/hook",
        "http://[::ffff:127.0.0.1]/hook",
        "http://2130706433/hook",
        "http://127.0.0.1.example.org/hook",
        "http://user:password@127.0.0.1/hook",
        "http://127.0.0.1/hook#x",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "http://127.0.0.1:99999/hook",
        "http://",
        "not a url",
    ],
)
def test_an_endpoint_that_may_not_be_called_is_refused(client, endpoint):
    assert_refused(client.post("Subscription", json=classic(endpoint, "Observation?code=x")), 422)


@pytest.mark.parametrize(
    "header",
    [
        "Host: elsewhere",
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "X-Key: a\r\nX-Other: b",
        "no colon",
        "X-Key: " + "x" * 5000,
    ],
)
def test_a_header_that_could_change_the_call_is_refused(client, receiver, header):
    body = classic(receiver, "Observation?code=x", header=[header])

    assert_refused(client.post("Subscription", json=body), 422)


def test_a_body_that_is_no_subscription_is_refused(client):
    assert_refused(client.post("Subscription", content=b"{"), 400)
    assert_refused(client.post("Subscription", json=[1]), 422)
    assert_refused(client.post("Subscription", content=b" " * 100_000), 413)


def test_subscriptions_go_by_no_other_door(client_for, everything, receiver, unique):
    machine = client_for("system/*.cruds", client=f"m-{unique}")
    bundle = {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [
            {
                "resource": classic(receiver, "Observation?code=x"),
                "request": {"method": "POST", "url": "Subscription"},
            }
        ],
    }

    answer = machine.post("", json=bundle)

    assert answer.json()["entry"][0]["response"]["status"].startswith("404")
    assert_refused(machine.get("Subscription/_history"), 404)
    assert_refused(machine.patch("Subscription/x", json=[]), 404)


def test_changes_of_subscriptions_and_refusals_are_audited(
    client, client_for, receiver, config, stored_patient
):
    url = subscribe(client, classic(receiver, of(stored_patient)))
    client.delete(url)
    client_for("user/*.cruds", client="x").post("Subscription", json={})

    found = [one.record for one in spooled(config.audit_folder)]

    assert [one.action for one in found if one.resource == url] == ["C", "D"]
    denied = [
        one
        for one in found
        if one.event is AuditEventKind.DENIED and "for system clients" in (one.detail or "")
    ]
    assert denied
