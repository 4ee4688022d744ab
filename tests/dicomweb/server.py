"""A DICOMweb server of our own on a free port: real archive, real PostgreSQL, real uvicorn."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import uvicorn
from dicomweb_client.api import DICOMwebClient
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from starlette.applications import Starlette
from starlette.routing import Mount

from access import AuditSpool, SpoolReader, TokenAuthority
from access.http import OwnTokens, caller_of
from archive import Archive, ArchiveConfig
from dicomweb.app import create_app
from dicomweb.config import DicomwebConfig

EVERYTHING = "system/ImagingStudy.cruds"


@dataclass
class Server:
    """The running server and what a test needs to talk to it."""

    archive: Archive
    authority: TokenAuthority
    audit_folder: Path
    base: str
    token: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def token_for(self, scope: str = EVERYTHING, **claims) -> str:
        return self.authority.mint(subject="test", scope=scope, lifetime_s=600, **claims)

    def client(self, **headers: str) -> httpx.Client:
        return httpx.Client(
            base_url=self.base,
            headers={**self.headers, **headers},
            timeout=60,
            trust_env=False,
        )

    def peer(self, scope: str = EVERYTHING, **claims) -> DICOMwebClient:
        headers = {"Authorization": f"Bearer {self.token_for(scope, **claims)}"}
        return DICOMwebClient(self.base, headers=headers)

    def stow(self, *files: bytes, study: str | None = None) -> httpx.Response:
        with self.client() as client:
            return client.post(
                f"/studies/{study}" if study else "/studies",
                content=multipart(*files),
                headers={
                    "Content-Type": f'multipart/related; type="application/dicom"; boundary={B}'
                },
            )

    def audits(self) -> list:
        reader = SpoolReader(self.audit_folder)
        return [one.record for one in reader.next_batch(100_000).records]


B = "test-boundary"


def multipart(*files: bytes) -> bytes:
    out = io.BytesIO()
    for file in files:
        out.write(f"--{B}\r\nContent-Type: application/dicom\r\n\r\n".encode())
        out.write(file)
        out.write(b"\r\n")
    out.write(f"--{B}--\r\n".encode())
    return out.getvalue()


def slice_of(study: str | None = None, series: str | None = None, **changes) -> Dataset:
    """A small synthetic MR slice; keyword arguments replace attributes."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = study or generate_uid()
    dataset.SeriesInstanceUID = series or generate_uid()
    dataset.PatientName, dataset.PatientID = "Phantom^Test", "P1"
    dataset.PatientBirthDate, dataset.PatientSex = "19700101", "O"
    dataset.StudyDate, dataset.StudyTime = "20260102", "030405"
    dataset.StudyDescription, dataset.AccessionNumber = "Brain MR", "A1"
    dataset.ReferringPhysicianName, dataset.StudyID = "", "1"
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "MR", 1, 1
    dataset.SeriesDescription = "T1"
    dataset.Rows, dataset.Columns = 16, 24
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    pixels = np.arange(16 * 24, dtype="<u2").reshape(16, 24) * 8
    dataset.PixelData = pixels.tobytes()
    for name, value in changes.items():
        setattr(dataset, name, value)
    return dataset


def file_of(dataset: Dataset) -> bytes:
    out = io.BytesIO()
    dcmwrite(out, dataset, enforce_file_format=True)
    return out.getvalue()


def url_of(dataset: Dataset, level: str = "instance") -> str:
    url = f"/studies/{dataset.StudyInstanceUID}"
    if level in ("series", "instance"):
        url += f"/series/{dataset.SeriesInstanceUID}"
    return url + (f"/instances/{dataset.SOPInstanceUID}" if level == "instance" else "")


def read_head(file: bytes | Path) -> Dataset:
    source = io.BytesIO(file) if isinstance(file, bytes) else file
    return dcmread(source, stop_before_pixels=True, force=True)


def parts_of(response: httpx.Response) -> list[tuple[dict[str, str], bytes]]:
    """The parts of a multipart answer, by a parser that is not ours."""
    boundary = response.headers["content-type"].split("boundary=")[1].strip('"').encode()
    pieces = response.content.split(b"--" + boundary)
    assert pieces[-1].startswith(b"--")
    parts = []
    for piece in pieces[1:-1]:
        head, _, body = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        names = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        parts.append(({k.lower(): v for k, v in names.items()}, body.removesuffix(b"\r\n")))
    return parts


@contextlib.contextmanager
def serving(app: Starlette) -> Iterator[str]:
    """Run an application on a free loopback port; gives its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.started
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(20)


@contextlib.contextmanager
def running(
    dsn: str, folder: Path, config: DicomwebConfig | None = None, **archive_changes
) -> Iterator[Server]:
    """The DICOMweb application at /dicomweb on an archive in `folder`."""
    archive_config = ArchiveConfig(
        root=folder / "archive", dsn=dsn, durable=False, **archive_changes
    )
    with Archive.open(archive_config) as archive, contextlib.ExitStack() as stack:
        authority = TokenAuthority.load_or_create(folder / "keys", issuer="t", audience="t")
        audit = AuditSpool(folder / "audit", "test")
        stack.callback(audit.close)
        inner = create_app(archive, lambda r: caller_of(r, OwnTokens(authority)), audit, config)
        outer = Starlette(
            routes=[inner.state.wado, Mount("/dicomweb", inner)],
            lifespan=inner.router.lifespan_context,
        )
        base = stack.enter_context(serving(outer))
        server = Server(archive, authority, folder / "audit", f"{base}/dicomweb")
        server.token = server.token_for()
        server.headers = {"Authorization": f"Bearer {server.token}"}
        yield server


def is_storable(path: Path) -> bool:
    """Whether a sample file is a Part 10 file with valid UIDs, so that a server must take it."""
    data = path.read_bytes()
    if data[128:132] != b"DICM":
        return False
    try:
        head = read_head(path)
    except Exception:  # noqa: BLE001 - the sample files include ones that are broken on purpose
        return False
    names = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
    return all(UID(str(head.get(name, ""))).is_valid for name in names)
