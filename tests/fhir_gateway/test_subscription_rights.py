"""R4 rest-hooks: who may subscribe, to what, and where to; each sees its own only."""

from __future__ import annotations

import time

import httpx
import pytest

from access.audit import AuditEventKind
from access.audit.verify import records as spooled
from tests.fhir_gateway.resources import assert_refused, new_observation
from tests.fhir_gateway.subscribers import (
    classic,
    of,
    subscribe,
    topical,
    until,
    updates,
)


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
        timeout=60,
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
