"""Whole files and frames in other transfer syntaxes: every value kept, or a clear refusal."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from pixels import (
    TARGETS,
    NotDecodable,
    NotPossible,
    PixelError,
    PixelsConfig,
    TooLarge,
    Transcoder,
)
from pixels.syntaxes import EXPLICIT_LE, HTJ2K, IMPLICIT_LE, JPEG_2000, JPEG_LS, RLE
from tests.dicomweb.server import slice_of

SAMPLES = [
    "CT_small.dcm",  # explicit little endian, 16 bits signed
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_rle.dcm",
    "SC_rgb_rle_2frame.dcm",
    "emri_small.dcm",  # ten frames
    "image_dfl.dcm",  # deflated
    "JPEG-LL.dcm",
    "JPGExtended.dcm",  # twelve bits: no decoder of pydicom takes it
    "color-pl.dcm",  # planar palette
    "liver_expb.dcm",  # bits, big endian
    "SC_ybr_full_422_uncompressed.dcm",
]


@pytest.fixture(scope="module")
def transcoder(tmp_path_factory):
    made = Transcoder(PixelsConfig(cache=tmp_path_factory.mktemp("cache"), timeout_s=60))
    yield made
    made.close()


def sample(name: str) -> Path:
    return Path(get_testdata_file(name, download=False))


def written(folder: Path, dataset) -> Path:
    path = folder / "one.dcm"
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


def read(transcoder, path, target):
    with transcoder.transcode(path, target) as file:
        return dcmread(io.BytesIO(file.read()))


@pytest.mark.parametrize("name", SAMPLES)
def test_every_target_keeps_every_value_or_says_why_not(transcoder, name):
    source = dcmread(sample(name))
    values = source.pixel_array if name != "JPGExtended.dcm" else None

    for target in TARGETS:
        try:
            got = read(transcoder, sample(name), target)
        except NotPossible:
            assert target not in (EXPLICIT_LE, IMPLICIT_LE)
            continue
        assert got.file_meta.TransferSyntaxUID == target
        assert got.file_meta.MediaStorageSOPInstanceUID == source.SOPInstanceUID
        if values is None:
            values = got.pixel_array
        assert np.array_equal(got.pixel_array, values), target


def test_other_attributes_stay_as_they_are(transcoder):
    source = dcmread(sample("CT_small.dcm"))

    got = read(transcoder, sample("CT_small.dcm"), JPEG_2000)

    skipped = {"PixelData", "DigitalSignaturesSequence"}
    for element in source:
        if element.keyword not in skipped:
            assert got[element.tag].value == element.value, element.keyword
    assert got.BitsStored == source.BitsStored == 16


def test_colours_carry_the_name_of_what_they_have_become(transcoder):
    rgb, jpeg = sample("SC_rgb.dcm"), sample("SC_rgb_jpeg_dcmtk.dcm")

    assert read(transcoder, rgb, JPEG_2000).PhotometricInterpretation == "YBR_RCT"
    assert read(transcoder, rgb, HTJ2K).PhotometricInterpretation == "YBR_RCT"
    assert read(transcoder, rgb, JPEG_LS).PhotometricInterpretation == "RGB"
    decoded = read(transcoder, jpeg, EXPLICIT_LE)
    assert decoded.PhotometricInterpretation == "RGB"
    assert decoded.LossyImageCompression == "01"


def test_compressed_files_have_a_filled_offset_table(transcoder):
    got = read(transcoder, sample("emri_small.dcm"), RLE)

    count = got.NumberOfFrames
    assert int.from_bytes(got.PixelData[4:8], "little") == 4 * count
    assert got.PixelData[8:12] == b"\0" * 4


def test_lossy_targets_are_never_made(transcoder):
    for target in ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.91"):
        with pytest.raises(NotPossible):
            transcoder.transcode(sample("CT_small.dcm"), target)


def test_bits_above_those_stored_are_not_dropped_silently(transcoder, tmp_path):
    """Old modalities keep overlays there."""
    dataset = slice_of(PixelData=(np.full((16, 24), 0x8001, "<u2")).tobytes())
    path = written(tmp_path, dataset)

    with pytest.raises(NotPossible):
        transcoder.transcode(path, JPEG_LS)
    assert read(transcoder, path, IMPLICIT_LE).PixelData == dataset.PixelData


def test_frames_in_fragments_without_tables_are_found(transcoder, tmp_path):
    frames = [bytes(f) for f in np.random.default_rng(1).integers(0, 255, (3, 16 * 24), "u1")]
    dataset = slice_of(NumberOfFrames=3, BitsAllocated=8, BitsStored=8, HighBit=7)
    dataset.PixelData = b"".join(frames)
    dataset.compress(JPEGLSLossless, generate_instance_uid=False)
    from pydicom.encaps import generate_frames

    streams = list(generate_frames(dataset.PixelData, number_of_frames=3))
    dataset.PixelData = encapsulate(streams, fragments_per_frame=2, has_bot=False)
    path = written(tmp_path, dataset)

    got = read(transcoder, path, EXPLICIT_LE)

    assert got.PixelData == b"".join(frames)


@pytest.mark.parametrize("target", [EXPLICIT_LE, JPEG_LS, RLE, JPEG_2000, HTJ2K])
def test_single_frames_in_each_form(transcoder, target):
    path = sample("MR_small_jp2klossless.dcm")
    dataset = dcmread(path)
    from pydicom.encaps import generate_frames

    data = next(generate_frames(dataset.PixelData, number_of_frames=1))

    got = transcoder.frame(path, str(dataset.file_meta.TransferSyntaxUID), data, target)

    if target == EXPLICIT_LE:
        assert got == dataset.pixel_array.tobytes()
    else:
        dataset.PixelData = encapsulate([got])
        dataset.file_meta.TransferSyntaxUID = target
        again = io.BytesIO()
        dcmwrite(again, dataset)
        expected = dcmread(sample("MR_small_jp2klossless.dcm")).pixel_array
        assert np.array_equal(dcmread(io.BytesIO(again.getvalue())).pixel_array, expected)


def deflated_bomb(folder: Path) -> Path:
    dataset = slice_of(PixelData=b"\0" * (16 * 24 * 2))
    dataset.add_new(0x00091001, "OB", b"\0" * (200 * 1024 * 1024))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return written(folder, dataset)


def test_a_deflate_bomb_is_refused(tmp_path):
    path = deflated_bomb(tmp_path)
    assert path.stat().st_size < 1024 * 1024
    tracemalloc.start()
    small = Transcoder(PixelsConfig(max_instance_bytes=64 * 1024 * 1024))

    with pytest.raises(TooLarge):
        small.transcode(path, EXPLICIT_LE)

    assert tracemalloc.get_traced_memory()[1] < 4 * 1024 * 1024
    tracemalloc.stop()
    small.close()


def test_a_decoder_that_needs_too_much_memory_or_time_is_a_refusal(tmp_path):
    path = written(tmp_path, slice_of(Rows=9000, Columns=9000, PixelData=b"\0" * 9000 * 9000 * 2))
    little = Transcoder(PixelsConfig(memory_bytes=600 * 1024 * 1024))
    slow = Transcoder(PixelsConfig(timeout_s=0.05))

    with pytest.raises(PixelError):
        little.transcode(path, JPEG_2000)
    with pytest.raises(NotDecodable):
        slow.transcode(path, RLE)

    little.close()
    slow.close()


def test_a_killed_decoder_is_replaced(transcoder):
    transcoder.frame(sample("CT_small.dcm"), EXPLICIT_LE, b"\0" * 32768, RLE)
    [process, *_] = transcoder._pool._idle  # there is no other way to find the process
    process._process.kill()
    process._process.wait()

    got = transcoder.frame(sample("CT_small.dcm"), EXPLICIT_LE, b"\0" * 32768, RLE)

    assert len(got) > 64


def test_the_decoder_ends_when_its_parent_does(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "from pathlib import Path\nimport os\nfrom pixels import *\n"
        "t = Transcoder(PixelsConfig())\n"
        f"t.frame(Path({str(sample('CT_small.dcm'))!r}), {EXPLICIT_LE!r}, bytes(32768),"
        f" {RLE!r})\n"
        "print(t._pool._idle[0]._process.pid, flush=True)\nos._exit(1)\n"
    )
    root = Path(__file__).resolve().parents[2]
    ran = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    pid = int(ran.stdout)

    for _ in range(100):
        if (
            not Path(f"/proc/{pid}/cmdline").exists()
            or not Path(f"/proc/{pid}/cmdline").read_bytes()
        ):
            return
        subprocess.run(["sleep", "0.05"])
    pytest.fail("the decoder outlives its parent")


def test_rle_of_a_wrong_size_is_refused(transcoder, tmp_path):
    dataset = slice_of()
    dataset.file_meta.TransferSyntaxUID = RLELossless
    dataset.PixelData = encapsulate([b"\x02\0\0\0" + b"\xff" * 60 + b"\0" * 20])
    dataset["PixelData"].VR = "OB"
    path = written(tmp_path, dataset)

    with pytest.raises(NotDecodable):
        transcoder.transcode(path, EXPLICIT_LE)
