"""pydicom's own collection of real and awkward files: kept exactly and understood rightly."""

from __future__ import annotations

import hashlib
import io
import warnings
from pathlib import Path

import data_store
import pydicom
import pytest
from pydicom import dcmread
from pydicom.encaps import generate_frames

from archive import ArchiveError, Source
from archive.names import GROUPS

DATA = Path(pydicom.__file__).parent / "data"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"


def part10_files(*folders):
    found = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.read_bytes()[128:132] == b"DICM":
                found.append(path)
    return found


SAMPLES = part10_files(DATA / "test_files", Path(data_store.__file__).parent / "data")
CHARSETS = part10_files(DATA / "charset_files")
# No Study Instance UID, a cut-off file, a UID that is none, no transfer syntax: no place for these.
REFUSED = {"MissingAttribute", "Truncated", "InvalidUid", "NotDicom"}


def with_own_uid(content, number):
    """The file with a SOP Instance UID of its own: many samples are variants of one instance."""
    uid = dcmread(io.BytesIO(content), specific_tags=["SOPInstanceUID"]).get("SOPInstanceUID")
    if not uid or len(uid) < 8:
        return content
    return content.replace(uid.encode(), f"{uid[:-4]}{1000 + number}".encode())


@pytest.fixture(scope="module")
def stored(shared):
    """Every sample: path -> (archive, key, bytes sent), and the refusals."""
    placed, refusals = {}, {}
    for number, path in enumerate(SAMPLES + CHARSETS):
        sent = with_own_uid(path.read_bytes(), number)
        try:
            with shared.receive() as incoming:
                incoming.write(sent)
                placed[path] = (shared, shared.store(incoming, Source("local")).key, sent)
        except ArchiveError as error:
            refusals[path] = error
    return placed, refusals


def test_every_sample_with_a_place_is_kept_byte_for_byte(stored):
    placed, refusals = stored

    for path, (archive, key, sent) in placed.items():
        with archive.read(key) as file:
            assert file.read() == bytes(128) + sent[128:], path.name
    assert {type(error).__name__ for error in refusals.values()} <= REFUSED
    assert len(placed) > 200
    assert len(placed) + len(refusals) == len(SAMPLES + CHARSETS)


def test_only_samples_that_pydicom_finds_no_place_for_either_are_refused(stored):
    _, refusals = stored

    for path, error in refusals.items():
        if type(error).__name__ == "MissingAttribute":
            assert not dcmread(path, force=True).get("StudyInstanceUID"), path.name


def test_metadata_of_every_sample_agree_with_pydicom(stored):
    placed, _ = stored

    for path, (archive, key, _) in placed.items():
        ours = archive.instance_metadata(key)
        theirs = dcmread(path)
        top = {f"{e.tag:08X}" for e in theirs if e.tag.element != 0}
        assert set(ours) == top, path.name
        for keyword in ("Rows", "Columns", "SOPClassUID", "StudyDate", "Modality"):
            if theirs.get(keyword) not in (None, ""):
                tag = f"{theirs[keyword].tag:08X}"
                assert str(ours[tag]["Value"][0]) == str(theirs[keyword].value), path.name


def test_person_names_come_out_of_every_character_set(stored):
    placed, _ = stored
    checked = 0

    for path in CHARSETS:
        if path not in placed:
            continue
        archive, key, _ = placed[path]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = dcmread(path)
            theirs.decode()
        name = archive.instance_metadata(key)["00100010"]["Value"][0]
        expected = {
            group: value
            for group, value in zip(GROUPS, str(theirs.PatientName).split("="), strict=False)
            if value
        }
        assert name == expected, path.name
        checked += 1
    assert checked >= 15


def test_frames_of_every_sample_are_those_of_pydicom(stored):
    placed, _ = stored
    checked = 0

    for path, (archive, key, _) in placed.items():
        dataset = dcmread(path)
        if "PixelData" not in dataset or not dataset.get("Rows"):
            continue
        frames = str(dataset.get("NumberOfFrames") or 1)
        count = int(frames) if frames.isdigit() else 1
        syntax = dataset.file_meta.TransferSyntaxUID
        assert archive.instance(key).frames == count
        try:
            ours = [archive.frame(key, number) for number in range(1, count + 1)]
        except ArchiveError:
            # Fewer bytes than the header promises: pydicom cannot make an array of it either.
            assert (
                "too_short" in path.name
                or "badVR" in path.name
                or len(dataset.PixelData) < expected_length(dataset)
            ), path.name
            continue
        if syntax.is_compressed and syntax != DEFLATED:
            theirs = list(generate_frames(dataset.PixelData, number_of_frames=count))
            assert [digest(f) for f in ours] == [digest(f) for f in theirs], path.name
        elif dataset.BitsAllocated > 1 and syntax != BIG_ENDIAN:
            assert dataset.PixelData.startswith(b"".join(ours)), path.name
        checked += 1
    assert checked > 100


def test_big_endian_pixels_come_out_little_endian(stored):
    placed, _ = stored
    small = next(path for path in placed if path.name == "MR_small_bigendian.dcm")
    little = next(path for path in placed if path.name == "MR_small.dcm")

    archive, key, _ = placed[small]

    assert archive.frame(key, 1) == dcmread(little).PixelData


def expected_length(dataset):
    pixels = dataset.Rows * dataset.Columns * dataset.get("SamplesPerPixel", 1)
    return pixels * dataset.BitsAllocated * int(dataset.get("NumberOfFrames") or 1) // 8


def digest(data):
    return hashlib.sha256(bytes(data)).hexdigest()
