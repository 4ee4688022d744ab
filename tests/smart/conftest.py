"""The clinic: patients whose names, visits and studies can be told apart."""

from __future__ import annotations

from typing import Any

import pytest

from access.users import User
from tests.smart.clinic import SYSTEM, Clinic

MANY = 23


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
