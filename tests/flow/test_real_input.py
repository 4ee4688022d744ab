"""Real files of many kinds, sent by DCMTK and by STOW, come back byte for byte and reach FHIR."""

from __future__ import annotations

import io
import subprocess
import zlib
from pathlib import Path

import pydicom
import pydicom.data
import pytest

from tests.fixtures.peers import needs
from tests.fixtures.running import imaging_study, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.stack]

# What pydicom ships: CT, MR, US, multi-frame, JPEG-LS, JPEG 2000, RLE, deflated, big endian,
# SR, RT. The keys are what each file stands for.
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
# pydicom's character-set files: one patient name in each encoding.
NAMES = {
    "chrArab.dcm": "قباني^لنزار",
    "chrFren.dcm": "Buc^Jérôme",
    "chrGerm.dcm": "Äneas^Rüdiger",
    "chrGreek.dcm": "Διονυσιος",
    "chrH31.dcm": "山田^太郎",
    "chrH32.dcm": "山田^太郎",
    "chrHbrw.dcm": "שרון^דבורה",
    "chrI2.dcm": "洪^吉洞",
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
def test_a_file_stored_by_stow_comes_back_byte_for_byte(stack, kind, tmp_path):
    path = as_new_instance(path_of(FILES[kind]), tmp_path, kind)
    sent = stack.run("send", "--stow", str(path))
    assert sent.returncode == 0, sent.stdout + sent.stderr

    with stack.client() as client:
        assert whole(client, path) == path.read_bytes()


@needs("storescu")
@pytest.mark.parametrize("kind", ["CT", "MR", "JPEG 2000", "JPEG-LS", "deflated", "RT plan"])
def test_a_file_sent_by_dcmtk_comes_back_with_the_same_data_set(stack, kind, tmp_path):
    # The deflated file is the same as by STOW, so it counts as a repeat: also a success.
    salt = kind if kind == "deflated" else f"{kind} by DCMTK"
    fresh = as_new_instance(path_of(FILES[kind]), tmp_path, salt)
    aet, host, port = stack.dimse
    options = {"JPEG 2000": ["-xv"], "JPEG-LS": ["-xt"], "deflated": ["-xd"]}.get(kind, [])

    sent = subprocess.run(
        ["storescu", "-aec", aet, *options, host, str(port), str(fresh)],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert sent.returncode == 0, sent.stderr
    with stack.client() as client:
        stored = whole(client, fresh)
    if not options:  # with -x* DCMTK sends the data set as the file has it
        stored_set, sent_set = pydicom.dcmread(io.BytesIO(stored)), pydicom.dcmread(fresh)
        assert stored_set == sent_set
    else:
        assert data_set_bytes(stored) == data_set_bytes(fresh.read_bytes())


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
