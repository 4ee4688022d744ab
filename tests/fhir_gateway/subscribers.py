"""Other systems that subscribe: their receiver, and the Subscriptions that they send."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from access.internal_rights import NOTIFIER
from fhir_gateway.schema import make_pool, migrate
from fhir_gateway.topics.service import notify
from records import Records
from tests.fixtures.stores import free_port

IG = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition"
TOPICS = "https://hilum.dev/fhir/SubscriptionTopic"
WAIT_S = 20.0


@dataclass(frozen=True)
class Call:
    method: str
    path: str
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def status(self):
        """The parameters of a notification's status, by name; events as a list."""
        found = {"notification-event": []}
        for one in self.json["entry"][0]["resource"]["parameter"]:
            if one["name"] == "notification-event":
                parts = {part["name"]: _value(part) for part in one["part"]}
                found["notification-event"].append(parts)
            else:
                found[one["name"]] = _value(one)
        return found

    @property
    def kind(self):
        return self.status["type"]

    @property
    def numbers(self):
        return [int(one["event-number"]) for one in self.status["notification-event"]]


def _value(part):
    value = next(part[name] for name in part if name.startswith("value"))
    return value["reference"] if isinstance(value, dict) and "reference" in value else value


class Receiver:
    """A real HTTP server on a port of its own that can refuse, hang, and be away."""

    def __init__(self):
        self.port = free_port()
        self.answer = 200
        self.delay_s = 0.0
        self.calls = []
        self._server = None
        self._arrived = threading.Condition()
        self._hanging = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/hook"

    def open(self):
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def _take(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                if receiver.delay_s:
                    receiver._hanging.set()
                    time.sleep(receiver.delay_s)
                if receiver.answer == 302:
                    self.send_response(302)
                    self.send_header("Location", f"http://127.0.0.1:{receiver.port}/elsewhere")
                else:
                    self.send_response(receiver.answer)
                self.send_header("Content-Length", "0")
                self.end_headers()
                call = Call(self.command, self.path, dict(self.headers), body)
                with receiver._arrived:
                    if receiver.answer == 200:
                        receiver.calls.append(call)
                    receiver._arrived.notify_all()

            do_POST = do_PUT = _take

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()
        return self

    def close(self):
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def wait(self, condition, timeout_s=WAIT_S):
        """The calls, once the condition holds for them."""
        end = time.monotonic() + timeout_s
        with self._arrived:
            while not condition(self.calls):
                left = end - time.monotonic()
                assert left > 0, f"not in time; calls: {[(c.method, c.path) for c in self.calls]}"
                self._arrived.wait(left)
            return list(self.calls)

    def wait_for_a_call(self):
        """Until a call is being answered slowly."""
        assert self._hanging.wait(WAIT_S)

    def events(self, count, timeout_s=WAIT_S):
        """The event notifications, once they hold this many events."""
        calls = self.wait(lambda found: len(_numbers(found)) >= count, timeout_s)
        return [one for one in calls if one.kind == "event-notification"]


def _numbers(calls):
    return [n for one in calls if one.kind == "event-notification" for n in one.numbers]


class Notifier:
    """What a gateway does for subscriptions, in a thread; stopped and started as a process is."""

    def __init__(self, config):
        self._config = config
        self._loop = None
        self._stop = None
        self._thread = None

    def start(self):
        ready = threading.Event()

        async def work():
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            config = self._config
            pool = make_pool(config.dsn)
            await pool.open(wait=True)
            await migrate(pool)
            ready.set()
            credentials = config.grants.credentials(NOTIFIER)
            async with Records(config.records_url, credentials, attempts=1) as records:
                await notify(config, config.audit_folder, records, pool, self._stop)
            await pool.close()

        self._thread = threading.Thread(target=lambda: asyncio.run(work()), daemon=True)
        self._thread.start()
        assert ready.wait(30)
        return self

    def stop(self):
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(30)
            self._thread = None


def classic(receiver, criteria, **channel):
    """An R4 Subscription."""
    return {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "test",
        "criteria": criteria,
        "channel": {
            "type": "rest-hook",
            "endpoint": receiver if isinstance(receiver, str) else receiver.url,
            "payload": "application/fhir+json",
            **channel,
        },
    }


def topical(receiver, topic, *, content="id-only", filters=(), extensions=(), **channel):
    """A Subscription of the Backport IG."""
    body = classic(receiver, f"{TOPICS}/{topic}", **channel)
    body["meta"] = {"profile": [f"{IG}/backport-subscription"]}
    body["channel"]["_payload"] = {
        "extension": [{"url": f"{IG}/backport-payload-content", "valueCode": content}]
    }
    if filters:
        body["_criteria"] = {
            "extension": [
                {"url": f"{IG}/backport-filter-criteria", "valueString": one} for one in filters
            ]
        }
    if extensions:
        body["channel"]["extension"] = [
            {"url": f"{IG}/backport-{name}", kind: value} for name, kind, value in extensions
        ]
    return body


def report(patient, status="final", **changes):
    """A DiagnosticReport of a patient."""
    return {
        "resourceType": "DiagnosticReport",
        "status": status,
        "category": [{"coding": [{"system": "http://loinc.org", "code": "LP29684-5"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "18748-4"}]},
        "subject": {"reference": f"Patient/{patient['id']}"},
        "effectiveDateTime": "2026-01-02T03:04:05Z",
        "issued": "2026-01-02T03:04:05Z",
        **changes,
    }


def study(patient, uid, *modalities):
    """An available ImagingStudy."""
    return {
        "resourceType": "ImagingStudy",
        "status": "available",
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}],
        "subject": {"reference": f"Patient/{patient['id']}"},
        "modality": [
            {"system": "http://dicom.nema.org/resources/ontology/DCM", "code": one}
            for one in modalities
        ],
    }


