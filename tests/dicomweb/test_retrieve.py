"""WADO-RS: instances, metadata, frames and bulk data."""

from __future__ import annotations

import gzip
import io

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless, generate_uid

from tests.dicomweb.server import file_of, parts_of, slice_of, url_of

ANY = {"Accept": 'multipart/related; type="application/octet-stream"; transfer-syntax=*'}
NATIVE = {"Accept": 'multipart/related; type="application/octet-stream"'}


def stow_sample(server, name):
    dataset = dcmread(get_testdata_file(name, download=False))
    # Samples share UIDs with each other, so each gets its own.
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    assert server.stow(file_of(dataset)).status_code == 200
    return dataset


def test_study_series_and_instance_as_multipart_with_known_length(server, web):
    study, series = generate_uid(), generate_uid()
    files = [file_of(slice_of(study, series, InstanceNumber=n)) for n in (1, 2)]
    files.append(file_of(slice_of(study)))
    server.stow(*files)

    whole = web.get(f"/studies/{study}")
    one = web.get(f"/studies/{study}/series/{series}")

    assert int(whole.headers["content-length"]) == len(whole.content)
    assert {body for _, body in parts_of(whole)} == set(files)
    assert [body for _, body in parts_of(one)] == files[:2]
    assert (
        parts_of(one)[0][0]["content-type"]
        == f"application/dicom; transfer-syntax={ExplicitVRLittleEndian}"
    )


def test_an_instance_as_a_single_part(web, stored):
    answer = web.get(url_of(stored), headers={"Accept": "application/dicom"})

    assert answer.content == file_of(stored)
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "private" in answer.headers["cache-control"]


@pytest.mark.parametrize(
    "name", ["MR_small_RLE.dcm", "JPEG2000.dcm", "SC_rgb_jpeg_dcmtk.dcm", "MR_small_bigendian.dcm"]
)
def test_who_asks_for_explicit_little_endian_gets_it_decoded(server, web, name):
    dataset = stow_sample(server, name)

    answer = web.get(
        url_of(dataset),
        headers={"Accept": f"application/dicom; transfer-syntax={ExplicitVRLittleEndian}"},
    )

    got = dcmread(io.BytesIO(answer.content))
    assert got.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert got.SOPInstanceUID == dataset.SOPInstanceUID
    assert np.array_equal(got.pixel_array, dataset.pixel_array)


def test_dicomweb_client_retrieves(server, stored):
    peer = server.peer()
    names = (stored.StudyInstanceUID, stored.SeriesInstanceUID, stored.SOPInstanceUID)

    series = peer.retrieve_series(*names[:2])
    metadata = peer.retrieve_instance_metadata(*names)
    frames = peer.retrieve_instance_frames(*names, frame_numbers=[1])
    picture = peer.retrieve_instance_rendered(*names, media_types=("image/png",))

    assert series[0].PixelData == stored.PixelData
    assert metadata["00080018"]["Value"] == [stored.SOPInstanceUID]
    assert frames == [stored.PixelData]
    assert picture.startswith(b"\x89PNG")


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_metadata_is_the_same_packed_or_not_and_has_an_etag(web, stored, encoding):
    url = f"{url_of(stored, 'series')}/metadata"

    answer = web.get(url, headers={"Accept-Encoding": encoding})
    again = web.get(
        url, headers={"Accept-Encoding": encoding, "If-None-Match": answer.headers["etag"]}
    )

    assert answer.headers.get("content-encoding", "identity") == encoding
    assert answer.headers["content-type"] == "application/dicom+json"
    assert answer.json()[0]["00080018"]["Value"] == [stored.SOPInstanceUID]
    assert "PixelData" not in answer.text and "InlineBinary" not in answer.json()[0]["7FE00010"]
    assert (again.status_code, again.content) == (304, b"")


def test_a_new_instance_changes_the_etag(server, web, stored):
    url = f"{url_of(stored, 'series')}/metadata"
    before = web.get(url)

    server.stow(file_of(slice_of(stored.StudyInstanceUID, stored.SeriesInstanceUID)))
    after = web.get(url, headers={"If-None-Match": before.headers["etag"]})

    assert after.status_code == 200
    assert len(after.json()) == 2


