"""FHIR through the gateway beside HAPI itself, in the same run: read, search, transaction.

Starts the product in a temporary folder. "HAPI" is asked on its own port with a signed grant of
every right, so that it does the same work behind its door; the gateway judges a token, signs a
grant, enforces, and writes an audit record for each request. The two are asked in turns, several
times, and the CPU time of all server processes is printed beside each figure.

    python -m bench.fhir --rounds 5 --requests 300
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import shutil
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from access.grants import HEADER, GrantSigner, Rights, Rule
from access.tokens import TokenAuthority
from tests.fixtures.running import Running, hilum_up, temporary_folder
from tests.fixtures.stores import free_port

TARGET = 0.75
PATIENTS, OBSERVATIONS = 50, 40
FHIR_JSON = "application/fhir+json"
TICKS_S = os.sysconf("SC_CLK_TCK")
EVERYTHING = Rights(
    mode="internal",
    subject="bench",
    rules=(Rule(letters="cruds"),),
    counts=True,
)


@dataclass
class Door:
    """One way to the same resources; each thread has a connection of its own."""

    name: str
    url: str
    credentials: Callable[[str, str], dict[str, str]]
    _local: threading.local = field(default_factory=threading.local)

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """One request; raises SystemExit unless it succeeds."""
        parts = urlsplit(self.url)
        if not hasattr(self._local, "connection"):
            self._local.connection = http.client.HTTPConnection(
                parts.hostname or "", parts.port or 80, timeout=600
            )
        sent = {"Accept": FHIR_JSON, "Content-Type": FHIR_JSON, **headers}
        sent |= self.credentials(method, path.partition("?")[0])
        below = f"/{path}" if path else ""
        self._local.connection.request(method, f"{parts.path}{below}", body, sent)
        answer = self._local.connection.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{self.name}: {method} {path}: {answer.status} {content[:400]!r}")
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, content


@dataclass
class Bench:
    """The running product and both doors."""

    stack: Running
    hapi: Door
    gateway: Door
    app: Door

    def cpu_s(self) -> float:
        """CPU time of every server process so far: web, HAPI, PostgreSQL and what they started."""
        pids = [p for p in self.stack.addresses["pids"].values() if p]
        return sum(_tree_cpu_s(pid) for pid in pids) + _postgres_cpu_s(self.stack.folder)


def _tree_cpu_s(pid: int) -> float:
    with contextlib.suppress(OSError):
        told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(told[11]) + int(told[12])) / TICKS_S
    return 0.0


def _postgres_cpu_s(folder: Path) -> float:
    """Its backends come and go: those that ended are in the postmaster's own account."""
    with contextlib.suppress(OSError, StopIteration):
        main = int(next(folder.rglob("postmaster.pid")).read_text().split()[0])
        total = 0.0
        for path in Path("/proc").iterdir():
            if not path.name.isdigit():
                continue
            with contextlib.suppress(OSError, IndexError):
                told = (path / "stat").read_text().rpartition(")")[2].split()
                if path.name == str(main):
                    total += sum(int(told[i]) for i in (11, 12, 13, 14)) / TICKS_S
                elif int(told[1]) == main:
                    total += (int(told[11]) + int(told[12])) / TICKS_S
        return total
    return 0.0


@contextlib.contextmanager
def running() -> Iterator[Bench]:
    """The product in a temporary folder, with nothing to do beside what it is asked."""
    folder, port = temporary_folder(), free_port()
    with hilum_up(folder, HILUM_INFERENCE__ENABLED="false", HILUM_HAPI__PORT=str(port)) as stack:
        keys = folder / "var" / "keys"
        signer = GrantSigner.load_or_create(keys)
        authority = TokenAuthority.load_or_create(
            keys, issuer=stack.base, audience=f"{stack.base}/fhir"
        )

        def token(scope: str, **context: Any) -> dict[str, str]:
            minted = authority.mint(
                subject="bench", scope=scope, lifetime_s=24 * 3600, client="bench", context=context
            )
            return {"Authorization": f"Bearer {minted}"}

        everything, app = token("system/*.cruds"), token("patient/*.rs", patient="bench-0")
        yield Bench(
            stack,
            Door(
                "HAPI",
                f"http://127.0.0.1:{port}/fhir",
                lambda method, path: {HEADER: signer.sign(EVERYTHING, method, path)},
            ),
            Door("gateway", f"{stack.base}/fhir", lambda _method, _path: everything),
            Door("gateway, app of a patient", f"{stack.base}/fhir", lambda _m, _p: app),
        )
    shutil.rmtree(folder)


def entry(resource: dict[str, Any]) -> dict[str, Any]:
    """An entry of a transaction that writes it under its own id, or lets the store choose one."""
    kind = resource["resourceType"]
    if "id" in resource:
        return {
            "resource": resource,
            "request": {"method": "PUT", "url": f"{kind}/{resource['id']}"},
        }
    return {"resource": resource, "request": {"method": "POST", "url": kind}}


