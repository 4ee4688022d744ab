"""The operator's commands, on a running stack."""

from __future__ import annotations

import subprocess

import pytest
from pydicom.data import get_testdata_file

from tests.fixtures.peers import needs

pytestmark = [pytest.mark.slow, pytest.mark.stack]


def test_status_shows_every_part_up(stack):
    shown = stack.run("status")

    assert shown.returncode == 0, shown.stdout
    assert all(part in shown.stdout for part in ("postgres", "hapi", "web", "dimse", "worker"))
    assert "down" not in shown.stdout


def test_ready_file_names_the_doors_and_every_process(stack):
    found = stack.addresses

    assert set(found["dimse"]) == {"host", "port", "aet"}
    assert set(found["pids"]) == {"postgres", "hapi", "web", "dimse", "worker"}
    assert all(found[door].startswith("http") for door in ("fhir", "dicomweb", "ui"))


def test_a_second_up_on_the_same_folder_is_refused(stack):
    again = stack.run("up")

    assert again.returncode == 1
    assert "already" in again.stdout


def test_peers_are_added_used_and_removed(stack):
    aet, host, port = stack.dimse

    added = stack.run("peers", "add", f"{aet}@{host}:{port}", "--name", "pacs")
    listed = stack.run("peers", "list")
    sent = stack.run("send", "--to", "pacs", str(get_testdata_file("CT_small.dcm")))
    removed = stack.run("peers", "remove", "pacs")
    unknown = stack.run("send", "--to", "pacs", str(get_testdata_file("CT_small.dcm")))

    assert added.returncode == 0, added.stderr
    assert "pacs" in listed.stdout
    assert sent.returncode == 0, sent.stdout
    assert removed.returncode == 0, removed.stderr
    assert unknown.returncode == 1
    assert "pacs" in unknown.stdout


@needs("echoscu")
def test_dcmtk_gets_an_echo(stack):
    aet, host, port = stack.dimse

    done = subprocess.run(["echoscu", "-aec", aet, host, str(port)], capture_output=True)

    assert done.returncode == 0


def test_without_a_token_only_metadata_and_health_are_open(stack):
    import httpx

    with httpx.Client(base_url=stack.base, trust_env=False, timeout=60) as client:
        open_ones = [client.get(path).status_code for path in ("/fhir/metadata", "/health/live")]
        closed = [
            client.get(path).status_code
            for path in ("/fhir/Patient", "/fhir/Binary/1", "/dicomweb/studies", "/fhir/$export")
        ]
        hook = client.put("/hooks/imagingstudy/ImagingStudy/1", json={}).status_code

    assert open_ones == [200, 200]
    assert closed == [401] * 4
    assert hook == 401


def test_hapi_is_on_loopback_and_refuses_a_caller_without_the_credential(stack):
    import httpx
    import psutil

    process = psutil.Process(stack.addresses["pids"]["hapi"])
    places = {one.laddr for one in process.net_connections() if one.status == "LISTEN"}

    assert {place.ip.removeprefix("::ffff:") for place in places} == {"127.0.0.1"}
    for place in places:
        answer = httpx.get(
            f"http://127.0.0.1:{place.port}/fhir/Patient", trust_env=False, timeout=60
        )
        assert answer.status_code == 401
