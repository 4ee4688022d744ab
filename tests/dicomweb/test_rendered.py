"""Rendered images against pydicom's own pixel values."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array
from pydicom.pixels.processing import apply_color_lut
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit

from tests.dicomweb.server import file_of, slice_of, url_of
from tests.dicomweb.test_retrieve import stow_sample

PNG = {"Accept": "image/png"}


def picture(answer) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def test_a_window_maps_values_as_the_standard_says(server, web):
    dataset = slice_of(WindowCenter=1000, WindowWidth=500)
    server.stow(file_of(dataset))
    values = dataset.pixel_array.astype(float)

    own = picture(web.get(f"{url_of(dataset)}/rendered", headers=PNG))
    asked = picture(web.get(f"{url_of(dataset)}/rendered?window=2000%2C100%2Clinear", headers=PNG))

    expected = np.clip((values - 999.5) / 499 + 0.5, 0, 1) * 255
    assert np.abs(own - expected).max() <= 0.5
    assert np.abs(asked - np.clip((values - 1999.5) / 99 + 0.5, 0, 1) * 255).max() <= 0.5


def test_monochrome1_is_shown_inverted(server, web):
    plain, inverse = slice_of(), slice_of(PhotometricInterpretation="MONOCHROME1")
    server.stow(file_of(plain), file_of(inverse))

    got = [picture(web.get(f"{url_of(one)}/rendered", headers=PNG)) for one in (plain, inverse)]

    assert np.array_equal(got[0], 255 - got[1])
    assert got[0][0, 0] == 0 and got[0][-1, -1] == 255


@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb.dcm",
        "SC_rgb_rle.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "SC_ybr_full_422_uncompressed.dcm",
        "color-pl.dcm",
        "examples_palette.dcm",
    ],
)
def test_colour_images_look_like_their_source(server, web, name):
    dataset = stow_sample(server, name)

    got = picture(web.get(f"{url_of(dataset)}/rendered", headers=PNG)).astype(int)

    source = io.BytesIO(file_of(dataset))
    expected = pixel_array(source, index=0)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        lut = apply_color_lut(pixel_array(io.BytesIO(file_of(dataset)), index=0, raw=True), dataset)
        expected = lut >> 8 if lut.dtype == np.uint16 else lut
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 1


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "MR_small_RLE.dcm",
        "JPEG-LL.dcm",
        "JPEG2000.dcm",
        "emri_small_jpeg_ls_lossless.dcm",
        "liver_1frame.dcm",
        "rtdose.dcm",
    ],
)
def test_every_codec_renders_to_something_with_contrast(server, web, name):
    dataset = stow_sample(server, name)

    got = picture(web.get(f"{url_of(dataset)}/rendered", headers=PNG))

    assert got.shape[:2] == (dataset.Rows, dataset.Columns)
    assert got.max() > got.min()


def test_viewport_quality_and_frames(server, web):
    pixels = np.zeros((2, 16, 24), "<u2")
    pixels[1, :, 12:] = 4000
    dataset = slice_of(NumberOfFrames=2, PixelData=pixels.tobytes())
    server.stow(file_of(dataset))
    url = url_of(dataset)

    fitted = web.get(f"{url}/frames/2/rendered?viewport=256%2C256&quality=80")
    region = picture(
        web.get(f"{url}/frames/2/rendered?viewport=12,16,12,0,12,16&window=2000,4000", headers=PNG)
    )
    small = picture(web.get(f"{url}/thumbnail", headers=PNG))

    assert fitted.headers["content-type"] == "image/jpeg"
    assert picture(fitted).shape == (171, 256)
    assert region.shape == (16, 12) and region.min() > 250
    assert max(small.shape) == 128


@pytest.mark.parametrize("level", ["study", "series", "instance"])
def test_thumbnails_at_each_level(web, stored, level):
    answer = web.get(f"{url_of(stored, level)}/thumbnail", headers={"Accept": "image/jpeg"})

    assert max(picture(answer).shape) == 128


@pytest.mark.parametrize(
    "query",
    [
        "viewport=0,10",
        "viewport=99999,1",
        "viewport=x",
        "window=1",
        "window=1,0",
        "window=1,2,x",
        "quality=0",
        "quality=nan",
    ],
)
def test_parameters_outside_of_their_form_are_400(web, stored, query):
    assert web.get(f"{url_of(stored)}/rendered?{query}").status_code == 400


def test_an_instance_without_an_image_cannot_be_rendered(server, web):
    dataset = slice_of()
    del dataset.PixelData
    server.stow(file_of(dataset))

    assert web.get(f"{url_of(dataset)}/rendered").status_code == 406
    assert web.get(f"{url_of(dataset)}/frames/1").status_code in (404, 406)
    assert (
        web.get(f"{url_of(dataset)}/rendered", headers={"Accept": "video/mp4"}).status_code == 406
    )


def hostile(syntax, codestream, **changes):
    dataset = slice_of(BitsAllocated=8, BitsStored=8, HighBit=7, **changes)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([codestream])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return dataset


def giant_jpeg() -> bytes:
    out = io.BytesIO()
    Image.new("L", (24, 16)).save(out, "JPEG")
    data = bytearray(out.getvalue())
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = (60000).to_bytes(2, "big") * 2
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        ("giant codestream", lambda: hostile(JPEGBaseline8Bit, giant_jpeg())),
        ("rubbish", lambda: hostile(JPEG2000Lossless, b"\xff\x4f\xff\x51rubbish!" * 4)),
        ("empty", lambda: hostile(JPEGBaseline8Bit, b"\xff\xd8\xff\xd9")),
        (
            "giant data set",
            lambda: hostile(JPEGBaseline8Bit, b"\xff\xd8", Rows=60000, Columns=60000),
        ),
        ("short", lambda: slice_of(Rows=500, Columns=500)),
    ],
)
def test_hostile_images_are_refused_and_the_server_lives(server, web, name, dataset):
    dataset = dataset()
    server.stow(file_of(dataset))

    answers = [
        web.get(f"{url_of(dataset)}/rendered"),
        web.get(
            url_of(dataset),
            headers={"Accept": "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"},
        ),
    ]

    assert answers[0].status_code in (404, 406), name
    assert answers[1].status_code in (200, 404, 406), name
    assert web.get("/studies?limit=1").status_code == 200


def test_a_lookup_table_that_does_not_fit_is_no_crash(server, web):
    dataset = dcmread(get_testdata_file("CT_small.dcm", download=False))
    fresh = slice_of()
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = fresh.SOPInstanceUID
    dataset.StudyInstanceUID = fresh.StudyInstanceUID
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    server.stow(file_of(dataset))

    assert web.get(f"{url_of(dataset)}/rendered").status_code == 406
