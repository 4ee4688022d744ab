"""Real files of many kinds, sent by DCMTK and by STOW, come back byte for byte and reach FHIR."""

from __future__ import annotations

import io
import socket
import subprocess
import zlib
from pathlib import Path

import pydicom
import pydicom.data
import pydicom.uid
import pytest

from hilum.stack import free_port
from tests.fixtures.peers import needs
from tests.fixtures.running import imaging_study, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.stack]

# What pydicom ships: CT, MR, US, multi-frame, JPEG-LS, JPEG 2000, RLE, deflated, big endian,
# SR, RT. The keys are what each file stands for.
PREAMBLE = 128  # zeroed by default: PS3.10 7.1 gives it no meaning, attackers do
FILES = {
    "CT": "CT_small.dcm",
    "MR": "MR_small.dcm",
    "MR big endian": "MR_small_bigendian.dcm",
    "MR RLE": "MR_small_RLE.dcm",
    "JPEG 2000": "JPEG2000.dcm",
    "JPEG-LS": "emri_small_jpeg_ls_lossless.dcm",
    "multi-frame": "emri_small.dcm",
    "multi-frame RLE": "emri_small_RLE.dcm",
    "deflated": "image_dfl.dcm",
    "US": "examples_ybr_color.dcm",
    "SR": "test-SR.dcm",
    "RT plan": "rtplan.dcm",
    "RT dose": "rtdose.dcm",
    "secondary capture RGB": "SC_rgb.dcm",
}
# pydicom's character-set files: one patient name in each encoding. Left out: two that repeat an
# instance of these in another encoding (a conflict, rightly), two without a Study Instance UID.
NAMES = {
    "chrArab.dcm": "قباني^لنزار",
    "chrFren.dcm": "Buc^Jérôme",
    "chrGerm.dcm": "Äneas^Rüdiger",
    "chrGreek.dcm": "Διονυσιος",
    "chrH31.dcm": "山田^太郎",
    "chrH32.dcm": "山田^太郎",
    "chrHbrw.dcm": "שרון^דבורה",
    "chrI2.dcm": "洪^吉洞",
    "chrJapMulti.dcm": "やまだ^たろう",
    "chrKoreanMulti.dcm": "김희중",
    "chrRuss.dcm": "Люкceмбypг",
    "chrX1.dcm": "王^小東",
    "chrX2.dcm": "王^小东",
}


def path_of(name: str) -> Path:
    """A file that pydicom ships."""
    found = pydicom.data.get_testdata_file(name) or pydicom.data.get_charset_files(name)[0]
    return Path(found)


def as_new_instance(path: Path, folder: Path, kind: str) -> Path:
    """The file under a SOP Instance UID of its own: pydicom's variants of one image share theirs.

    The bytes are replaced in place, at the same length; a deflated data set stays as it is.
    """
    old = str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)
    number = str(10**9 + zlib.crc32(kind.encode()))[-7:]
    new = old[: -len(number) - 1] + "7" + number
    copy = folder / "instance.dcm"
    content = path.read_bytes()
    copy.write_bytes(content if kind == "deflated" else content.replace(old.encode(), new.encode()))
    return copy


def whole(client, path: Path) -> bytes:
    header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    url = (
        f"/dicomweb/studies/{header.StudyInstanceUID}/series/{header.SeriesInstanceUID}"
        f"/instances/{header.SOPInstanceUID}"
    )
    answer = client.get(url, headers={"Accept": "application/dicom; transfer-syntax=*"})
    assert answer.status_code == 200, answer.text
    return answer.content


def data_set_bytes(content: bytes) -> bytes:
    """What follows the file meta information: what a C-STORE carries."""
    file = io.BytesIO(content)
    pydicom.filereader.read_preamble(file, False)
    pydicom.filereader._read_file_meta_info(file)
    return file.read()


@pytest.mark.parametrize("kind", FILES)
def test_a_file_stored_by_stow_comes_back_byte_for_byte_but_for_its_preamble(stack, kind, tmp_path):
    path = as_new_instance(path_of(FILES[kind]), tmp_path, kind)
    sent = stack.run("send", "--stow", str(path))
    assert sent.returncode == 0, sent.stdout + sent.stderr

    with stack.client() as client:
        assert whole(client, path) == bytes(PREAMBLE) + path.read_bytes()[PREAMBLE:]


@pytest.fixture
def dcmtk_receiver(tmp_path):
    """DCMTK's own receiver, keeping what it gets bit for bit: what was really sent."""
    folder = tmp_path / "received"
    folder.mkdir()
    port = free_port()
    command = ["storescp", "+B", "-od", str(folder), "-aet", "PEER", "+xa", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as peer:
        wait_for(lambda: answers(port), "DCMTK's receiver", timeout_s=10)
        yield folder, port
        peer.terminate()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def deflated_with_new_uid(folder: Path) -> Path:
    image = pydicom.dcmread(path_of(FILES["deflated"]))
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    image.save_as(folder / "deflated.dcm", enforce_file_format=True)
    return folder / "deflated.dcm"


# How DCMTK is told to propose the syntax of the file.
PROPOSE = {"JPEG 2000": ["-xw"], "JPEG-LS": ["-xt"], "deflated": ["-xd"]}


@needs("storescu", "storescp")
@pytest.mark.parametrize("kind", ["CT", "MR", "JPEG 2000", "JPEG-LS", "deflated", "RT plan"])
def test_what_dcmtk_sends_is_stored_byte_for_byte(stack, kind, tmp_path, dcmtk_receiver):
    folder, port = dcmtk_receiver
    path = (
        deflated_with_new_uid(tmp_path)
        if kind == "deflated"
        else as_new_instance(path_of(FILES[kind]), tmp_path, f"{kind} by DCMTK")
    )
    targets = [stack.dimse, ("PEER", "127.0.0.1", port)]

    for aet, host, number in targets:
        command = ["storescu", "-aec", aet, *PROPOSE.get(kind, []), host, str(number), str(path)]
        sent = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert sent.returncode == 0, sent.stderr

    received = next(folder.iterdir()).read_bytes()
    with stack.client() as client:
        assert data_set_bytes(whole(client, path)) == data_set_bytes(received)


@pytest.mark.parametrize("name", NAMES)
def test_patient_names_keep_their_characters_on_the_way_to_fhir(stack, name, tmp_path):
    path = path_of(name)
    study = str(pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID)
    sent = stack.run("send", "--stow", str(path))
    assert sent.returncode == 0, sent.stdout + sent.stderr

    with stack.client() as client:
        found = wait_for(lambda: imaging_study(client, study), "an ImagingStudy")
        patient = client.get(f"/fhir/{found['subject']['reference']}").json()

    texts = str(patient["name"])
    for part in NAMES[name].split("^"):
        assert part in texts
