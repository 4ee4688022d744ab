"""A real Orthanc beside the running stack; each knows the other as the how-to pages say."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fixtures.running import Running
from tests.fixtures.stores import free_port

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
START_S = 60


@dataclass(frozen=True)
class Orthanc:
    """The running Orthanc: its REST API, and where its DIMSE port is."""

    rest: httpx.Client
    port: int
    url: str

    def post(self, path: str, body: Any) -> Any:
        """The answer to a request of the REST API; a refusal fails the test."""
        sent = body if isinstance(body, bytes | str) else json.dumps(body)
        answer = self.rest.post(path, content=sent)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def instances(self, study: str) -> list[dict[str, Any]]:
        """Its own instances of a study."""
        wanted = {"Level": "Instance", "Query": {"StudyInstanceUID": study}, "Expand": True}
        return list(self.post("/tools/find", wanted))


def configuration(folder: Path, stack: Running, http_port: int, port: int) -> dict[str, Any]:
    """What an administrator enters on Orthanc's side (docs/howto/connect-orthanc.md)."""
    ae, host, hilum_port = stack.dimse
    return {
        "Name": "ORTHANC",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "HttpPort": http_port,
        "DicomAet": "ORTHANC",
        "DicomPort": port,
        "DicomCheckCalledAet": True,
        "AuthenticationEnabled": False,
        "Plugins": [str(PLUGIN)],
        "DicomModalities": {"hilum": {"AET": ae, "Host": host, "Port": hilum_port}},
        "DicomWeb": {
            "Enable": True,
            "Servers": {
                "hilum": {
                    "Url": f"{stack.base}/dicomweb/",
                    "HttpHeaders": {
                        "Authorization": f"Bearer {stack.token('system/ImagingStudy.crs')}"
                    },
                }
            },
        },
    }


@pytest.fixture(scope="session")
def orthanc(stack: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """Debian's Orthanc with its DICOMweb plugin, and Hilum's peer table with it."""
    folder = tmp_path_factory.mktemp("orthanc")
    http_port, port = free_port(), free_port()
    settings = folder / "orthanc.json"
    settings.write_text(json.dumps(configuration(folder, stack, http_port, port)))
    added = stack.run(
        "peers", "add", f"ORTHANC@127.0.0.1:{port}", "--rights", "store,query,retrieve"
    )
    assert added.returncode == 0, added.stdout + added.stderr
    with running(settings, http_port, port) as started:
        yield started


@contextmanager
def running(settings: Path, http_port: int, port: int) -> Iterator[Orthanc]:
    """Orthanc with these settings, ended in order."""
    program = shutil.which("Orthanc")
    assert program is not None
    said = settings.with_suffix(".log")
    with said.open("wb") as log:
        process = subprocess.Popen([program, str(settings)], stdout=log, stderr=log)
    url = f"http://127.0.0.1:{http_port}"
    try:
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as rest:
            _wait(rest, process, said)
            yield Orthanc(rest, port, url)
    finally:
        process.terminate()
        process.wait(30)


def _wait(rest: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            if rest.get("/system").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail(f"Orthanc did not start:\n{log.read_text()[-2000:]}", pytrace=False)
