"""A study goes in by C-STORE; what comes out is complete, valid, and counted right."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess

import pytest

from tests.fixtures.peers import needs
from tests.fixtures.running import outcome, search

pytestmark = [pytest.mark.slow, pytest.mark.stack]

PATH_TYPES = (
    "Patient",
    "ImagingStudy",
    "Endpoint",
    "Task",
    "Observation",
    "DiagnosticReport",
    "Device",
    "Provenance",
    "Media",
    "BodyStructure",
    "DocumentReference",
    "Organization",
)


def test_the_study_ends_with_one_of_each_result(stack, demo_study):
    result = outcome(stack, demo_study["uid"])

    assert result["tasks"] == ["completed"]
    assert result["reports"] == 1
    assert result["series"] == {"MR": 4, "SEG": 1, "SR": 1, "DOC": 1}
    assert result["instances"] == {"MR": 432, "SEG": 1, "SR": 1, "DOC": 1}


def test_imaging_study_counts_equal_the_archive_with_the_results_in_it(stack, demo_study):
    from tests.fixtures.running import imaging_study, wait_for

    with stack.client() as client:
        wait_for(
            lambda: imaging_study(client, demo_study["uid"])["numberOfInstances"] == 435,
            "the results to join the ImagingStudy",
        )
        study = imaging_study(client, demo_study["uid"])

    assert study["numberOfSeries"] == len(study["series"]) == 7
    assert sum(len(series["instance"]) for series in study["series"]) == 435


@pytest.mark.parametrize("kind", PATH_TYPES)
def test_the_validator_finds_no_error_in_what_the_path_wrote(stack, demo_study, kind):
    with stack.client("system/*.cruds") as client:
        resources = search(client, kind)
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


def test_export_counts_equal_searches(stack, demo_study, tmp_path):
    # The audit trail grows with every request: it is left out to compare like with like.
    types = [kind for kind in PATH_TYPES if kind != "Organization"]
    done = stack.run("export", str(tmp_path / "out"), "--type", ",".join(types), timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr

    counts: dict[str, int] = {}
    for path in (tmp_path / "out").glob("*.ndjson"):
        for line in path.read_text().splitlines():
            kind = json.loads(line)["resourceType"]
            assert path.name.startswith(kind)
            counts[kind] = counts.get(kind, 0) + 1

    with stack.client() as client:
        expected = {kind: len(search(client, kind)) for kind in types}
    assert counts == {kind: count for kind, count in expected.items() if count}


def test_every_kind_of_access_is_in_the_audit_trail(stack, demo_study):
    from tests.fixtures.running import wait_for

    with stack.client() as client:
        client.get("/fhir/Patient", headers={"Authorization": "Bearer wrong"})

        def kinds() -> set[str] | None:
            events = search(client, "AuditEvent", _count="200")
            seen = {one["code"] for event in events for one in event.get("subtype", [])}
            seen |= {event["type"]["code"] for event in events}
            outcomes = {event["outcome"] for event in events}
            actions = {event["action"] for event in events}
            good = {"C", "R", "E"} <= actions and outcomes - {"0"}
            return seen if good else None

        assert wait_for(kinds, "audit events of create, read, search and denial")
