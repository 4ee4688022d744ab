"""DICOMweb beside Orthanc's plugin, in the same run: STOW, WADO study, frames, metadata, QIDO.

One client, one connection. Ours checks a token, writes an audit record and synchronises files;
Orthanc is Debian's, without login, files synchronised too. CPU time of the server is printed
beside each figure (ours with PostgreSQL's).

    python -m bench.dicom.web --studies 1000
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from pydicom import dcmread

from bench.dicom.store import NODELAY, Server, write_files
from hilum.processes.postgres import Postgres
from tests.fixtures.stores import free_port

PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
BOUNDARY = "bench-boundary"
SLICES, PER_REQUEST = 200, 20
AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
FRAME = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
TARGETS = {
    "STOW 200 CT": 1.5,
    "STOW small studies": 1.5,
    "WADO study, 105 MB": 1.5,
    "frames/1, 200 times": 2.0,
    "series metadata": 50.0,
    "QIDO, 100 studies": 100.0,
}


@dataclass
class Web:
    """A DICOMweb service and one connection to it."""

    server: Server
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=600)

    def ask(self, method: str, path: str, accept: str, body: bytes = b"", kind: str = "") -> int:
        """Bytes of the answer, all of them read."""
        headers = {**self.headers, "Accept": accept, **({"Content-Type": kind} if kind else {})}
        self._connection.request(method, f"/dicom-web{path}", body or None, headers)
        answer = self._connection.getresponse()
        size = 0
        while piece := answer.read(1024 * 1024):
            size += len(piece)
        if answer.status != 200:
            raise SystemExit(f"{method} {path}: {answer.status}")
        return size


def wait_for(port: int, process: subprocess.Popen[str]) -> None:
    """Until something listens there."""
    for _ in range(300):
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            connection.connect()
            connection.close()
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit("a server does not start")


@contextlib.contextmanager
def orthanc(folder: Path) -> Iterator[Web]:
    """Orthanc as Debian ships it, with its DICOMweb plugin."""
    port = free_port()
    config = {
        "Name": "bench", "DicomServerEnabled": False, "HttpPort": port, "Plugins": [PLUGIN],
        "StorageDirectory": str(folder), "AuthenticationEnabled": False,
        "DicomWeb": {"Enable": True},
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(config))
    command = ["Orthanc", str(folder / "orthanc.json")]
    with started(command) as process:
        wait_for(port, process)
        yield Web(Server(port, (process.pid,)))


@contextlib.contextmanager
def ours(folder: Path, postgres: Postgres) -> Iterator[Web]:
    """Our door on a database of its own."""
    port, database = free_port(), f"web_{time.monotonic_ns()}"
    postgres.create_database(database)
    place = [str(folder), postgres.dsn(database), str(port)]
    with started([sys.executable, "-m", "bench.dicom.web_server", *place]) as process:
        assert process.stdout is not None
        token = process.stdout.readline().strip()
        wait_for(port, process)
        main = int((postgres.data / "postmaster.pid").read_text().split()[0])
        yield Web(Server(port, (process.pid, main)), {"Authorization": f"Bearer {token}"})


@contextlib.contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that is ended afterwards."""
    process = subprocess.Popen(
        command, env=NODELAY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(40)


def message(files: Sequence[bytes]) -> bytes:
    """The files as a STOW-RS request."""
    head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return b"".join(head + one + b"\r\n" for one in files) + f"--{BOUNDARY}--\r\n".encode()


def stow(web: Web, messages: Sequence[bytes]) -> None:
    """Send each message."""
    kind = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
    for one in messages:
        web.ask("POST", "/studies", "application/dicom+json", one, kind)


def small_studies(count: int, folder: Path) -> list[bytes]:
    """Messages of 50 studies of one small instance each: the UIDs are put in by length."""
    [place] = write_files(folder, 68, 1, 1)
    [path] = place.iterdir()
    data, head = path.read_bytes(), dcmread(path)
    files = []
    for number in range(count):
        made = data
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            old = str(head[name].value)
            new = f"{old[:-7]}{number + 1000000:07d}"
            made = made.replace(old.encode(), new.encode())
        files.append(made)
    return [message(files[at : at + 50]) for at in range(0, count, 50)]


def timed(web: Web, work: Callable[[], object], repetitions: int) -> tuple[float, float, float]:
    """Best and median milliseconds, and CPU milliseconds of the server for one."""
    before, taken = web.server.cpu_s(), []
    for _ in range(repetitions):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1000)
    cpu = (web.server.cpu_s() - before) * 1000 / repetitions
    return min(taken), statistics.median(taken), cpu


def measure(web: Web, files: list[Path], small: list[bytes]) -> dict[str, tuple[float, ...]]:
    """Every operation once or some times."""
    heads = [dcmread(path, stop_before_pixels=True) for path in files]
    contents = [path.read_bytes() for path in files]
    large = [message(contents[at : at + PER_REQUEST]) for at in range(0, len(files), PER_REQUEST)]
    study = f"/studies/{heads[0].StudyInstanceUID}"
    series = f"{study}/series/{heads[0].SeriesInstanceUID}"
    frames = [f"{series}/instances/{head.SOPInstanceUID}/frames/1" for head in heads]
    page = f"/studies?limit=100&includefield={quote('00081030')}"
    found = {
        "STOW 200 CT": timed(web, lambda: stow(web, large), 1),
        "STOW small studies": timed(web, lambda: stow(web, small), 1),
        "WADO study, 105 MB": timed(web, lambda: web.ask("GET", study, AS_STORED), 9),
        "frames/1, 200 times": timed(
            web, lambda: [web.ask("GET", one, FRAME) for one in frames], 5
        ),
        "series metadata": timed(
            web, lambda: web.ask("GET", f"{series}/metadata", "application/dicom+json"), 9
        ),
        "QIDO, 100 studies": timed(web, lambda: web.ask("GET", page, "application/dicom+json"), 9),
    }
    return found


def main() -> None:
    """Run both, print both, print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000, help="small studies to search in")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="hilum-bench-"))
    folder.chmod(0o755)
    postgres = Postgres(folder / "postgres", free_port())
    postgres.start()
    try:
        [place] = write_files(folder / "ct", 512, SLICES, 1)
        files = sorted(place.iterdir(), key=lambda path: int(path.stem))
        small = small_studies(arguments.studies, folder / "small")
        (folder / "orthanc").mkdir()
        (folder / "ours").mkdir()
        with orthanc(folder / "orthanc") as web:
            theirs = measure(web, files, small)
        with ours(folder / "ours", postgres) as web:
            mine = measure(web, files, small)
    finally:
        postgres.stop()
        shutil.rmtree(folder)
    report(mine, theirs, arguments.studies)


def report(
    mine: dict[str, tuple[float, ...]], theirs: dict[str, tuple[float, ...]], studies: int
) -> None:
    """Milliseconds, best and median with CPU; the ratio is of the medians."""
    print(f"{studies} small studies; ms best / median (server CPU)\n")
    print(f"{'':22}{'Orthanc':>26}{'ours':>26}{'ratio':>9}{'target':>9}")
    for name, target in TARGETS.items():
        sides = [f"{b:.1f} / {m:.1f} ({c:.1f})" for b, m, c in (theirs[name], mine[name])]
        ratio = theirs[name][1] / mine[name][1]
        print(f"{name:22}{sides[0]:>26}{sides[1]:>26}{ratio:>8.2f}x{target:>8.1f}x")


if __name__ == "__main__":
    main()
