"""C-STORE beside Orthanc and DCMTK's storescp, in turns, with fresh servers and empty folders.

The client is DCMTK's storescu. TCP_NODELAY=1 is set for all of DCMTK and Orthanc: without it the
comparison is false. Ours is the product's DIMSE process with PostgreSQL, admission and audit.

    python -m bench.dicom.store --repetitions 3
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from hilum.processes.postgres import Postgres
from tests.fixtures.stores import free_port

NODELAY = {**os.environ, "TCP_NODELAY": "1"}
ROUNDS = (("CT 0.5 MB", 512, 200, 1), ("CT 0.5 MB", 512, 200, 4), ("10 KB", 68, 400, 4))
# (figure, over, lowest ratio, in the round)
TARGETS = (
    ("ours", "orthanc", 1.3, ("CT 0.5 MB", 1)),
    ("ours", "orthanc", 2.0, ("CT 0.5 MB", 4)),
    ("ours", "orthanc", 1.5, ("10 KB", 4)),
    ("ours, not durable", "storescp", 1.0, ("CT 0.5 MB", 1)),
    ("ours, not durable", "storescp", 1.0, ("CT 0.5 MB", 4)),
)


@dataclass(frozen=True)
class Server:
    """A server that runs, and the processes whose CPU time is its own."""

    port: int
    pids: tuple[int, ...]

    def cpu_s(self) -> float:
        """CPU seconds of its processes, their children and those that have ended."""
        total = 0.0
        for pid in self.pids:
            for one in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    times = one.cpu_times()
                    total += times.user + times.system
                    if one.pid == pid:
                        total += times.children_user + times.children_system
        return total


def write_files(folder: Path, side: int, count: int, shares: int) -> list[Path]:
    """One study, spread over a folder for each association."""
    study, series = generate_uid(), generate_uid()
    pixels = np.random.default_rng(1).integers(0, 4096, (side, side), dtype=np.uint16).tobytes()
    folders = [folder / str(share) for share in range(shares)]
    for one in folders:
        one.mkdir(parents=True)
    for number in range(count):
        dataset = Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, generate_uid()
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.PatientID, dataset.PatientName = "BENCH", "Bench^Mark"
        dataset.StudyDate, dataset.StudyTime, dataset.Modality = "20260102", "101500", "CT"
        dataset.InstanceNumber, dataset.Rows, dataset.Columns = number + 1, side, side
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.PixelRepresentation, dataset.PixelData = 0, pixels
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(folders[number % shares] / f"{number}.dcm", enforce_file_format=True)
    return folders


@contextlib.contextmanager
def running(command: list[str], port: int, environment: dict[str, str]) -> Iterator[int]:
    """A server's process, once it answers C-ECHO."""
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            for _ in range(200):
                asked = ["echoscu", "-to", "2", "localhost", str(port)]
                if subprocess.run(asked, capture_output=True, env=NODELAY).returncode == 0:
                    break
                time.sleep(0.1)
            else:
                raise SystemExit(f"{command[0]} does not answer")
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(40)


@contextlib.contextmanager
def storescp(folder: Path) -> Iterator[Server]:
    """DCMTK's receiver."""
    port = free_port()
    command = ["storescp", "--fork", "-aet", "STORESCP", "-od", str(folder), str(port)]
    with running(command, port, NODELAY) as pid:
        yield Server(port, (pid,))


@contextlib.contextmanager
def orthanc(folder: Path) -> Iterator[Server]:
    """Orthanc as Debian ships it: SQLite, files synchronised."""
    port = free_port()
    config = {
        "Name": "bench",
        "DicomPort": port,
        "HttpServerEnabled": False,
        "StorageDirectory": str(folder),
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowStore": True,
    }
    (folder / "orthanc.json").write_text(json.dumps(config))
    with running(["Orthanc", str(folder / "orthanc.json")], port, NODELAY) as pid:
        yield Server(port, (pid,))


