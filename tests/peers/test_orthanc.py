"""Hilum and a real Orthanc, each in both roles, over DIMSE and DICOMweb."""

from __future__ import annotations

import hashlib
import json

import httpx
import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, generate_uid

from tests.dicomweb.server import file_of, read_head, slice_of
from tests.fixtures.peers import needs
from tests.fixtures.running import wait_for

pytestmark = [pytest.mark.stack, pytest.mark.slow, needs("Orthanc")]

COUNT = 3


def new_study() -> list[bytes]:
    """A small CT study of a patient of its own, as files."""
    study, series, patient = generate_uid(), generate_uid(), generate_uid()[-12:]
    return [
        file_of(
            slice_of(
                study,
                series,
                SOPClassUID=CTImageStorage,
                Modality="CT",
                PatientID=patient,
                InstanceNumber=number,
            )
        )
        for number in range(1, COUNT + 1)
    ]


def uid_of(files: list[bytes]) -> str:
    return str(read_head(files[0]).StudyInstanceUID)


def pixels_of(files: list[bytes]) -> dict[str, str]:
    """Hash of the pixels by SOP Instance UID."""
    from io import BytesIO

    found = {}
    for file in files:
        data = dcmread(BytesIO(file))
        found[str(data.SOPInstanceUID)] = hashlib.sha256(data.PixelData).hexdigest()
    return found


@pytest.fixture
def client(stack):
    with stack.client() as opened:
        yield opened


def in_hilum(client: httpx.Client, study: str) -> list[bytes]:
    """What Hilum has of a study."""
    found = client.get(f"/dicomweb/studies/{study}/instances")
    if found.status_code == 204:
        return []
    urls = [one["00081190"]["Value"][0] for one in found.json()]
    accept = {"Accept": "application/dicom; transfer-syntax=*"}
    return [client.get(url, headers=accept).content for url in urls]


def in_orthanc(orthanc, study: str) -> list[bytes]:
    """What Orthanc has of a study."""
    return [
        orthanc.rest.get(f"/instances/{i['ID']}/file").content for i in orthanc.instances(study)
    ]


@pytest.fixture
def stored_in_orthanc(orthanc):
    files = new_study()
    for file in files:
        orthanc.post("/instances", file)
    return files


