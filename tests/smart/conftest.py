"""The clinic: patients whose names, visits and studies can be told apart."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import httpx
import pytest
from joserfc.jwk import RSAKey

from access.users import User
from tests.fixtures.running import wait_for
from tests.smart.clinic import SYSTEM, Clinic

MANY = 23
# The hospital's: kept over its restarts, for whoever trusts it looks for new keys seldom.
KEY = RSAKey.generate_key(2048).as_pem(private=True).decode()


@pytest.fixture(scope="session")
def clinic(stack, demo_study) -> Clinic:
    """One for all tests here; each registers the app that it needs."""
    study = demo_study["study"]
    with stack.client() as http:
        patients = {
            name: _patient(http, name, given, birth)
            for name, given, birth in (
                ("Zweig", "Änne", "1950-02-03"),
                ("Zimmer", "Otto", "1961-07-08"),
            )
        }
        for number in range(MANY):
            _patient(http, "Zahlreich", f"Nr{number:02}", "1970-01-01")
        encounter = _put(
            http,
            "Encounter",
            "clinic-visit",
            status="finished",
            **{"class": {"code": "AMB", "display": "ambulatory"}},
            subject={"reference": f"Patient/{patients['Zweig']}"},
            period={"start": "2024-05-06T07:08:09Z"},
        )
        _put(http, "Practitioner", "clinic-anna", name=[{"family": "Muster", "given": ["Anna"]}])
    patients["Study"] = study["subject"]["reference"].removeprefix("Patient/")
    found = Clinic(stack, patients, encounter, study)
    found.add_user(User("clinic-anna", "Dr Anna Muster", "radiologist", "Practitioner/clinic-anna"))
    found.add_user(User("clinic-bert", "Bert", "radiologist"))
    found.add_user(User("clinic-root", "Root", "administrator"))
    found.add_user(User("clinic-aenne", "Änne", "patient", f"Patient/{patients['Zweig']}"))
    return found


def _patient(http: Any, family: str, given: str, birth: str) -> str:
    name = f"clinic-{family}-{given}".lower().replace("ä", "ae")
    return _put(
        http,
        "Patient",
        name,
        identifier=[{"system": SYSTEM, "value": name}],
        name=[{"family": family, "given": [given]}],
        birthDate=birth,
        gender="other",
    )


def _put(http: Any, kind: str, logical_id: str, **content: Any) -> str:
    answer = http.put(
        f"/fhir/{kind}/{logical_id}", json={"resourceType": kind, "id": logical_id, **content}
    )
    assert answer.status_code in (200, 201), answer.text
    return str(answer.json()["id"])


class Beside:
    """The hospital's process, and what a test tells it."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        port = self.issuer.rpartition(":")[2]
        program = [sys.executable, "-m", "tests.smart.hospital", port]
        self._process = subprocess.Popen(program, env={**os.environ, "HOSPITAL_KEY": KEY})
        wait_for(lambda: self.tell() is not None, "the hospital", 60)

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(20)

    def tell(self, **what: Any) -> dict[str, Any]:
        """Set what it knows, or what is to be wrong; how often it was asked."""
        with httpx.Client(trust_env=False, timeout=20) as http:
            return dict(http.post(f"{self.issuer}/control", json=what).json())


@pytest.fixture(scope="module")
def hospital(stack):
    """The hospital that the stack trusts by its settings, for one module of tests."""
    beside = Beside(stack.environment["HILUM_FEDERATION__ISSUER"])
    beside.start()
    yield beside
    beside.stop()
