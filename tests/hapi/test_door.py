"""Who may speak to the FHIR store."""

from __future__ import annotations

import json
import subprocess

import httpx
import pytest
from joserfc.jwk import ECKey

from access.grants import HEADER, KEY_FILE
from hilum.processes.fhir_store import command
from tests.fixtures.stores import keys_folder

PATHS = [
    "/fhir/metadata",
    "/fhir/Patient",
    "/fhir",
    "/fhir/Patient/$export",
    "/fhir/../fhir/Patient",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("headers", [{}, {HEADER: ""}, {HEADER: "x.y.z"}])
def test_a_caller_without_a_grant_is_refused_with_an_outcome(hapi, path, headers):
    answer = httpx.get(f"http://127.0.0.1:{hapi.config.port}{path}", headers=headers, timeout=60)

    assert answer.status_code == 401
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_a_write_without_a_grant_stores_nothing(hapi):
    url = f"{hapi.config.base_url}/Patient/refused-writer"

    written = httpx.put(url, json={"resourceType": "Patient", "id": "refused-writer"}, timeout=60)

    assert written.status_code == 401
    assert hapi.client.get("Patient/refused-writer").status_code == 404


def test_the_health_check_needs_no_grant_and_shows_no_data(hapi):
    answer = httpx.get(f"http://127.0.0.1:{hapi.config.port}/health", timeout=60)

    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


def test_answers_do_not_name_the_software_and_allow_no_foreign_page(hapi):
    answer = hapi.client.get("Patient", headers={"Origin": "https://elsewhere.example"})

    names = {name.lower() for name in answer.headers}
    assert answer.status_code == 200
    assert not names & {"x-powered-by", "server", "access-control-allow-origin"}


def private_key():
    return json.dumps(ECKey.import_key((keys_folder() / KEY_FILE).read_bytes()).as_dict(True))


@pytest.mark.parametrize("key", [None, "", "{}", "short", private_key])
def test_the_server_does_not_start_without_a_public_key_for_grants(hapi, key):
    key = key() if callable(key) else key
    environment = {} if key is None else {"HILUM_HAPI_GRANT_KEY": key}

    done = subprocess.run(
        ["/usr/bin/env", *command(hapi.config)],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 2
    assert "HILUM_HAPI_GRANT_KEY" in done.stderr


def test_no_secret_is_on_the_command_line(hapi):
    words = " ".join(command(hapi.config))

    assert "password" not in words.lower()
