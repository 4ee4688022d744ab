"""How fast an export runs: ours against HAPI's own job, in one run on one machine.

`python -m bench.bulk_export --rows 100000` starts an embedded PostgreSQL, a HAPI and a gateway,
fills the store with patients and their observations, and prints rows per second, seconds to the
last file fetched, the ratio to HAPI's own job, the load of the machine, and the gateway's memory.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from hilum.processes.fhir_store import HapiServer, prepare_database
from hilum.processes.postgres import Postgres
from tests.bulk.conftest import Gateway, gateway_group
from tests.fixtures.stores import CACHE, RunningHapi, client_of, free_port, hapi_config

PER_PATIENT = 99
QUIET_S = 100.0  # after the load, so that all of it lies before what an export looks at twice


@contextmanager
def store(folder: Path) -> Iterator[tuple[Postgres, RunningHapi]]:
    """An empty FHIR store."""
    postgres = Postgres(folder / "postgres", free_port())
    postgres.start()
    config = hapi_config(postgres, "hapi")
    log = folder / "hapi.log"
    prepare_database(config, CACHE, log)
    with HapiServer(config, log) as server, client_of(config) as client:
        yield postgres, RunningHapi(config, server, client, 0, log)
    postgres.stop()


def observation(patient: str, number: int) -> dict[str, object]:
    """About 1 KB of JSON, as laboratories send it."""
    return {
        "resourceType": "Observation",
        "status": "final",
        "identifier": [{"system": "urn:bench:observation", "value": str(uuid.uuid4())}],
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                        "code": "laboratory" if number % 3 else "imaging",
                    }
                ]
            }
        ],
        "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}], "text": "Hemoglobin"},
        "subject": {"reference": patient},
        "effectiveDateTime": "2024-01-01T10:00:00Z",
        "issued": "2024-01-01T10:05:00Z",
        "valueQuantity": {
            "value": 10 + number % 7,
            "unit": "g/dL",
            "system": "http://unitsofmeasure.org",
            "code": "g/dL",
        },
    }


def load(client: httpx.Client, rows: int) -> None:
    """Fill the store with transactions of a hundred resources."""

    def one(_: int) -> None:
        patient = f"urn:uuid:{uuid.uuid4()}"
        person = {"resourceType": "Patient", "gender": "unknown", "birthDate": "1970-01-01"}
        entries = [{"fullUrl": patient, "resource": person}]
        entries += [{"resource": observation(patient, n)} for n in range(PER_PATIENT)]
        for entry in entries:
            kind = entry["resource"]["resourceType"]  # type: ignore[index]
            entry["request"] = {"method": "POST", "url": kind}
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        client.post("", json=bundle, timeout=300).raise_for_status()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(one, range(rows // (PER_PATIENT + 1))))


def timed(client: httpx.Client, base: str, poll: str | None) -> tuple[float, float, int]:
    """Seconds until the export is complete, until its files are fetched, and the rows in them."""
    begin = time.monotonic()
    started = client.get(
        f"{base}/$export?_type=Patient,Observation",
        headers={"Prefer": "respond-async", "Cache-Control": "no-cache"},
    )
    place = started.headers["content-location"]
    place = f"{base}/{poll}?{place.partition('?')[2]}" if poll else place
    while (status := client.get(place)).status_code in (202, 429):
        time.sleep(0.2)
    complete = time.monotonic() - begin
    rows = 0
    for file in status.json()["output"]:
        where = f"{base}/Binary/{file['url'].rsplit('/', 1)[-1]}" if poll else file["url"]
        headers = {"Accept": "application/fhir+ndjson", "Accept-Encoding": "identity"}
        with client.stream("GET", where, headers=headers, timeout=300) as answer:
            rows += sum(part.count(b"\n") for part in answer.iter_bytes())
    return complete, time.monotonic() - begin, rows


@contextmanager
def peak_memory(process: psutil.Process) -> Iterator[list[int]]:
    """The largest resident size, in bytes, while the block runs."""
    found, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.1):
            found[0] = max(found[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        stop.set()
        watcher.join()


def report(name: str, complete: float, fetched: float, rows: int) -> float:
    """One line of the result; gives rows per second."""
    print(f"{name}: {rows} rows, complete after {complete:.1f} s ({rows / complete:.0f} rows/s),"
          f" all files fetched after {fetched:.1f} s; load {os.getloadavg()[0]:.0f}",
          flush=True)  # fmt: skip
    return rows / complete


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="hilum-bench-bulk-"))
    try:
        with store(folder) as (postgres, hapi), gateway_group(hapi, postgres, folder) as group:
            begin = time.monotonic()
            load(hapi.client, asked.rows)
            print(f"loaded in {time.monotonic() - begin:.0f} s")
            time.sleep(QUIET_S)
            compare(hapi, group.gateway(store_port=hapi.config.port).start().ready(), group)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def compare(hapi: RunningHapi, gateway: Gateway, group: object) -> None:
    """Ours, HAPI's, and both once more: the first of each also warms the Java up."""
    assert gateway.process is not None
    process = psutil.Process(gateway.process.pid)
    idle = process.memory_info().rss
    try:
        for number in (1, 2):
            with group.client() as client, peak_memory(process) as peak:  # type: ignore[attr-defined]
                ours = report(f"Hilum, run {number}", *timed(client, gateway.base, None))
            print(f"  gateway: {idle / 2**20:.0f} MiB before, {peak[0] / 2**20:.0f} MiB at most")
            base = hapi.config.base_url
            its = report(f"HAPI, run {number}", *timed(hapi.client, base, "$export-poll-status"))
            print(f"  ratio {ours / its:.2f}")
    finally:
        gateway.stop()


if __name__ == "__main__":
    main()
