"""One site for all tests of the authorization server, and the public app on it."""

from __future__ import annotations

import pytest

from tests.authorization.site import public_app, running_site


@pytest.fixture(scope="session")
def site(postgres, tmp_path_factory):
    """Clients' key sets may be fetched from this machine."""
    postgres.create_database("authorization")
    folder = tmp_path_factory.mktemp("authorization")
    dsn = postgres.dsn("authorization")
    with running_site(dsn, folder, key_hosts=("127.0.0.1",)) as running:
        yield running


@pytest.fixture
def app(site):
    """A public app that may ask for everything a person can give."""
    client = public_app()
    site.register(client)
    return client
