"""The example data, loaded through the gateway of the running stack, and searches on it."""

from __future__ import annotations

import pytest

from tests.fixtures.running import search
from tests.uscore.bar import VERSIONS, groups
from tests.uscore.data.example import transaction
from tests.uscore.data.making import PREFIX
from tests.uscore.following import Follower
from tests.uscore.searching import Searcher
from tests.uscore.validator import Validator

KINDS = sorted({one.resource for version in VERSIONS for one in groups(version)})

SOME = 40
WRITTEN = (
    "Patient",
    "ImagingStudy",
    "Endpoint",
    "Task",
    "Observation",
    "DiagnosticReport",
    "DocumentReference",
    "Device",
    "Provenance",
    "Media",
    "Organization",
    "AuditEvent",
)


@pytest.fixture(scope="session")
def client(stack):
    """A client that may read, search and write everything."""
    with stack.client() as opened:
        yield opened


@pytest.fixture(scope="session")
def loaded(client):
    """The example data is in the store; its ids are known."""
    answer = client.post("/fhir", json=transaction())
    assert answer.status_code == 200, answer.text


@pytest.fixture(scope="session")
def stored(client, loaded):
    """Every resource of the types in scope, as the gateway gives them."""
    return {kind: search(client, kind, _count="200") for kind in KINDS}


@pytest.fixture(scope="session")
def searcher(client, stored):
    return Searcher(client, stored)


@pytest.fixture(scope="session")
def follower(client):
    return Follower(client)


@pytest.fixture(scope="session")
def validator():
    """Gives the validator of a version; each is started once."""
    opened: dict[str, Validator] = {}

    def of(version: str) -> Validator:
        if version not in opened:
            opened[version] = Validator(version)
        return opened[version]

    yield of
    for one in opened.values():
        one.close()


@pytest.fixture(scope="session")
def written(client, demo_study):
    """What Hilum itself wrote about the demonstration study, by type; some of each."""
    found = {kind: search(client, kind, _count="200") for kind in WRITTEN}
    ours = {
        kind: [one for one in some if not one["id"].startswith(PREFIX)]
        for kind, some in found.items()
    }
    return {kind: some[:SOME] for kind, some in ours.items()}
