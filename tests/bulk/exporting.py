"""Running an export to its end and reading its files, as a client does."""

from __future__ import annotations

import json
import time

KICK_OFF = {"Prefer": "respond-async"}
PATIENCE_S = 120.0


def kick_off(client, url, body=None, **headers):
    """The status URL of an accepted export."""
    sent = {**KICK_OFF, **headers}
    answer = (
        client.get(url, headers=sent)
        if body is None
        else client.post(url, json=parameters(body), headers=sent)
    )
    assert answer.status_code == 202, answer.text
    return answer.headers["content-location"]


def parameters(pairs):
    """A Parameters resource from (name, value or (type, value)) pairs."""
    listed = []
    for name, value in pairs:
        kind, content = value if isinstance(value, tuple) else ("valueString", value)
        listed.append({"name": name, kind: content})
    return {"resourceType": "Parameters", "parameter": listed}


def reference(patient):
    return ("valueReference", {"reference": f"Patient/{patient}"})


def finished(client, place, timeout_s=PATIENCE_S):
    """The answer that says the export is over."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        status = client.get(place)
        if status.status_code not in (202, 429):
            return status
        time.sleep(0.3)
    raise AssertionError(f"the export did not end: {status.headers}")


def exported(client, url, body=None, **headers):
    """The manifest of an export, run to its end."""
    status = finished(client, kick_off(client, url, body, **headers))
    assert status.status_code == 200, status.text
    return status.json()


def lines(client, file):
    """The resources of one file, checked against its entry."""
    answer = client.get(file["url"])
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/fhir+ndjson")
    found = [json.loads(line) for line in answer.text.split("\n")[:-1]]
    assert answer.text == "" or answer.text.endswith("\n")
    assert len(found) == file["count"]
    return found


def resources(client, manifest, part="output"):
    """Resources by type; each file has one type, and each resource is there once."""
    found = {}
    for file in manifest[part]:
        read = lines(client, file)
        assert {one["resourceType"] for one in read} == {file["type"]}
        found.setdefault(file["type"], []).extend(read)
    for kind, read in found.items():
        if part == "output":
            assert len({one["id"] for one in read}) == len(read), f"{kind} doubled"
    return found


def ids(client, manifest):
    """Ids by type."""
    return {k: {one["id"] for one in v} for k, v in resources(client, manifest).items()}
