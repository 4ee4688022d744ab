"""What is left of the rights of a client that has subscribed, as the client register says it."""

from __future__ import annotations

import dataclasses

import pytest

from authorization.clients import Client, Clients
from hilum.wiring import OPERATOR_CLIENT, standing

SCOPES = "system/Observation.rs system/Patient.rs"


@pytest.fixture(scope="module")
def dsn(postgres):
    postgres.create_database("standing_test")
    return postgres.dsn("standing_test")


@pytest.fixture
def register(dsn):
    clients = Clients(dsn)
    client = Client(
        client_id="warehouse",
        name="Warehouse",
        kind="asymmetric",
        jwks_uri="https://warehouse.example.org/jwks",
        scopes=SCOPES,
        grant_types=("client_credentials",),
        backend=True,
    )
    clients.add(client)
    yield clients, client
    if clients.find("warehouse") is not None:
        clients.remove("warehouse")


def test_a_client_keeps_what_it_has(dsn, register):
    assert standing(dsn, "warehouse", SCOPES) == SCOPES


def test_a_client_whose_scopes_were_cut_loses_them(dsn, register):
    clients, client = register
    clients.change(dataclasses.replace(client, scopes="system/Patient.rs"))

    assert standing(dsn, "warehouse", SCOPES) == "system/Patient.rs"


def test_a_client_that_was_disabled_or_removed_has_nothing(dsn, register):
    clients, client = register
    clients.change(dataclasses.replace(client, disabled=True))
    disabled = standing(dsn, "warehouse", SCOPES)
    clients.remove("warehouse")

    assert (disabled, standing(dsn, "warehouse", SCOPES)) == ("", "")


def test_of_the_operators_own_client_no_register_knows(dsn):
    assert standing(dsn, OPERATOR_CLIENT, SCOPES) is None
