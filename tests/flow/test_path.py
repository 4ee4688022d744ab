"""A study goes in by C-STORE; what comes out is complete, valid, and counted right."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from datetime import UTC, datetime

import pytest

from records.identifiers import SID
from tests.fixtures.peers import needs
from tests.fixtures.running import imaging_study, outcome, search, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.stack]

# How what the path wrote is found among what other tests have put into the same store.
OF_THE_PATH = {
    "Patient": {"_id": "{patient}"},
    "ImagingStudy": {"patient": "{patient}"},
    "Endpoint": {"identifier": f"{SID}/endpoint|"},
    "Task": {"patient": "{patient}"},
    "Observation": {"patient": "{patient}"},
    "DiagnosticReport": {"patient": "{patient}"},
    "Device": {"identifier": f"{SID}/model|,{SID}/device|"},
    "Provenance": {"target": "Patient/{patient},ImagingStudy/{study},DiagnosticReport/{report}"},
    "Media": {"patient": "{patient}"},
    "BodyStructure": {"patient": "{patient}"},
    "DocumentReference": {"patient": "{patient}"},
    "Organization": {"identifier": f"{SID}/organization|"},
}


def of_the_path(client, kind, done):
    names = {
        "patient": done["study"]["subject"]["reference"].removeprefix("Patient/"),
        "study": done["study"]["id"],
        "report": done["reports"][0]["id"],
    }
    query = {name: value.format(**names) for name, value in OF_THE_PATH[kind].items()}
    return search(client, kind, **query)


def test_the_study_ends_with_one_of_each_result(stack, demo_study):
    result = outcome(stack, demo_study["uid"])

    assert result["tasks"] == ["completed"]
    assert result["reports"] == 1
    assert result["series"] == {"MR": 4, "SEG": 1, "SR": 1, "DOC": 1, "KO": 0}
    assert result["instances"] == {"MR": 432, "SEG": 1, "SR": 1, "DOC": 1, "KO": 0}


def test_imaging_study_counts_equal_the_archive_with_the_results_in_it(stack, demo_study):
    with stack.client() as client:
        wait_for(
            lambda: imaging_study(client, demo_study["uid"])["numberOfInstances"] == 435,
            "the results to join the ImagingStudy",
        )
        study = imaging_study(client, demo_study["uid"])

    assert study["numberOfSeries"] == len(study["series"]) == 7
    assert sum(len(series["instance"]) for series in study["series"]) == 435


@pytest.mark.parametrize("kind", OF_THE_PATH)
def test_the_validator_finds_no_error_in_what_the_path_wrote(stack, demo_study, kind):
    with stack.client("system/*.cruds") as client:
        resources = of_the_path(client, kind, demo_study)
        errors = {}
        for resource in resources[:40]:
            answer = client.post(f"/fhir/{kind}/$validate", json=resource)
            assert answer.status_code in (200, 412), answer.text
            found = [
                issue["diagnostics"]
                for issue in answer.json()["issue"]
                if issue["severity"] in ("error", "fatal")
            ]
            if found:
                errors[resource["id"]] = found

    assert resources
    assert not errors


def test_clinical_resources_claim_their_us_core_profile(stack, demo_study):
    us_core = "http://hl7.org/fhir/us/core/StructureDefinition/"
    patient = demo_study["study"]["subject"]["reference"]
    expected = {
        "Patient": ("us-core-patient", {"_id": patient.removeprefix("Patient/")}),
        "Observation": ("us-core-observation-clinical-result", {"subject": patient}),
        "DiagnosticReport": ("us-core-diagnosticreport-note", {"subject": patient}),
        "Provenance": ("us-core-provenance", {"patient": patient}),
    }
    with stack.client() as client:
        for kind, (profile, query) in expected.items():
            found = search(client, kind, **query)
            assert found, kind
            for resource in found:
                claimed = [url.split("|")[0] for url in resource["meta"]["profile"]]
                assert us_core + profile in claimed


def test_renditions_have_the_size_and_hash_that_the_report_states(stack, demo_study):
    with stack.client() as client:
        for form in demo_study["reports"][0]["presentedForm"]:
            url = form["url"] if form["url"].startswith("http") else f"/fhir/{form['url']}"
            content = client.get(url, headers={"Accept": form["contentType"]}).content

            assert len(content) == form["size"]
            digest = hashlib.sha1(content, usedforsecurity=False).digest()
            assert base64.b64encode(digest).decode() == form["hash"]


@needs("dciodvfy")
@pytest.mark.parametrize("modality", ["SEG", "SR", "DOC"])
def test_dciodvfy_finds_no_error_in_our_objects(stack, demo_study, modality, tmp_path):
    uid = demo_study["uid"]
    with stack.client() as client:
        found = client.get(f"/dicomweb/studies/{uid}/instances", params={"Modality": modality})
        url = found.json()[0]["00081190"]["Value"][0]
        whole = client.get(url, headers={"Accept": "application/dicom"})
    path = tmp_path / "object.dcm"
    path.write_bytes(whole.content)

    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)

    lines = (done.stdout + done.stderr).splitlines()
    assert lines, "dciodvfy said nothing"
    assert not [line for line in lines if line.startswith("Error")]


def test_an_export_has_once_what_a_search_finds(stack, demo_study, tmp_path):
    types = ",".join(OF_THE_PATH)
    done = stack.run("export", str(tmp_path / "out"), "--type", types, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr

    exported: dict[str, list[str]] = {kind: [] for kind in OF_THE_PATH}
    for path in (tmp_path / "out").glob("*.ndjson"):
        for line in path.read_text().splitlines():
            resource = json.loads(line)
            assert path.name.startswith(resource["resourceType"])
            exported[resource["resourceType"]].append(resource["id"])

    with stack.client() as client:
        for kind, ids in exported.items():
            wanted = {one["id"] for one in of_the_path(client, kind, demo_study)}
            assert wanted <= set(ids), kind
            assert len(ids) == len(set(ids)), kind


def test_every_kind_of_access_is_in_the_audit_trail(stack, demo_study):
    patient = demo_study["study"]["subject"]["reference"]
    begun = datetime.now(UTC).isoformat(timespec="seconds")
    with stack.client() as client:
        client.get(f"/fhir/{patient}")
        client.get("/fhir/Observation", params={"patient": patient})
        client.post("/fhir/Basic", json={"resourceType": "Basic", "code": {"text": "audited"}})
        client.get("/fhir/Patient", headers={"Authorization": "Bearer wrong"})

        def complete() -> bool:
            events = search(client, "AuditEvent", _lastUpdated=f"ge{begun}", _count="200")
            actions = {event["action"] for event in events}
            return {"C", "R", "E"} <= actions and {event["outcome"] for event in events} > {"0"}

        wait_for(complete, "audit events of create, read, search and denial")
