"""The example data, loaded through the gateway of the running stack, and searches on it."""

from __future__ import annotations

import pytest

from hilum.example.series import DEMO_CASE, SyntheticPatient, write_study
from tests.fixtures.running import reported, search, study_uid, wait_for
from tests.uscore.bar import VERSIONS, groups
from tests.uscore.data.example import transaction
from tests.uscore.data.making import PREFIX
from tests.uscore.following import Follower
from tests.uscore.searching import Searcher
from tests.uscore.validator import Validator

KINDS = sorted({one.resource for version in VERSIONS for one in groups(version)})

SOME = 40
OF_A_PATIENT = ("ImagingStudy", "Observation", "DiagnosticReport", "DocumentReference", "Media")


@pytest.fixture(scope="session")
def client(stack):
    """A client that may read, search and write everything."""
    with stack.client() as opened:
        yield opened


@pytest.fixture(scope="session")
def loaded(client):
    """The example data is in the store; its ids are known."""
    answer = client.post("/fhir", json=transaction())
    assert answer.status_code == 200, answer.text


@pytest.fixture(scope="session")
def stored(client, loaded):
    """The example data as the gateway gives it; other tests fill and empty the same store."""
    return {
        kind: [one for one in search(client, kind, _count="200") if one["id"].startswith(PREFIX)]
        for kind in KINDS
    }


@pytest.fixture(scope="session")
def searcher(client, stored):
    return Searcher(client, stored)


@pytest.fixture(scope="session")
def follower(client):
    return Follower(client)


@pytest.fixture(scope="session")
def validator():
    """Gives the validator of a version; each is started once."""
    opened: dict[str, Validator] = {}

    def of(version: str) -> Validator:
        if version not in opened:
            opened[version] = Validator(version)
        return opened[version]

    yield of
    for one in opened.values():
        one.close()


@pytest.fixture(scope="session")
def outgrown(stack, client, tmp_path_factory):
    """A study whose FLAIR came when the report on the rest was there: the ImagingStudy."""
    folder = tmp_path_factory.mktemp("outgrown")
    files = write_study(DEMO_CASE, folder, patient=SyntheticPatient("SYN-0007", "Late^Flair"))
    early, late = (
        [p for p in files if ("flair" in str(p)) is is_late] for is_late in (False, True)
    )
    uid = study_uid(files[0])
    assert stack.run("send", *map(str, early)).returncode == 0
    first = reported(stack, uid)["reports"][0]
    assert stack.run("send", *map(str, late)).returncode == 0
    wait_for(
        lambda: client.get(f"/fhir/DiagnosticReport/{first['id']}").json()["status"] == "cancelled",
        "the first report withdrawn",
    )
    return reported(stack, uid)["study"]


@pytest.fixture(scope="session")
def written(client, demo_study, outgrown):
    """What Hilum itself wrote about the patients of two studies, one superseded, by type."""
    studies = (demo_study["study"], outgrown)
    subjects = [study["subject"]["reference"] for study in studies]
    found = {
        kind: [
            one
            for subject in subjects
            for one in search(client, kind, patient=subject, _count="200")[:SOME]
        ]
        for kind in OF_A_PATIENT
    }
    found["Patient"] = [client.get(f"/fhir/{subject}").json() for subject in subjects]
    found["Task"] = [
        task
        for one in studies
        for task in search(client, "Task", focus=f"ImagingStudy/{one['id']}")
    ]
    about = {f"{one['resourceType']}/{one['id']}" for some in found.values() for one in some}
    found["Provenance"] = [
        one
        for one in search(client, "Provenance", _count="200")
        if about & {target.get("reference") for target in one["target"]}
    ]
    paths = {
        *(one["device"]["reference"] for one in found["Observation"] if "device" in one),
        *(who["reference"] for one in found["DiagnosticReport"] for who in one["performer"]),
        *(one["reference"] for one in demo_study["study"]["endpoint"]),
    }
    for path in sorted(paths):
        found.setdefault(path.split("/")[0], []).append(client.get(f"/fhir/{path}").json())
    first = client.get("/fhir/AuditEvent", params={"_count": str(SOME)}).json()
    return found | {"AuditEvent": [entry["resource"] for entry in first["entry"]]}
