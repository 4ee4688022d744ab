"""WADO-RS frames in the forms of X6 and X32: lists, fragments, tables or none, all types."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import (
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from tests.dicomweb.server import file_of, parts_of, slice_of, url_of
from tests.dicomweb.test_retrieve import ANY, NATIVE

COUNT = 4


def jpegs() -> list[bytes]:
    made = []
    for number in range(COUNT):
        out = io.BytesIO()
        Image.new("L", (24, 16), number * 60).save(out, "JPEG", quality=95)
        made.append(out.getvalue())
    return made


def with_fragments():
    return encapsulate(jpegs(), fragments_per_frame=3, has_bot=True)


def without_table():
    return encapsulate(jpegs(), fragments_per_frame=2, has_bot=False)


def multi_frame(pixel_data):
    dataset = slice_of(BitsAllocated=8, BitsStored=8, HighBit=7, NumberOfFrames=COUNT)
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = pixel_data
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return dataset


def with_extended_table():
    data, offsets, lengths = encapsulate_extended(jpegs())
    dataset = multi_frame(data)
    dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = offsets, lengths
    return dataset


@pytest.mark.parametrize(
    "make",
    [
        lambda: multi_frame(with_fragments()),
        lambda: multi_frame(without_table()),
        lambda: multi_frame(encapsulate(jpegs(), has_bot=False)),
        with_extended_table,
    ],
    ids=["fragments", "fragments without table", "empty table", "extended table"],
)
def test_each_frame_is_found_and_in_the_order_asked_for(server, web, make):
    dataset = make()
    assert server.stow(file_of(dataset)).status_code == 200

    answer = web.get(f"{url_of(dataset)}/frames/1,1,3", headers=ANY)
    typed = web.get(f"{url_of(dataset)}/frames/4", headers={"Accept": "image/jpeg"})

    frames = [body for _, body in parts_of(answer)]
    # A fragment of odd length is padded with a zero behind the end of the image.
    assert [one.rstrip(b"\0") for one in frames] == [jpegs()[n].rstrip(b"\0") for n in (0, 0, 2)]
    assert typed.headers["content-type"].startswith("image/jpeg")
    assert typed.content.rstrip(b"\0") == jpegs()[3].rstrip(b"\0")


def test_frames_are_decoded_for_who_wants_octets(server, web):
    dataset = multi_frame(without_table())
    server.stow(file_of(dataset))

    parts = parts_of(web.get(f"{url_of(dataset)}/frames/1,2,3,4", headers=NATIVE))

    values = [np.frombuffer(body, "u1") for _, body in parts]
    assert [int(one.mean().round()) for one in values] == [0, 60, 120, 180]
    assert {one.size for one in values} == {16 * 24}


@pytest.mark.parametrize(
    ("kind", "syntax"),
    [
        ("image/jls", JPEGLSLossless),
        ("image/jp2", JPEG2000Lossless),
        ("image/jphc", HTJ2KLossless),
        ("image/dicom-rle", RLELossless),
        ("image/x-dicom-rle", RLELossless),
    ],
)
def test_a_native_frame_is_compressed_for_who_asks(server, web, stored, kind, syntax):
    single = web.get(f"{url_of(stored)}/frames/1", headers={"Accept": kind})
    wrapped = web.get(
        f"{url_of(stored)}/frames/1", headers={"Accept": f'multipart/related; type="{kind}"'}
    )

    assert single.headers["content-type"] == f"{kind}; transfer-syntax={syntax}"
    assert parts_of(wrapped)[0][1] == single.content
    stored.PixelData = encapsulate([single.content])
    stored.file_meta.TransferSyntaxUID = syntax
    stored["PixelData"].is_undefined_length = True
    expected = np.arange(16 * 24, dtype="<u2").reshape(16, 24) * 8
    assert np.array_equal(dcmread(io.BytesIO(file_of(stored))).pixel_array, expected)


@pytest.mark.parametrize(
    ("numbers", "status"), [("0", 400), ("1,0", 400), ("-1", 400), ("5", 404), ("1,5", 404)]
)
def test_frames_that_are_not_there(server, web, numbers, status):
    dataset = multi_frame(with_fragments())
    server.stow(file_of(dataset))

    assert web.get(f"{url_of(dataset)}/frames/{numbers}", headers=ANY).status_code == status
