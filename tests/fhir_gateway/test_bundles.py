"""Batches, transactions and pages: each entry is judged, each page is for its caller."""

from __future__ import annotations

import httpx
import pytest

from tests.fhir_gateway.resources import (
    SYSTEM,
    assert_refused,
    bundle,
    entry,
    new_observation,
    new_patient,
)


def test_a_transaction_with_one_forbidden_entry_stores_nothing(client_for, everything, unique):
    client = client_for("system/Patient.crus")
    body = bundle(
        "transaction",
        entry("POST", "Patient", new_patient(unique)),
        entry("POST", "Organization", {"resourceType": "Organization", "name": unique}),
    )

    answer = client.post("", json=body)

    assert_refused(answer, 403)
    assert everything.get(f"Patient?identifier={SYSTEM}|{unique}").json()["total"] == 0


def test_a_batch_does_what_is_allowed_and_says_what_is_not(client_for, stored_patient):
    client = client_for("system/Patient.rs")
    body = bundle(
        "batch",
        entry("GET", "Observation?status=final"),
        entry("GET", f"Patient/{stored_patient['id']}"),
        entry("DELETE", f"Patient/{stored_patient['id']}"),
        entry("GET", f"Patient?_id={stored_patient['id']}&birthdate=ge1980"),
    )

    answer = client.post("", json=body)

    entries = answer.json()["entry"]
    assert [e["response"]["status"][:3] for e in entries] == ["403", "200", "403", "200"]
    assert entries[1]["resource"]["id"] == stored_patient["id"]
    assert len(entries[3]["resource"]["entry"]) == 1


@pytest.mark.parametrize(
    "entries",
    [
        [entry("POST", "http://elsewhere/Patient", new_patient("x"))],
        [entry("POST", "Patient", {"resourceType": "Observation"})],
        [{"resource": new_patient("x")}],
        [entry("POST", "", bundle("transaction"))],
        [entry("GET", "Binary/1")],
        [
            entry(
                "POST",
                "Observation",
                new_observation({"id": "x"}, subject={"reference": "Patient?name=Smith"}),
            )
        ],
    ],
    ids=["foreign", "type", "no request", "nested", "binary", "inline condition"],
)
def test_a_bundle_entry_cannot_go_around_the_rules(client_for, entries):
    client = client_for("system/Observation.cruds system/Patient.c system/Binary.r")

    answer = client.post("", json=bundle("transaction", *entries))

    assert answer.status_code in (400, 403, 404)
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_pages_lead_to_the_end_and_only_for_who_searched(client_for, everything, unique, door):
    entries = [entry("POST", "Patient", new_patient(unique, active=n % 2 == 0)) for n in range(7)]
    stored = httpx.post(  # to the base without a slash, as clients do
        door,
        json=bundle("transaction", *entries),
        headers=everything.headers,
        trust_env=False,
        timeout=60,
    )
    assert stored.status_code == 200
    mine = client_for("system/Patient.rs", subject="one")
    other = client_for("system/Patient.rs", subject="two")

    seen, url, second = [], f"Patient?identifier={SYSTEM}|{unique}&_count=3", None
    while url:
        page = mine.get(url).json()
        seen += [e["resource"]["id"] for e in page["entry"]]
        url = next((one["url"] for one in page["link"] if one["relation"] == "next"), None)
        second = second or url

    assert len(set(seen)) == len(seen) == 7
    assert second.startswith(door)
    assert_refused(other.get(second), 403)
    assert_refused(other.get(second.split("&_grant")[0]), 403)