@pytest.mark.parametrize("level", ["study", "series", "instance"])
@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_bulk_data_uris_lead_from_the_metadata_to_the_value(web, stored, level, encoding):
    answer = web.get(f"{url_of(stored, level)}/metadata", headers={"Accept-Encoding": encoding})
    uri = answer.json()[0]["7FE00010"]["BulkDataURI"]

    bulk = web.get(answer.url.join(uri), headers={"Accept": "application/octet-stream"})
    wrapped = web.get(answer.url.join(uri), headers=NATIVE)

    assert bulk.content == stored.PixelData
    assert parts_of(wrapped)[0][1] == stored.PixelData


def test_frames_of_a_native_multi_frame_in_the_order_asked_for(server, web):
    pixels = np.arange(3 * 16 * 24, dtype="<u2").reshape(3, 16, 24)
    dataset = slice_of(NumberOfFrames=3, PixelData=pixels.tobytes())
    server.stow(file_of(dataset))

    answer = web.get(f"{url_of(dataset)}/frames/3,1,1", headers=ANY)
    encoded = web.get(f"{url_of(dataset)}/frames/3%2C1", headers=ANY)

    assert [body for _, body in parts_of(answer)] == [pixels[n].tobytes() for n in (2, 0, 0)]
    assert len(parts_of(encoded)) == 2


@pytest.mark.parametrize(
    ("name", "syntax"),
    [("MR_small_RLE.dcm", RLELossless), ("MR_small_jp2klossless.dcm", JPEG2000Lossless)],
)
def test_compressed_frames_as_stored_and_decoded(server, web, name, syntax):
    dataset = stow_sample(server, name)
    url = f"{url_of(dataset)}/frames/1"

    raw = parts_of(web.get(url, headers=ANY))[0]
    native = parts_of(web.get(url, headers=NATIVE))[0]

    assert raw[0]["content-type"] == f"application/octet-stream; transfer-syntax={syntax}"
    assert raw[1] in dataset.PixelData
    assert native[1] == dataset.pixel_array.tobytes()


def test_a_single_frame_without_multipart(web, stored):
    answer = web.get(f"{url_of(stored)}/frames/1", headers={"Accept": "application/octet-stream"})

    assert answer.content == stored.PixelData


@pytest.mark.parametrize(
    ("numbers", "status"), [("0", 400), ("x", 400), ("1,,2", 400), ("2", 404), ("1,99", 404)]
)
def test_frames_that_cannot_be(web, stored, numbers, status):
    assert web.get(f"{url_of(stored)}/frames/{numbers}", headers=ANY).status_code == status


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/studies/1.2.3.404", 404),
        ("/studies/1.2.3.404/metadata", 404),
        ("/studies/1.2.3.404/series/1.2/metadata", 404),
        ("/studies/1.2.3.404/series/1.2/instances/1.2", 404),
        ("/studies/1.2.3.404/series/1.2/instances/1.2/rendered", 404),
        ("/studies/1.2.3.404/series/1.2/instances/1.2/bulkdata/7FE00010", 404),
        ("/studies/1..2", 400),
        ("/studies/01.2", 400),
        ("/studies/" + "1" * 65, 400),
        ("/studies/..%2F..%2Fetc", 404),
        ("/studies/1.2%00", 400),
        ("/nonsense", 404),
    ],
)
def test_unknown_and_invalid_paths(web, path, status):
    answer = web.get(path)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path", ["../../../etc/passwd", "7FE0", "7FE00010/1/7FE00010", "00100010/x"]
)
def test_bulk_data_paths_that_lead_nowhere(web, stored, path):
    assert web.get(f"{url_of(stored)}/bulkdata/{path}").status_code in (400, 404)


def test_the_accept_parameter_goes_before_the_header(web, stored):
    answer = web.get(
        url_of(stored), params={"accept": "application/dicom"}, headers={"Accept": "text/html"}
    )

    assert answer.content == file_of(stored)


def test_the_packed_metadata_really_is_gzip(server, stored):
    with (
        server.client(**{"Accept-Encoding": "gzip"}) as web,
        web.stream("GET", f"{url_of(stored, 'study')}/metadata") as answer,
    ):
        raw = b"".join(answer.iter_raw())

    assert gzip.decompress(raw).startswith(b"[{")