@pytest.fixture
def stored_in_hilum(stack, tmp_path):
    files = new_study()
    folder = tmp_path / "sent"
    folder.mkdir()
    for number, file in enumerate(files):
        (folder / f"{number}.dcm").write_bytes(file)
    done = stack.run("send", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    return files


def orthanc_id(orthanc, study: str) -> str:
    wanted = {"Level": "Study", "Query": {"StudyInstanceUID": study}}
    (found,) = orthanc.post("/tools/find", wanted)
    return str(found)


def test_orthanc_reaches_hilum_by_c_echo(orthanc):
    orthanc.post("/modalities/hilum/echo", {})


def test_orthanc_stores_to_hilum_by_c_store(orthanc, client, stored_in_orthanc):
    study = uid_of(stored_in_orthanc)

    done = orthanc.post(
        "/modalities/hilum/store", {"Resources": [orthanc_id(orthanc, study)], "Synchronous": True}
    )

    assert done["FailedInstancesCount"] == 0
    assert pixels_of(in_hilum(client, study)) == pixels_of(stored_in_orthanc)


def test_orthanc_stores_to_hilum_by_stow(orthanc, client, stored_in_orthanc):
    study = uid_of(stored_in_orthanc)

    orthanc.post("/dicom-web/servers/hilum/stow", {"Resources": [orthanc_id(orthanc, study)]})

    assert pixels_of(in_hilum(client, study)) == pixels_of(stored_in_orthanc)


@pytest.mark.parametrize("level", ["Study", "Series", "Instance"])
def test_orthanc_queries_hilum_by_c_find(orthanc, stored_in_hilum, level):
    head = read_head(stored_in_hilum[0])
    query = {"PatientID": str(head.PatientID), "StudyInstanceUID": str(head.StudyInstanceUID)}
    if level == "Instance":
        query["SeriesInstanceUID"] = str(head.SeriesInstanceUID)

    asked = orthanc.post("/modalities/hilum/query", {"Level": level, "Query": query})
    answers = orthanc.rest.get(f"/queries/{asked['ID']}/answers", params={"expand": ""}).json()

    assert len(answers) == {"Study": 1, "Series": 1, "Instance": COUNT}[level]
    assert {one["0020,000d"]["Value"] for one in answers} == {str(head.StudyInstanceUID)}


def test_orthanc_retrieves_from_hilum_by_c_move(orthanc, stored_in_hilum):
    study = uid_of(stored_in_hilum)

    asked = orthanc.post(
        "/modalities/hilum/query", {"Level": "Study", "Query": {"StudyInstanceUID": study}}
    )
    orthanc.post(f"/queries/{asked['ID']}/retrieve", {"TargetAet": "ORTHANC", "Synchronous": True})

    assert pixels_of(in_orthanc(orthanc, study)) == pixels_of(stored_in_hilum)


def test_orthanc_queries_and_retrieves_from_hilum_by_dicomweb(orthanc, stored_in_hilum):
    study = uid_of(stored_in_hilum)

    asked = orthanc.post(
        "/dicom-web/servers/hilum/qido",
        {"Uri": "/studies", "Arguments": {"StudyInstanceUID": study}},
    )
    orthanc.post(
        "/dicom-web/servers/hilum/retrieve", {"Resources": [{"Study": study}], "Synchronous": True}
    )

    assert len(asked) == 1
    assert pixels_of(in_orthanc(orthanc, study)) == pixels_of(stored_in_hilum)


def test_hilum_sends_to_orthanc_by_c_store(orthanc, stack, tmp_path):
    files = new_study()
    for number, file in enumerate(files):
        (tmp_path / f"{number}.dcm").write_bytes(file)

    done = stack.run("send", str(tmp_path), "--to", "ORTHANC")

    assert done.returncode == 0, done.stdout + done.stderr
    assert pixels_of(in_orthanc(orthanc, uid_of(files))) == pixels_of(files)


def test_hilum_reaches_and_queries_orthanc(orthanc, stack, stored_in_orthanc):
    study = uid_of(stored_in_orthanc)

    echo = stack.run("echo", "ORTHANC")
    found = stack.run("find", "ORTHANC", "--key", f"StudyInstanceUID={study}", "--json")

    assert echo.returncode == 0, echo.stdout + echo.stderr
    assert found.returncode == 0, found.stdout + found.stderr
    assert [one["0020000D"]["Value"] for one in json.loads(found.stdout)] == [[study]]


@pytest.mark.parametrize("way", ["C-GET", "C-MOVE"])
def test_hilum_retrieves_from_orthanc(orthanc, stack, client, stored_in_orthanc, way):
    study = uid_of(stored_in_orthanc)
    words = ["--move-to", stack.dimse[0]] if way == "C-MOVE" else ["--to-archive"]

    done = stack.run("retrieve", "ORTHANC", "--study", study, *words)

    assert done.returncode == 0, done.stdout + done.stderr
    assert pixels_of(in_hilum(client, study)) == pixels_of(stored_in_orthanc)


def test_orthanc_vouches_for_what_hilum_sent(orthanc, stack, tmp_path):
    for number, file in enumerate(new_study()):
        (tmp_path / f"{number}.dcm").write_bytes(file)
    before = stack.run("commit", "ORTHANC", str(tmp_path))
    sent = stack.run("send", str(tmp_path), "--to", "ORTHANC")

    after = stack.run("commit", "ORTHANC", str(tmp_path))

    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert before.returncode == 1, before.stdout + before.stderr
    assert after.returncode == 0, after.stdout + after.stderr


def test_hilum_vouches_for_what_orthanc_sent(orthanc, stored_in_orthanc):
    study = uid_of(stored_in_orthanc)

    done = orthanc.post(
        "/modalities/hilum/store",
        {
            "Resources": [orthanc_id(orthanc, study)],
            "Synchronous": True,
            "StorageCommitment": True,
        },
    )

    def report() -> str | None:
        uid = done["StorageCommitmentTransactionUID"]
        status = orthanc.rest.get(f"/storage-commitment/{uid}").json()["Status"]
        return None if status == "Pending" else str(status)

    assert wait_for(report, "a storage commitment report", timeout_s=60) == "Success"


def test_a_right_that_orthanc_does_not_have_is_refused(orthanc, stack, stored_in_hilum):
    study = uid_of(stored_in_hilum)
    question = {"Level": "Study", "Query": {"StudyInstanceUID": study}}

    def status() -> int:
        return orthanc.rest.post("/modalities/hilum/query", json=question).status_code

    stack.run("peers", "set", "ORTHANC", "--rights", "store")
    try:
        refused = wait_for(lambda: status() != 200, "the right taken away", timeout_s=15)
    finally:
        stack.run("peers", "set", "ORTHANC", "--rights", "store,query,retrieve")

    assert refused
    assert wait_for(lambda: status() == 200, "the right given back", timeout_s=15)
