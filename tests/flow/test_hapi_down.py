"""HAPI is away for two minutes while studies arrive: no C-STORE fails, every study is published."""

from __future__ import annotations

import shutil
import time

import pytest

from hilum.example.series import SyntheticPatient, write_study
from hilum.processes.fhir_store import HapiServer, prepare_database
from hilum.stack import free_port
from tests.fixtures.running import hilum_up, imaging_study, study_uid, temporary_folder, wait_for
from tests.fixtures.stores import CACHE, hapi_config, keys_folder

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(600)]

AWAY_S = 120
STUDIES = 3


def test_studies_that_arrive_while_hapi_is_down_are_published_when_it_is_back(postgres, tmp_path):
    folder = temporary_folder()
    web_port = free_port()
    hooks = f"http://127.0.0.1:{web_port}/hooks"
    config = hapi_config(
        postgres,
        "hapi_down",
        hook_base=hooks,
        public_base_url=f"http://127.0.0.1:{web_port}/fhir",
    )
    # The stack must sign its grants with the key whose public half this HAPI has.
    shutil.copytree(keys_folder(), folder / "var" / "keys")
    prepare_database(config, CACHE, tmp_path / "hapi.log")
    hapi = HapiServer(config, tmp_path / "hapi.log")
    hapi.start()
    variables = {
        "HILUM_HAPI__URL": config.base_url,
        "HILUM_HTTP__PORT": str(web_port),
        "HILUM_INFERENCE__ENABLED": "false",
    }
    try:
        with hilum_up(folder, **variables) as stack:
            hapi.kill()
            gone = time.monotonic()
            uids = [arrive(stack, tmp_path, number) for number in range(STUDIES)]
            time.sleep(max(0.0, AWAY_S - (time.monotonic() - gone)))
            hapi.start()

            with stack.client() as client:
                found = [
                    wait_for(lambda uid=uid: imaging_study(client, uid), f"study {uid}")
                    for uid in uids
                ]

            assert [study["numberOfInstances"] for study in found] == [432] * STUDIES
    finally:
        hapi.kill()
        shutil.rmtree(folder)


def arrive(stack, tmp_path, number):
    folder = tmp_path / f"study-{number}"
    patient = SyntheticPatient(identifier=f"DOWN-{number}")
    files = write_study("synth-ring", folder, patient=patient)
    sent = stack.run("send", str(folder))
    assert sent.returncode == 0, sent.stdout + sent.stderr
    return study_uid(files[0])
