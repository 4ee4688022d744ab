"""Fixtures of the export tests: a real HAPI, and gateways that can be killed, as processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest

from access import TokenAuthority
from tests.bulk.cohort import Cohort
from tests.fhir_gateway.relay import Relay
from tests.fixtures.stores import free_port, keys_folder

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 90.0


@dataclass
class Gateway:
    """One gateway process, on the database and the export folder of its group."""

    settings: Path
    base: str
    process: subprocess.Popen[bytes] | None = None

    def start(self):
        log = self.settings.with_suffix(".log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.bulk.gateway", str(self.settings)],
            cwd=ROOT,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        return self

    def ready(self):
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            assert self.process.poll() is None, self.settings.with_suffix(".log").read_text()
            try:
                if httpx.get(f"{self.base}/metadata", timeout=5, trust_env=False).is_success:
                    return self
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        raise AssertionError("the gateway does not answer")

    def kill(self):
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)


@dataclass
class Group:
    """Gateways that share a database, an export folder and the keys of their tokens."""

    folder: Path
    hapi: object
    dsn: str
    relay: Relay
    authority: TokenAuthority
    public: str

    def gateway(self, *, port=None, store_port=None, **bulk):
        """One more gateway; `bulk` are settings of its exports. The relay leads to its store."""
        port = port or int(self.public.rsplit(":", 1)[1])
        path = self.folder / f"gateway-{uuid.uuid4().hex[:8]}.json"
        path.write_text(
            json.dumps(
                {
                    "port": port,
                    "folder": str(self.folder),
                    "dsn": self.dsn,
                    "records_url": f"http://127.0.0.1:{store_port or self.relay.port}/fhir",
                    "grants": str(keys_folder()),
                    "public_url": self.public,
                    "bulk": bulk,
                }
            )
        )
        return Gateway(path, f"http://127.0.0.1:{port}/fhir")

    def client(
        self,
        scope="system/*.cruds",
        *,
        subject="tester",
        client="tests",
        base=None,
        lifetime_s=3600,
        **more,
    ):
        token = self.authority.mint(
            subject=subject, scope=scope, lifetime_s=lifetime_s, client=client, **more
        )
        return httpx.Client(
            base_url=(base or f"{self.public}/fhir") + "/",
            headers={"Authorization": f"Bearer {token}", "Accept": "application/fhir+json"},
            timeout=60.0,
            trust_env=False,
        )

    @property
    def exports(self):
        return self.folder / "exports"


@contextmanager
def gateway_group(hapi, postgres, folder):
    """A group with a database and a folder of its own."""
    name = f"bulk_{uuid.uuid4().hex[:12]}"
    postgres.create_database(name)
    public = f"http://127.0.0.1:{free_port()}"
    keys = folder / "keys"
    authority = TokenAuthority.load_or_create(keys, issuer=public, audience=f"{public}/fhir")
    with Relay(hapi.config.port) as relay:
        yield Group(folder, hapi, postgres.dsn(name), relay, authority, public)


@pytest.fixture(scope="session")
def gateways(hapi, postgres, tmp_path_factory):
    with gateway_group(hapi, postgres, tmp_path_factory.mktemp("bulk")) as group:
        yield group


@pytest.fixture(scope="session")
def gateway(gateways):
    """The gateway of most tests."""
    opened = gateways.gateway(open_per_client=20).start().ready()
    yield opened
    opened.stop()


@pytest.fixture
def own_group(hapi, postgres, tmp_path):
    """A group for one test that kills, stops or changes its gateways."""
    with gateway_group(hapi, postgres, tmp_path) as group:
        yield group


@pytest.fixture(scope="session")
def everything(gateways, gateway):
    """A client that may do everything."""
    with gateways.client() as client:
        yield client


@pytest.fixture
def client_for(gateways, gateway):
    """Makes clients with a token of these scopes."""
    opened = []

    def make(scope, **more):
        opened.append(gateways.client(scope, **more))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.fixture(scope="session")
def cohort(everything):
    """Patients with their data, in a group and not; tests change nothing of it."""
    return Cohort.made(everything)


@pytest.fixture
def fresh(everything):
    """A small cohort that a test may change."""
    return Cohort.made(everything)


def execute(dsn, statement, parameters=()):
    """Rows of one statement, on a connection of its own."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        found = connection.execute(statement, parameters)
        return found.fetchall() if found.description else []
