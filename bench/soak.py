"""Four modalities send for a quarter of an hour while others query and retrieve.

Starts the whole product in a temporary folder, sends studies by DCMTK's storescu at a steady
rate, asks C-FIND, C-GET, QIDO-RS and WADO-RS beside it, samples memory and descriptors of every
process, and at the end fetches each instance back and compares its data set with what was sent.

    python -m bench.soak --minutes 15 --rate 20
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

from tests.fixtures.running import Running, hilum_up, temporary_folder

MIB = 1024 * 1024
SAMPLE_S = 5.0
# (station, modality, SOP class, instances a study, rows, transfer syntax)
STATIONS = (
    ("CT_1", "CT", "1.2.840.10008.5.1.4.1.1.2", 40, 512, ExplicitVRLittleEndian),
    ("MR_1", "MR", "1.2.840.10008.5.1.4.1.1.4", 60, 256, ImplicitVRLittleEndian),
    ("CR_1", "CR", "1.2.840.10008.5.1.4.1.1.1", 2, 1024, ExplicitVRLittleEndian),
    ("US_1", "US", "1.2.840.10008.5.1.4.1.1.6.1", 8, 256, RLELossless),
)


@dataclass
class Soak:
    """What was done and what went wrong."""

    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    sent: dict[tuple[str, str, str], str] = field(default_factory=dict)
    studies: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    waits: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def note(self, what: str, started: float) -> None:
        """Count one finished operation."""
        with self.lock:
            self.done[what] += 1
            self.waits[what].append(time.monotonic() - started)

    def fail(self, text: str) -> None:
        """Keep an error for the end."""
        with self.lock:
            self.errors.append(text)
        print("ERROR", text, flush=True)


def write_study(folder: Path, station: tuple, number: int, rng: np.random.Generator) -> list[Path]:
    """One study of a station as Part 10 files."""
    aet, modality, sop_class, count, rows, syntax = station
    study, series = generate_uid(), generate_uid()
    files = []
    for index in range(count):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = sop_class, ExplicitVRLittleEndian
        meta.MediaStorageSOPInstanceUID = generate_uid()
        data = FileDataset(None, Dataset(), file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
        data.StudyInstanceUID, data.SeriesInstanceUID = study, series
        data.PatientID, data.PatientName = f"SOAK{number % 50:03d}", f"Soak^Patient {number % 50}"
        data.StudyDate, data.StudyTime = "20261124", "120000"
        data.Modality, data.StationName, data.AccessionNumber = modality, aet, f"A{number}"
        data.SeriesNumber, data.InstanceNumber = 1, index + 1
        data.Rows = data.Columns = rows
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
        data.PixelRepresentation = 0
        pixels = rng.integers(0, 4096, (rows, rows // 8), dtype=np.uint16).repeat(8, axis=1)
        data.PixelData = pixels.tobytes()
        if syntax == RLELossless:
            data.compress(RLELossless)
        else:
            meta.TransferSyntaxUID = syntax
        path = folder / f"{aet}-{number}-{index}.dcm"
        implicit = syntax == ImplicitVRLittleEndian
        data.save_as(path, implicit_vr=implicit, little_endian=True, enforce_file_format=True)
        files.append(path)
    return files


def data_set_digest(part10: bytes) -> str:
    """SHA-256 of what follows the file meta information."""
    length = int.from_bytes(part10[140:144], "little")
    return hashlib.sha256(part10[144 + length :]).hexdigest()


def identity(path: Path) -> tuple[str, str, str]:
    """The three UIDs of a file."""
    import pydicom

    found = pydicom.dcmread(path, stop_before_pixels=True)
    return str(found.StudyInstanceUID), str(found.SeriesInstanceUID), str(found.SOPInstanceUID)


def modality(soak: Soak, stack: Running, station: tuple, every_s: float, seed: int) -> None:
    """Send a study each `every_s` seconds, until told to stop."""
    rng = np.random.default_rng(seed)
    aet, host, port = stack.dimse
    number, due = seed * 100_000, time.monotonic()
    while not soak.stop.is_set():
        folder = Path(tempfile.mkdtemp(prefix="hilum-soak-"))
        try:
            files = write_study(folder, station, number, rng)
            ours = {identity(path): data_set_digest(path.read_bytes()) for path in files}
            options = ["-xr"] if station[5] == RLELossless else []
            options = ["-xi"] if station[5] == ImplicitVRLittleEndian else options
            target = ["+sd", host, str(port)]
            started = time.monotonic()
            ran = subprocess.run(
                ["storescu", *options, "-aet", station[0], "-aec", aet, *target, str(folder)],
                capture_output=True,
                text=True,
                timeout=120,
                env={**os.environ, "TCP_NODELAY": "1"},
            )
            if ran.returncode:
                soak.fail(f"storescu {station[0]}: {ran.stderr[-300:]}")
            else:
                soak.note("C-STORE study", started)
                with soak.lock:
                    soak.sent |= ours
                    soak.studies.append(next(iter(ours))[0])
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        number += 1
        due += every_s
        soak.stop.wait(max(0.0, due - time.monotonic()))


def reader(soak: Soak, stack: Running, seed: int) -> None:
    """Ask over both doors, in turn."""
    random.seed(seed)
    aet, host, port = stack.dimse
    peer = ["-aet", "READER", "-aec", aet, host, str(port)]
    client = stack.client("system/*.rs")
    turn = 0
    while not soak.stop.wait(0.5):
        with soak.lock:
            study = random.choice(soak.studies[-200:]) if soak.studies else None
        if study is None:
            continue
        turn += 1
        started = time.monotonic()
        try:
            if turn % 4 == 0:
                _get_by_dimse(soak, peer, study)
            elif turn % 4 == 1:
                _find(soak, peer)
            elif turn % 4 == 2:
                page = client.get("/dicomweb/studies", params={"limit": "100"})
                _expect(soak, "QIDO-RS", page, started)
                series = client.get(f"/dicomweb/studies/{study}/metadata")
                _expect(soak, "metadata", series, started)
            else:
                whole = client.get(
                    f"/dicomweb/studies/{study}",
                    headers={"Accept": 'multipart/related; type="application/dicom"'},
                )
                _expect(soak, "WADO-RS study", whole, started)
        except (httpx.HTTPError, subprocess.TimeoutExpired) as error:
            soak.fail(f"reader: {type(error).__name__}")


def _expect(soak: Soak, what: str, answer: httpx.Response, started: float) -> None:
    if answer.status_code != 200:
        soak.fail(f"{what}: {answer.status_code} {answer.text[:200]}")
    else:
        soak.note(what, started)


def _find(soak: Soak, peer: list[str]) -> None:
    started = time.monotonic()
    keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID=SOAK00*", "-k", "StudyInstanceUID"]
    ran = subprocess.run(["findscu", "-S", *keys, *peer], capture_output=True, timeout=60)
    if ran.returncode:
        soak.fail(f"findscu: {ran.stderr[-300:]!r}")
    else:
        soak.note("C-FIND", started)


def _get_by_dimse(soak: Soak, peer: list[str], study: str) -> None:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hilum-soak-get-") as folder:
        keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}"]
        ran = subprocess.run(
            ["getscu", "-S", "+B", "-od", folder, *keys, *peer], capture_output=True, timeout=120
        )
        got = len(list(Path(folder).iterdir()))
    with soak.lock:
        wanted = sum(1 for key in soak.sent if key[0] == study)
    if ran.returncode or got != wanted:
        soak.fail(f"getscu: {got} of {wanted} {ran.stderr[-300:]!r}")
    else:
        soak.note("C-GET study", started)


Samples = dict[str, list[tuple[float, int, int, int]]]


def sample(stack: Running, samples: Samples, started: float) -> None:
    """Resident bytes, descriptors and threads of each part with its children."""
    for part, pid in stack.addresses["pids"].items():
        try:
            root = psutil.Process(pid)
            family = [root, *root.children(recursive=True)]
            rss = sum(one.memory_info().rss for one in family)
            files = sum(one.num_fds() for one in family)
            threads = sum(one.num_threads() for one in family)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        samples.setdefault(part, []).append((time.monotonic() - started, rss, files, threads))


def verify(soak: Soak, stack: Running) -> None:
    """Fetch each instance and compare its data set with what was sent."""
    client = stack.client("system/*.rs")
    for (study, series, instance), digest in list(soak.sent.items()):
        path = f"/dicomweb/studies/{study}/series/{series}/instances/{instance}"
        answer = client.get(path, headers={"Accept": "application/dicom; transfer-syntax=*"})
        if answer.status_code != 200:
            soak.fail(f"instance {instance}: {answer.status_code}")
        elif data_set_digest(answer.content) != digest:
            soak.fail(f"instance {instance}: other bytes than sent")
        else:
            soak.done["verified by hash"] += 1


def slope(rows: list[tuple[float, int, int, int]]) -> float:
    """Growth of the resident memory in MiB a minute, by least squares; 0 for a lone sample."""
    if len(rows) < 2:
        return 0.0
    minutes = [row[0] / 60 for row in rows]
    return float(np.polyfit(minutes, [row[1] / MIB for row in rows], 1)[0])


def report(soak: Soak, samples: Samples, warm_s: float) -> dict[str, object]:
    """Print the figures after warm-up: medians of the first and last fifth, slopes of all samples.

    A slope over both halves beside the whole: what fills up to a bound flattens, a leak does not.
    """
    for what, count in sorted(soak.done.items()):
        waits = sorted(soak.waits.get(what, [0.0]))
        p95 = waits[int(len(waits) * 0.95) - 1] if len(waits) > 1 else waits[0]
        print(f"{what:18} {count:6}  median {statistics.median(waits):.3f} s  p95 {p95:.3f} s")
    growth: dict[str, object] = {}
    for part, rows in samples.items():
        rows = [row for row in rows if row[0] >= warm_s] or rows
        fifth = max(1, len(rows) // 5)
        first = [statistics.median(column) for column in list(zip(*rows[:fifth], strict=True))[1:]]
        last = [statistics.median(column) for column in list(zip(*rows[-fifth:], strict=True))[1:]]
        half = len(rows) // 2
        slopes = [slope(some) for some in (rows, rows[:half], rows[half:])]
        growth[part] = {"first": first, "last": last, "mib_a_minute": slopes}
        whole, early, late = slopes
        print(
            f"{part:10} RSS {first[0] / MIB:7.1f} -> {last[0] / MIB:7.1f} MiB"
            f"  MiB a minute {whole:+.2f} (halves {early:+.2f}, {late:+.2f})"
            f"  descriptors {first[1]:.0f} -> {last[1]:.0f}"
            f"  threads {first[2]:.0f} -> {last[2]:.0f}"
        )
    print(f"errors: {len(soak.errors)}")
    return growth


def main() -> None:
    """Run, verify, print; exit 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--rate", type=float, default=20, help="studies a minute, all stations")
    parser.add_argument("--warm", type=float, default=None, help="minutes before growth counts")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    folder, soak, samples = temporary_folder(), Soak(), Samples()
    warm_s = 60 * (chosen.warm if chosen.warm is not None else chosen.minutes / 3)
    with hilum_up(folder) as stack:
        every_s = 60 / chosen.rate * len(STATIONS)
        threads = [
            threading.Thread(target=modality, args=(soak, stack, station, every_s, seed))
            for seed, station in enumerate(STATIONS, 1)
        ]
        threads.append(threading.Thread(target=reader, args=(soak, stack, 9)))
        started = time.monotonic()
        for one in threads:
            one.start()
        while time.monotonic() - started < chosen.minutes * 60:
            sample(stack, samples, started)
            time.sleep(SAMPLE_S)
        soak.stop.set()
        for one in threads:
            one.join()
        verify(soak, stack)
    growth = report(soak, samples, warm_s)
    if chosen.json:
        chosen.json.write_text(json.dumps({"done": soak.done, "growth": growth}, indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if soak.errors else 0)


if __name__ == "__main__":
    main()
