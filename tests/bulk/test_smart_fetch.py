"""An export client that is not ours, unmodified: smart-fetch 1.0.3 (PyPI) against the product.

It authenticates as a backend service: an asymmetric key, tokens of 300 seconds at most.
"""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from joserfc.jwk import RSAKey

from tests.bulk.cohort import Cohort
from tests.fixtures.running import wait_for

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = Path(__file__).with_name("smart-fetch-requirements.txt")
HOME = ROOT / ".cache" / "smart-fetch-1.0.3"
CLIENT = "researcher"
# No Group: a client that exports a group was given it, and smart-fetch asks for no such scope.
SCOPE = "system/Patient.rs system/Observation.rs system/Encounter.rs"

pytestmark = [pytest.mark.stack, pytest.mark.slow]


@pytest.fixture(scope="session")
def smart_fetch():
    """The program, in an environment of its own: it needs more than we do."""
    program = HOME / "bin" / "smart-fetch"
    if not program.exists():
        shutil.rmtree(HOME, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", HOME], check=True)
        pip = [HOME / "bin" / "pip", "install", "-q", "--no-deps", "-r", REQUIREMENTS]
        subprocess.run(pip, check=True, timeout=600)
    return program


@pytest.fixture(scope="module")
def client(stack):
    with stack.client() as opened:
        opened.base_url = f"{stack.base}/fhir/"
        yield opened


@pytest.fixture(scope="module")
def cohort(client):
    return Cohort.made(client)


@pytest.fixture(scope="module")
def key(stack, tmp_path_factory):
    """The private key set of a registered client."""
    folder = tmp_path_factory.mktemp("smart-fetch")
    made = RSAKey.generate_key(2048, {"kid": uuid.uuid4().hex, "alg": "RS384"}, private=True)
    public, private = folder / "public.json", folder / "private.jwks"
    public.write_text(json.dumps({"keys": [made.as_dict(private=False)]}))
    private.write_text(json.dumps({"keys": [{**made.as_dict(private=True), "key_ops": ["sign"]}]}))
    done = stack.run(
        "clients", "add", CLIENT, "--kind", "asymmetric", "--backend", "--name", "Research",
        "--scope", SCOPE, "--jwks", str(public),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return private


@pytest.fixture
def command(smart_fetch, stack, key):
    """The command line of `smart-fetch bulk` into a folder."""
    return lambda folder, *words: [
        smart_fetch, "bulk", folder, "--fhir-url", f"{stack.base}/fhir",
        "--smart-client-id", CLIENT, "--smart-key", key, *words,
    ]  # fmt: skip


@pytest.fixture
def fetch(command, tmp_path):
    """Runs `smart-fetch bulk` into a new folder."""

    def run(*words, folder=None, timeout=240, check=True):
        folder = folder or tmp_path / uuid.uuid4().hex[:8]
        asked = command(folder, *words)
        done = subprocess.run(asked, capture_output=True, text=True, timeout=timeout)
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return folder, done

    return run


def found(folder):
    """Ids by type in the files that smart-fetch has written."""
    read = {}
    for path in folder.glob("*.ndjson*"):
        content = path.read_bytes()
        text = gzip.decompress(content) if path.suffix == ".gz" else content
        for row in map(json.loads, text.splitlines()):
            if row.get("resourceType") in ("Patient", "Observation"):
                read.setdefault(row["resourceType"], set()).add(row["id"])
    return read


def test_smart_fetch_exports_a_group_without_a_grant_on_group(fetch, cohort):
    folder, _ = fetch("--group", cohort.group, "--type", "Patient,Observation",
                      "--no-default-filters")  # fmt: skip

    expected = {one for member in cohort.members for one in cohort.observations[member]}
    assert found(folder) == {"Patient": set(cohort.members), "Observation": expected}


def test_smart_fetch_exports_with_type_filters(fetch, cohort):
    folder, _ = fetch(
        "--group", cohort.group, "--type", "Patient,Observation",
        "--type-filter", "Observation?category=laboratory,vital-signs",
    )  # fmt: skip

    assert found(folder)["Observation"] == {cohort.observations[m][0] for m in cohort.members}


def test_smart_fetch_exports_what_changed_since(fetch, client, cohort):
    before = client.get(f"Patient/{cohort.stranger}").json()["meta"]["lastUpdated"]
    new = cohort.observation(cohort.members[0])
    since = new["meta"]["lastUpdated"].replace("+00:00", "Z")
    later = cohort.observation(cohort.members[1])

    folder, _ = fetch("--group", cohort.group, "--type", "Observation", "--since", since,
                      "--since-mode", "updated", "--no-default-filters")  # fmt: skip

    assert before < since
    assert found(folder) == {"Observation": {later["id"]}}


def test_smart_fetch_cancels_an_export_that_it_began(command, fetch, client, stack, tmp_path):
    folder = tmp_path / "cancelled"
    begun = subprocess.Popen(
        command(folder, "--type", "Patient,Observation"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    place = wait_for(lambda: status_url(folder), "smart-fetch has begun")
    begun.kill()
    begun.wait(10)

    _, done = fetch("--cancel", folder=folder, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    with stack.client(SCOPE) as opened:
        assert opened.get(place).status_code == 404  # another client's, in any case
    job = place.rsplit("/", 1)[-1]
    assert not (stack.folder / "var" / "exports" / job).exists()


def status_url(folder):
    """Where smart-fetch waits, as its own notes in the folder say."""
    notes = folder / ".metadata"
    text = notes.read_text() if notes.exists() else ""
    return next((v for v in json.loads(text or "{}").values() if "/export/" in str(v)), None)
