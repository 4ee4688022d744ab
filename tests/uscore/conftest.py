"""The example data, loaded through the gateway of the running stack, and searches on it."""

from __future__ import annotations

import pytest

from tests.fixtures.running import search
from tests.uscore.bar import VERSIONS, groups
from tests.uscore.data.example import transaction
from tests.uscore.searching import Searcher

KINDS = sorted({one.resource for version in VERSIONS for one in groups(version)})


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