@contextlib.contextmanager
def ours(folder: Path, postgres: Postgres, *, durable: bool = True) -> Iterator[Server]:
    """The product's DIMSE process on a database of its own; PostgreSQL's CPU time counts."""
    port, database = free_port(), f"bench_{time.monotonic_ns()}"
    postgres.create_database(database)
    environment = {
        **os.environ,
        "HILUM_DATA": str(folder),
        "HILUM_DATABASE__URL": postgres.dsn(database),
        "HILUM_DIMSE__PORT": str(port),
        "HILUM_STORAGE__DURABLE": str(durable),
    }
    with running([sys.executable, "-m", "hilum", "dimse"], port, environment) as pid:
        main = int((postgres.data / "postmaster.pid").read_text().split()[0])
        yield Server(port, (pid, main))


def send(server: Server, folders: list[Path]) -> float:
    """Send each folder over an association of its own, all at once; returns seconds."""
    started = time.monotonic()
    senders = [
        subprocess.Popen(
            ["storescu", "-R", "+sd", "localhost", str(server.port), str(folder)],
            env=NODELAY,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for folder in folders
    ]
    for sender in senders:
        _, errors = sender.communicate()
        if sender.returncode or b"E:" in errors:
            raise SystemExit(f"storescu failed: {errors.decode()}")
    return time.monotonic() - started


def main() -> None:
    """Run all rounds and print the table and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="hilum-bench-"))
    folder.chmod(0o755)
    postgres = Postgres(folder / "postgres", free_port())
    postgres.start()
    try:
        found = measure(folder, postgres, arguments.repetitions)
    finally:
        postgres.stop()
        shutil.rmtree(folder)
    report(found)


Figures = dict[tuple[str, int, str], list[tuple[float, float]]]


def measure(folder: Path, postgres: Postgres, repetitions: int) -> Figures:
    """Instances per second and CPU milliseconds per instance, by size, associations, server."""
    servers = {
        "ours": lambda place: ours(place, postgres),
        "ours, not durable": lambda place: ours(place, postgres, durable=False),
        "orthanc": orthanc,
        "storescp": storescp,
    }
    found: Figures = defaultdict(list)
    for name, side, count, shares in ROUNDS:
        files = folder / f"files-{side}-{shares}"
        folders = write_files(files, side, count, shares)
        for repetition in range(repetitions):
            for server, start in servers.items():
                place = folder / f"{server.split(',')[0]}-{side}-{shares}-{repetition}"
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir()
                with start(place) as running_server:
                    before = running_server.cpu_s()
                    seconds = send(running_server, folders)
                    cpu_ms = (running_server.cpu_s() - before) * 1000 / count
                found[(name, shares, server)].append((count / seconds, cpu_ms))
                print(f"{name} x{shares} {server}: {count / seconds:.0f}/s", flush=True)
                shutil.rmtree(place)
    return found


def report(found: Figures) -> None:
    """The table, then each target with its ratio of medians."""
    print(f"\n{'':14}{'assoc.':>7}  {'server':20}{'inst/s median (best)':>22}{'CPU ms/inst':>13}")
    medians = {}
    for (name, shares, server), figures in found.items():
        rates = [rate for rate, _ in figures]
        medians[name, shares, server] = statistics.median(rates)
        cpu = statistics.median(cpu for _, cpu in figures)
        rate = f"{statistics.median(rates):.0f} ({max(rates):.0f})"
        print(f"{name:14}{shares:>7}  {server:20}{rate:>22}{cpu:>13.2f}")
    for one, other, wanted, place in TARGETS:
        ratio = medians[*place, one] / medians[*place, other]
        verdict = "met" if ratio >= wanted else "NOT met"
        print(f"{place[0]} x{place[1]}: {one} / {other} = {ratio:.2f} (target {wanted}): {verdict}")


if __name__ == "__main__":
    main()
