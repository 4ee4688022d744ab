"""Fixtures of the FHIR door's tests: real HAPI, real PostgreSQL, real archive, real uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest
import uvicorn
from fastapi import FastAPI

from access import AuditSpool, TokenAuthority
from archive import Archive, ArchiveConfig
from fhir_gateway.app import create_app, mount
from fhir_gateway.config import GatewayConfig
from fhir_gateway.imaging import Publisher
from fhir_gateway.schema import make_pool, migrate
from fhir_gateway.topics.config import SubscriptionConfig
from records import Records
from tests.fhir_gateway.orders import orders as orders
from tests.fhir_gateway.orders import performed as performed
from tests.fhir_gateway.orders import steps as steps
from tests.fhir_gateway.orders import troubled as troubled
from tests.fhir_gateway.orders import worklist as worklist
from tests.fhir_gateway.relay import Relay
from tests.fhir_gateway.resources import new_observation, new_patient
from tests.fhir_gateway.subscribers import client as client
from tests.fhir_gateway.subscribers import ehr as ehr
from tests.fhir_gateway.subscribers import notifier as notifier
from tests.fhir_gateway.subscribers import receiver as receiver
from tests.fhir_gateway.subscribers import rights as rights
from tests.fixtures.stores import everything_allowed, free_port

PROFILES = Path(__file__).resolve().parents[2] / "profiles"


@pytest.fixture(scope="session")
def hapi_relay(hapi):
    """A switch in the wire to HAPI, so that a test can make it unreachable."""
    with Relay(hapi.config.port) as relay:
        yield relay


@pytest.fixture(scope="session")
def config(hapi, hapi_relay, postgres, tmp_path_factory):
    postgres.create_database("gateway_test")
    port = free_port()
    return GatewayConfig(
        dsn=postgres.dsn("gateway_test"),
        records_url=f"http://127.0.0.1:{hapi_relay.port}/fhir",
        grants=hapi.config.grants,
        public_url=f"http://127.0.0.1:{port}",
        audit_folder=tmp_path_factory.mktemp("audit"),
        profiles=PROFILES,
        hook_base=f"http://127.0.0.1:{hapi.hook_port}/hooks",
        hook_secret="hook-secret-of-the-tests",
        quiet_s=0.5,
        timezone="Europe/Berlin",
        issuer_of_ae={"CLINIC_B": "urn:oid:1.2.3.4.5"},
        max_body_bytes=2 * 1024 * 1024,
        subscriptions=SubscriptionConfig(
            hosts=("127.0.0.1", "localhost"),
            private_networks=("127.0.0.0/8",),
            plain_http=True,
            per_client=30,
            poll_s=0.2,
            deep_s=2.0,
            first_delay_s=0.2,
            longest_delay_s=1.0,
            give_up_s=3.0,
        ),
    )


@pytest.fixture(scope="session")
def archive(config, tmp_path_factory):
    opened = Archive.open(
        ArchiveConfig(
            root=tmp_path_factory.mktemp("archive"),
            dsn=config.dsn,
            min_free_bytes=0,
            durable=False,
        )
    )
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def authority(tmp_path_factory, config):
    folder = tmp_path_factory.mktemp("keys")
    return TokenAuthority.load_or_create(
        folder, issuer=config.public_url, audience=config.fhir_base
    )


@pytest.fixture(scope="session")
def door_spool(config):
    opened = AuditSpool(config.audit_folder, "web")
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def door(config, authority, door_spool):
    """The FHIR door on a real server; gives its base URL."""
    fhir = create_app(config, authority, door_spool)

    @contextlib.asynccontextmanager
    async def lifespan(_):
        async with fhir.router.lifespan_context(fhir):
            yield

    app = FastAPI(lifespan=lifespan)
    mount(app, fhir)
    port = int(config.public_url.rsplit(":", 1)[1])
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.05)
    yield config.fhir_base
    server.should_exit = True
    thread.join(15)


@pytest.fixture(scope="session")
def client_for(door, authority):
    """Makes a client with a token of these scopes."""
    opened = []

    def make(scope, *, subject="tester", client=None, studies=None, **context):
        token = authority.mint(
            subject=subject,
            scope=scope,
            lifetime_s=3600,
            client=client,
            studies=studies,
            context=context,
        )
        one = httpx.Client(
            base_url=door + "/",
            headers={"Authorization": f"Bearer {token}", "Accept": "application/fhir+json"},
            timeout=60.0,
            trust_env=False,
        )
        opened.append(one)
        return one

    yield make
    for one in opened:
        one.close()


@pytest.fixture(scope="session")
def everything(client_for):
    """A client that may do everything."""
    return client_for("system/*.cruds")


@pytest.fixture
async def records(config):
    async with Records(config.records_url, everything_allowed(), attempts=3) as opened:
        yield opened


@pytest.fixture
async def pool(config):
    opened = make_pool(config.dsn)
    await opened.open(wait=True)
    await migrate(opened)
    yield opened
    await opened.close()


@dataclass
class Publishing:
    """A publisher at work, and how to wait for what it writes."""

    publisher: Publisher
    records: Records

    async def study(self, uid, *, instances=None, timeout_s=30.0):
        """The ImagingStudy of a study, once it has this many instances."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = await self.records.search(
                "ImagingStudy", {"identifier": f"urn:dicom:uid|urn:oid:{uid}"}
            )
            if found and instances in (None, found[0]["numberOfInstances"]):
                assert len(found) == 1
                return found[0]
            await asyncio.sleep(0.05)
        raise AssertionError(f"not published in {timeout_s} s")


@pytest.fixture
async def publishing(config, archive, records, pool):
    """A running publisher, stopped in order at the end."""
    publisher = Publisher(config, archive, records, pool)
    stop = asyncio.Event()
    task = asyncio.create_task(publisher.run(stop))
    yield Publishing(publisher, records)
    stop.set()
    await asyncio.wait_for(task, 20)


@pytest.fixture
def unique():
    """A string that no other test uses."""
    return uuid.uuid4().hex


def execute(dsn, statement, parameters=()):
    """Rows of one statement, on a connection of its own."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(statement, parameters).fetchall()


@pytest.fixture
def stored_patient(everything, unique):
    answer = everything.post("Patient", json=new_patient(unique))
    assert answer.status_code == 201
    return answer.json()


@pytest.fixture
def observation(everything, stored_patient):
    return everything.post("Observation", json=new_observation(stored_patient)).json()
