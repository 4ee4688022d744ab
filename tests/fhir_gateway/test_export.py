"""`$export` through the door: counts equal searches, files are for their owner only."""

from __future__ import annotations

import json
import time

import pytest

SYSTEM = "https://hilum.dev/fhir/sid/test-export"
KICK_OFF = {"Prefer": "respond-async"}


def exported(client, url, timeout_s=60.0):
    """Run an export to its end and return the manifest."""
    started = client.get(url, headers=KICK_OFF)
    assert started.status_code == 202, started.text
    place = started.headers["content-location"]
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        status = client.get(place)
        if status.status_code == 200:
            return place, status
        assert status.status_code == 202, status.text
        assert status.headers["retry-after"].isdigit() and status.headers["x-progress"]
        time.sleep(0.3)
    raise AssertionError("the export did not end")


def rows(client, manifest):
    """Resources by type, with each file checked."""
    found = {}
    for file in manifest["output"]:
        answer = client.get(file["url"])
        assert answer.headers["content-type"].startswith("application/fhir+ndjson")
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert len(lines) == file["count"]
        assert {line["resourceType"] for line in lines} == {file["type"]}
        found.setdefault(file["type"], []).extend(lines)
    return found


@pytest.fixture(scope="module")
def group(everything):
    """A group of two patients with an observation each; another observation has no patient."""
    free = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    everything.post("Observation", json=free)
    ids = []
    for n in range(2):
        patient = everything.post(
            "Patient",
            json={
                "resourceType": "Patient",
                "identifier": [{"system": SYSTEM, "value": str(n)}],
                "name": [{"family": "Export"}],
                "gender": "unknown",
            },
        ).json()["id"]
        everything.post(
            "Observation",
            json={
                "resourceType": "Observation",
                "status": "final",
                "code": {"text": "x"},
                "subject": {"reference": f"Patient/{patient}"},
            },
        )
        ids.append(patient)
    members = [{"entity": {"reference": f"Patient/{one}"}} for one in ids]
    body = {"resourceType": "Group", "type": "person", "actual": True, "member": members}
    return everything.post("Group", json=body).json()["id"]


@pytest.mark.parametrize("level", ["$export", "Patient/$export"])
def test_counts_equal_searches(everything, group, level):
    _, status = exported(everything, f"{level}?_type=Patient,Observation")

    manifest = status.json()
    found = rows(everything, manifest)
    for kind in ("Patient", "Observation"):
        about = "&patient:missing=false" if kind == "Observation" and "Patient/" in level else ""
        total = everything.get(f"{kind}?_summary=count{about}").json()["total"]
        assert len(found[kind]) == total
    assert manifest["requiresAccessToken"] is True
    assert manifest["error"] == []
    assert manifest["request"].endswith(f"{level}?_type=Patient,Observation")
    assert "expires" in status.headers


def test_an_export_of_all_patients_holds_all_their_types(everything, group):
    _, status = exported(everything, "Patient/$export")

    found = rows(everything, status.json())

    assert {"Patient", "Observation"} <= set(found)
    assert not {"Subscription", "SearchParameter", "Binary"} & set(found)


def test_a_group_export_holds_its_members_only(everything, group):
    _, status = exported(everything, f"Group/{group}/$export?_type=Patient,Observation")

    found = rows(everything, status.json())

    assert {kind: len(lines) for kind, lines in found.items()} == {"Patient": 2, "Observation": 2}


def test_the_token_decides_what_is_exported(client_for, group):
    client = client_for("system/Patient.rs system/Observation.s")

    _, status = exported(client, f"Group/{group}/$export")

    assert {file["type"] for file in status.json()["output"]} == {"Patient"}
    assert client.get(f"Group/{group}/$export?_type=Observation").status_code == 403
    assert client_for("system/Patient.r").get("$export").status_code == 403


def test_status_and_files_are_for_their_owner_only(client_for, everything, group):
    place, status = exported(everything, f"Group/{group}/$export?_type=Patient")
    file = status.json()["output"][0]["url"]

    for other in (
        client_for("system/*.cruds", subject="stranger"),
        client_for("system/*.cruds", client="other-app"),
    ):
        assert other.get(place).status_code == 404
        assert other.get(file).status_code == 404
        assert other.delete(place).status_code == 404
    narrow = client_for("system/Observation.rs")  # the same subject, with less
    assert narrow.get(file).status_code == 403


def test_a_deleted_export_is_gone(everything, group):
    place, status = exported(everything, f"Group/{group}/$export?_type=Patient")

    removed = everything.delete(place)

    assert removed.status_code == 202
    assert everything.get(place).status_code == 404
    assert everything.get(status.json()["output"][0]["url"]).status_code == 404


def test_a_running_export_can_be_cancelled(everything):
    place = everything.get("$export", headers=KICK_OFF).headers["content-location"]

    assert everything.delete(place).status_code == 202
    assert everything.get(place).status_code == 404


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("_outputFormat=ndjson&_type=Patient", 202),
        ("_outputFormat=text/csv", 400),
        ("_type=NoSuchType", 400),
        ("_type=Binary", 400),
        ("_type=Subscription", 400),
        ("_since=yesterday", 400),
        ("_mdm=true", 400),
        ("_type=Patient&_since=2020-01-01T00:00:00Z", 202),
        ("_type=Patient&_typeFilter=Patient?birthdate=ge1980", 202),
        ("_type=Patient&_typeFilter=Patient?nonsense=1", 400),
    ],
)
def test_parameters_are_understood_or_refused(everything, query, status):
    answer = everything.get(f"$export?{query}", headers=KICK_OFF)

    assert answer.status_code == status, answer.text
    if status == 202:
        everything.delete(answer.headers["content-location"])


def test_kick_off_by_post_takes_parameters(everything, group):
    body = {
        "resourceType": "Parameters",
        "parameter": [{"name": "_type", "valueString": "Patient"}],
    }

    started = everything.post(f"Group/{group}/$export", json=body, headers=KICK_OFF)

    assert started.status_code == 202
    everything.delete(started.headers["content-location"])
