"""Transcoding by Accept, over HTTP and with dicomweb-client."""

from __future__ import annotations

import io

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from tests.dicomweb.server import file_of, parts_of, slice_of, url_of
from tests.dicomweb.test_retrieve import stow_sample

DICOM = "application/dicom"
MADE = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    JPEGLSLossless,
    JPEG2000Lossless,
    HTJ2KLossless,
]


def accept(syntax, q=1.0):
    return f'multipart/related; type="{DICOM}"; transfer-syntax={syntax}; q={q}'


@pytest.mark.parametrize("syntax", MADE)
@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_RLE.dcm"])
def test_an_instance_in_every_syntax_that_is_made(server, web, name, syntax):
    dataset = stow_sample(server, name)

    wrapped = web.get(url_of(dataset), headers={"Accept": accept(syntax)})
    plain = web.get(url_of(dataset), headers={"Accept": f"{DICOM}; transfer-syntax={syntax}"})

    [(headers, body)] = parts_of(wrapped)
    assert headers["content-type"] == f"{DICOM}; transfer-syntax={syntax}"
    assert body == plain.content
    assert int(plain.headers["content-length"]) == len(plain.content)
    got = dcmread(io.BytesIO(body))
    assert got.file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(got.pixel_array, dataset.pixel_array)


def test_the_weights_of_accept_decide(server, web):
    dataset = stow_sample(server, "MR_small_RLE.dcm")

    def syntax(header):
        answer = web.get(url_of(dataset), headers={"Accept": header})
        return parts_of(answer)[0][0]["content-type"].split("=")[1]

    both = f"{accept(JPEGLSLossless, 0.5)}, {accept(JPEG2000Lossless, 0.9)}"
    assert syntax(both) == JPEG2000Lossless
    assert syntax(f"{accept('*', 0.1)}, {accept(JPEG2000, 1)}") == RLELossless
    assert syntax(accept("*")) == RLELossless
    assert syntax(f'multipart/related; type="{DICOM}"') == ExplicitVRLittleEndian


@pytest.mark.parametrize("syntax", [JPEG2000, JPEGBaseline8Bit, "1.2.840.10008.1.2.4.107"])
def test_what_would_lose_something_is_406_and_says_what_is_offered(web, stored, syntax):
    answer = web.get(url_of(stored), headers={"Accept": accept(syntax)})

    assert answer.status_code == 406
    assert any(RLELossless in offer for offer in answer.json()["offered"])


def test_a_study_of_several_syntaxes_comes_in_the_one_that_is_asked_for(server, web):
    study = slice_of()
    other = slice_of(study.StudyInstanceUID)
    other.compress(RLELossless, generate_instance_uid=False)
    report = slice_of(study.StudyInstanceUID)
    del report.PixelData
    server.stow(file_of(study), file_of(other), file_of(report))

    parts = parts_of(web.get(url_of(study, "study"), headers={"Accept": accept(JPEGLSLossless)}))

    syntaxes = [dcmread(io.BytesIO(body)).file_meta.TransferSyntaxUID for _, body in parts]
    # Without pixel data there is nothing to compress: it comes as it is, and says so.
    assert sorted(syntaxes) == [ExplicitVRLittleEndian, JPEGLSLossless, JPEGLSLossless]


def test_dicomweb_client_gets_what_it_names(server, stored):
    peer = server.peer()
    names = (stored.StudyInstanceUID, stored.SeriesInstanceUID, stored.SOPInstanceUID)

    got = peer.retrieve_instance(*names, media_types=((DICOM, str(JPEG2000Lossless)),))
    frames = peer.retrieve_instance_frames(
        *names, frame_numbers=[1], media_types=(("image/jls", str(JPEGLSLossless)),)
    )

    assert got.file_meta.TransferSyntaxUID == JPEG2000Lossless
    assert np.array_equal(got.pixel_array, stored.pixel_array)
    assert frames[0].startswith(b"\xff\xd8")


def test_the_second_time_comes_from_the_cache_and_is_the_same(server, web, stored):
    header = {"Accept": f"{DICOM}; transfer-syntax={JPEG2000Lossless}"}

    answers = [web.get(url_of(stored), headers=header) for _ in range(2)]

    assert answers[0].content == answers[1].content
    assert answers[0].headers["etag"] == answers[1].headers["etag"]
