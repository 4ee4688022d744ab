"""`$export` gives exactly what searches find."""

from __future__ import annotations

import json
import time
import uuid

import pytest

from tests.hapi.conftest import SYSTEM

TIMEOUT_S = 60.0
OBSERVATIONS = 7


@pytest.fixture(scope="module")
def cohort(hapi):
    """A group of two patients with observations, and a patient outside of it."""
    tag = uuid.uuid4().hex
    patients = []
    for number in range(3):
        body = {
            "resourceType": "Patient",
            "identifier": [{"system": SYSTEM, "value": f"{tag}-{number}"}],
        }
        patients.append(hapi.client.post("Patient", json=body).json()["id"])
    entries = [
        {
            "resource": {
                "resourceType": "Observation",
                "status": "final",
                "code": {"text": "volume"},
                "subject": {"reference": f"Patient/{who}"},
            },
            "request": {"method": "POST", "url": "Observation"},
        }
        for who in patients
        for _ in range(OBSERVATIONS)
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    assert hapi.client.post("", json=bundle).status_code == 200
    group = {
        "resourceType": "Group",
        "type": "person",
        "actual": True,
        "member": [{"entity": {"reference": f"Patient/{who}"}} for who in patients[:2]],
    }
    return hapi.client.post("Group", json=group).json()["id"]


def export(hapi, path, types):
    """Run an export; the ids of each type."""
    begun = hapi.client.get(
        f"{path}$export", params={"_type": types}, headers={"Prefer": "respond-async"}
    )
    assert begun.status_code == 202, begun.text
    where = begun.headers["content-location"]
    deadline = time.monotonic() + TIMEOUT_S
    while (poll := hapi.client.get(where)).status_code == 202:
        assert time.monotonic() < deadline, "the export did not end"
        time.sleep(0.3)
    assert poll.status_code == 200, poll.text
    found = {}
    for part in poll.json()["output"]:
        file = hapi.client.get(part["url"], headers={"Accept": "application/fhir+ndjson"})
        assert file.headers["content-type"].startswith("application/fhir+ndjson")
        rows = [json.loads(line) for line in file.text.splitlines()]
        assert {row["resourceType"] for row in rows} == {part["type"]}
        found.setdefault(part["type"], []).extend(row["id"] for row in rows)
    return found


def count(hapi, type_):
    return hapi.client.get(type_, params={"_summary": "count"}).json()["total"]


def test_a_system_export_has_each_resource_once(hapi, cohort):
    found = export(hapi, "", "Patient,Observation")

    assert {t: len(ids) for t, ids in found.items()} == {
        t: count(hapi, t) for t in ("Patient", "Observation")
    }
    assert all(len(ids) == len(set(ids)) for ids in found.values())


def test_a_patient_export_has_each_patient_once(hapi, cohort):
    found = export(hapi, "Patient/", "Patient,Observation")

    assert len(set(found["Patient"])) == len(found["Patient"]) == count(hapi, "Patient")
    assert len(found["Observation"]) == count(hapi, "Observation")


def test_a_group_export_has_only_its_members(hapi, cohort):
    found = export(hapi, f"Group/{cohort}/", "Patient,Observation")

    assert len(found["Patient"]) == 2
    assert len(found["Observation"]) == 2 * OBSERVATIONS