def until(find, what, timeout_s=WAIT_S):
    """The first true answer."""
    end = time.monotonic() + timeout_s
    while not (found := find()):
        assert time.monotonic() < end, what
        time.sleep(0.05)
    return found


R4_SCOPES = "system/Subscription.cruds system/Patient.rs system/Observation.rs"
EHR_SCOPES = "system/Subscription.cruds system/DiagnosticReport.rs system/ImagingStudy.rs"


@pytest.fixture
def receiver():
    """A receiver that is there."""
    opened = Receiver().open()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def rights():
    """What is left of a client's scopes, by client; as the client register says it."""
    return {}


@pytest.fixture(scope="module")
def notifier(config, door, rights):
    """A gateway's notification work."""
    settings = dataclasses.replace(
        config.subscriptions, standing=lambda client, scopes: rights.get(client)
    )
    running = Notifier(dataclasses.replace(config, subscriptions=settings)).start()
    yield running
    running.stop()


@pytest.fixture
def client(client_for, unique, notifier):
    """A system client of its own; what it subscribed to is removed at the end."""
    made = client_for(R4_SCOPES, client=f"client-{unique}")
    yield made
    _clean(made)


@pytest.fixture
def ehr(client_for, unique, notifier):
    """The same, with the scopes that the topics need."""
    made = client_for(EHR_SCOPES, client=f"ehr-{unique}")
    yield made
    _clean(made)


def _clean(client):
    for one in client.get("Subscription").json().get("entry", []):
        client.delete(f"Subscription/{one['resource']['id']}")


def create(client, resource):
    """Create a resource, as it then is."""
    made = client.post(resource["resourceType"], json=resource)
    assert made.status_code == 201, made.text
    return made.json()


def subscribe(client, body):
    """Create a Subscription and wait until it is active; its URL."""
    made = client.post("Subscription", json=body)
    assert made.status_code == 201, made.text
    url = f"Subscription/{made.json()['id']}"
    until(lambda: client.get(url).json()["status"] == "active", "active")
    return url


def updates(calls):
    """The calls that bring a resource, as R4 has them."""
    return [one for one in calls if one.method == "PUT"]


def of(patient):
    """Criteria: observations of a patient."""
    return f"Observation?patient=Patient/{patient['id']}"