def transaction(entries: Sequence[dict[str, Any]]) -> bytes:
    """The entries as one Bundle."""
    return json.dumps(
        {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}
    ).encode()


def patient(number: int) -> dict[str, Any]:
    """A synthetic patient."""
    return {
        "resourceType": "Patient",
        "id": f"bench-{number}",
        "identifier": [{"system": "urn:bench", "value": str(number)}],
        "name": [{"family": f"Bench{number}", "given": ["Test"]}],
        "gender": "unknown",
        "birthDate": "1970-01-01",
    }


def observation(number: int, about: int) -> dict[str, Any]:
    """A synthetic measurement of that patient."""
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                        "code": "imaging" if number % 2 else "laboratory",
                    }
                ]
            }
        ],
        "code": {"coding": [{"system": "http://loinc.org", "code": "21889-1"}], "text": "Size"},
        "subject": {"reference": f"Patient/bench-{about}"},
        "effectiveDateTime": f"2026-01-{1 + number % 28:02}",
        "valueQuantity": {
            "value": number % 1000,
            "unit": "mm",
            "system": "http://unitsofmeasure.org",
            "code": "mm",
        },
    }


def load(door: Door, count: int) -> None:
    """Patients, and `count` observations spread over them, in transactions of 250."""
    door.ask("POST", "", transaction([entry(patient(n)) for n in range(PATIENTS)]))
    for first in range(0, count, 250):
        numbers = range(first, min(first + 250, count))
        door.ask("POST", "", transaction([entry(observation(n, n % PATIENTS)) for n in numbers]))


Question = Callable[[Door, int], object]


def questions() -> dict[str, Question]:
    """What is measured, each by the number of the request."""
    category = "http://terminology.hl7.org/CodeSystem/observation-category%7Cimaging"
    return {
        "read": lambda door, n: door.ask("GET", f"Patient/bench-{n % PATIENTS}"),
        "search, 20 of a patient": lambda door, n: door.ask(
            "GET",
            f"Observation?patient=bench-{n % PATIENTS}&category={category}&_count=20",
        ),
        "transaction of 10": lambda door, n: door.ask(
            "POST", "", transaction([entry(observation(n + i, n % PATIENTS)) for i in range(10)])
        ),
    }


def of_one_patient() -> dict[str, Question]:
    """The same for an app that has one patient's data."""
    return {
        "read": lambda door, _: door.ask("GET", "Patient/bench-0"),
        "search, 20 of a patient": lambda door, _: door.ask(
            "GET", "Observation?patient=bench-0&_count=20"
        ),
    }


def rate(door: Door, question: Question, requests: int, threads: int) -> float:
    """Requests a second with so many connections."""

    def some(first: int) -> None:
        for number in range(first, requests, threads):
            question(door, number)

    workers = [threading.Thread(target=some, args=[first]) for first in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return requests / (time.perf_counter() - began)


def compare(
    bench: Bench, door: Door, asked: dict[str, Question], options: argparse.Namespace
) -> bool:
    """Print a row for each question; whether each ratio is at least TARGET."""
    good = True
    for name, question in asked.items():
        for one in (bench.hapi, door):
            rate(one, question, min(50, options.requests), options.threads)  # warm
        rates: dict[str, list[float]] = {bench.hapi.name: [], door.name: []}
        cpu = dict.fromkeys(rates, 0.0)
        for number in range(options.rounds):
            order = (bench.hapi, door) if number % 2 else (door, bench.hapi)
            for one in order:
                before = bench.cpu_s()
                rates[one.name].append(rate(one, question, options.requests, options.threads))
                cpu[one.name] += bench.cpu_s() - before
        ratios = [b / a for a, b in zip(rates[bench.hapi.name], rates[door.name], strict=True)]
        each = 1000 / (options.rounds * options.requests)
        print(
            f"{name:26} {statistics.median(rates[bench.hapi.name]):8.0f}/s"
            f" {statistics.median(rates[door.name]):8.0f}/s"
            f"  ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            f"  CPU {cpu[bench.hapi.name] * each:.1f} and {cpu[door.name] * each:.1f} ms",
            flush=True,
        )
        good &= statistics.median(ratios) >= TARGET
    return good


def main() -> None:
    """Measure and print; exit 1 when a ratio misses the target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--threads", type=int, default=4)
    options = parser.parse_args()
    with running() as bench:
        load(bench.hapi, PATIENTS * OBSERVATIONS)
        print(f"{'':26} {'HAPI':>10} {'gateway':>10}")
        good = compare(bench, bench.gateway, questions(), options)
        print("an app of one patient:")
        compare(bench, bench.app, of_one_patient(), options)
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
