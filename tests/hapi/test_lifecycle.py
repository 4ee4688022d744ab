"""Starting the FHIR store: the first time, again, after a crash, and when it cannot."""

from __future__ import annotations

import stat
import time
from dataclasses import replace
from multiprocessing import get_context

import psutil
import pytest

from access.grants import GrantSigner
from hilum.processes.fhir_store import (
    FhirStoreError,
    HapiServer,
    check_installation,
    fingerprint,
    is_ready,
    prepare_database,
)
from tests.fixtures.stores import CACHE, client_of, free_port, hapi_config

PUBLIC = "https://pacs.example/fhir"


@pytest.mark.slow
def test_a_start_on_a_prepared_database_keeps_data_and_installs_nothing(hapi, postgres, tmp_path):
    config = hapi_config(postgres, "hapi_again", public_base_url=PUBLIC)
    log_file = tmp_path / "hapi.log"
    first = prepare_database(config, CACHE, log_file)
    server = HapiServer(config, log_file)
    server.start()
    with client_of(config) as client:
        made = client.post("Patient", json={"resourceType": "Patient"})
    server.kill()

    second = prepare_database(config, CACHE, log_file)
    with HapiServer(config, log_file), client_of(config) as client:
        found = client.get("Patient").json()

    assert (first.how, second.how) == ("restored", "kept")
    assert [entry["resource"]["id"] for entry in found["entry"]] == [made.json()["id"]]
    assert "installed" not in log_file.read_text()
    # Links carry the address that clients know, never this one.
    assert made.headers["location"].startswith(f"{PUBLIC}/Patient/")
    assert found["entry"][0]["fullUrl"].startswith(f"{PUBLIC}/Patient/")


def test_the_name_of_the_dump_follows_the_search_parameters(hapi, tmp_path):
    folder = tmp_path / "profiles"
    for name in ("us-core", "searchparameter"):
        (folder / name).mkdir(parents=True)
    changed = replace(hapi.config, profiles=folder)

    before = fingerprint(changed)
    (folder / "searchparameter" / "SearchParameter-more.json").write_text("{}")

    assert len({before, fingerprint(changed), fingerprint(hapi.config)}) == 3


def test_missing_java_is_said_with_how_to_get_it(hapi):
    with pytest.raises(FhirStoreError, match="openjdk-17"):
        check_installation(replace(hapi.config, java="java-that-is-not-there"))


def test_an_old_java_is_refused(hapi, tmp_path):
    old = tmp_path / "java"
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    old.chmod(stat.S_IRWXU)

    with pytest.raises(FhirStoreError, match="version 11"):
        check_installation(replace(hapi.config, java=str(old)))


def test_a_server_that_was_not_built_is_said_with_how_to_build_it(hapi, tmp_path):
    with pytest.raises(FhirStoreError, match="make setup"):
        check_installation(replace(hapi.config, home=tmp_path))


def test_a_server_that_dies_at_start_shows_the_end_of_its_log(hapi, tmp_path):
    server = HapiServer(replace(hapi.config, heap="a-lot", port=free_port()), tmp_path / "hapi.log")

    with pytest.raises(FhirStoreError, match="Invalid maximum heap size"):
        server.start()

    assert server.process is None


def test_only_the_server_that_knows_our_key_counts_as_ready(hapi, postgres, tmp_path):
    nobody = hapi_config(postgres, "postgres")
    stranger = replace(hapi.config, grants=GrantSigner.load_or_create(tmp_path))

    assert [is_ready(c) for c in (hapi.config, nobody, stranger)] == [True, False, False]


def test_the_server_dies_with_its_owner(hapi, tmp_path):
    server = HapiServer(replace(hapi.config, port=free_port()), tmp_path / "hapi.log")
    owner = get_context("fork").Process(target=server.start)
    owner.start()
    deadline = time.monotonic() + 30
    while not (children := psutil.Process(owner.pid).children()):
        assert time.monotonic() < deadline
        time.sleep(0.05)

    owner.kill()
    owner.join()

    gone, alive = psutil.wait_procs(children, timeout=10)
    assert (len(gone), alive) == (1, [])
