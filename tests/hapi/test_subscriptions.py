"""Rest-hooks: soon, again after a failure, and only to where we said."""

from __future__ import annotations

import queue
import threading
import time
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.hapi.conftest import SYSTEM

SETTLE_S = 20.0


@contextmanager
def hook(port, name):
    """A receiver on the hook port; gives (path, headers, time) of each delivery for `name`.

    HAPI may still be retrying a delivery of an earlier test: that is answered and left out.
    """
    received = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.startswith(f"/hooks/{name}/"):
                received.put((self.path, dict(self.headers), time.monotonic()))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def subscribe(hapi, criteria, endpoint):
    body = {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "test",
        "criteria": criteria,
        "channel": {
            "type": "rest-hook",
            "endpoint": endpoint,
            "payload": "application/fhir+json",
            "header": ["X-Hilum-Hook: hook-secret"],
        },
    }
    return hapi.client.post("Subscription", json=body)


@pytest.fixture
def name(hapi):
    """A family name that one active subscription waits for."""
    family = f"hook{uuid.uuid4().hex}"
    endpoint = f"http://127.0.0.1:{hapi.hook_port}/hooks/{family}"
    made = subscribe(hapi, f"Patient?family={family}", endpoint)
    assert made.status_code == 201
    url = f"Subscription/{made.json()['id']}"
    deadline = time.monotonic() + SETTLE_S
    while hapi.client.get(url).json()["status"] != "active":
        assert time.monotonic() < deadline, "the subscription did not become active"
        time.sleep(0.1)
    yield family
    assert hapi.client.delete(url).status_code == 200


def put_patient(hapi, family):
    body = {
        "resourceType": "Patient",
        "identifier": [{"system": SYSTEM, "value": uuid.uuid4().hex}],
        "name": [{"family": family}],
    }
    assert hapi.client.post("Patient", json=body).status_code == 201
    return time.monotonic()


def test_a_change_reaches_its_hook_within_a_second_with_our_header(hapi, name):
    with hook(hapi.hook_port, name) as received:
        put_patient(hapi, name)
        received.get(timeout=SETTLE_S)  # the first delivery also warms the path up

        waits = []
        for _ in range(5):
            sent = put_patient(hapi, name)
            path, headers, at = received.get(timeout=SETTLE_S)
            waits.append(at - sent)

    assert sorted(waits)[2] < 1.0
    assert path.startswith(f"/hooks/{name}/Patient/")
    assert headers["X-Hilum-Hook"] == "hook-secret"


def test_a_hook_that_was_down_for_five_seconds_gets_its_delivery(hapi, name):
    put_patient(hapi, name)
    time.sleep(5)

    with hook(hapi.hook_port, name) as received:
        path, _, _ = received.get(timeout=SETTLE_S)

    assert path.startswith(f"/hooks/{name}/Patient/")


def test_failed_deliveries_fill_no_log(hapi, name):
    before = hapi.log_file.stat().st_size
    put_patient(hapi, name)
    time.sleep(3)
    with hook(hapi.hook_port, name) as received:
        received.get(timeout=SETTLE_S)

    grown = hapi.log_file.read_bytes()[before:]
    assert len(grown) < 2000
    assert name.encode() not in grown


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://127.0.0.1:{port}/other",
        "http://127.0.0.1:{port}/hooks.example/x",
        "http://127.0.0.1:{port}/hooks/../fhir",
    ],
)
def test_a_subscription_that_points_elsewhere_is_refused(hapi, endpoint):
    answer = subscribe(hapi, "Patient?family=x", endpoint.format(port=hapi.hook_port))

    assert answer.status_code == 422
