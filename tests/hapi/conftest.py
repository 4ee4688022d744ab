"""Fixtures for the FHIR store's tests; the stores are those of tests/conftest.py."""

from __future__ import annotations

import uuid

import pytest

SYSTEM = "https://hilum.dev/fhir/sid/test"


@pytest.fixture
def patient(hapi):
    """A new patient in the store, as HAPI gave it back."""
    body = {
        "resourceType": "Patient",
        "identifier": [{"system": SYSTEM, "value": uuid.uuid4().hex}],
        "name": [{"family": "Phantom", "given": ["Test"]}],
        "gender": "female",
    }
    answer = hapi.client.post("Patient", json=body)
    assert answer.status_code == 201
    return answer.json()
