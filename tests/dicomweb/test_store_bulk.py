"""STOW-RS of metadata with bulk data: JSON and XML, native and compressed pixels."""

from __future__ import annotations

import io

import numpy as np
import orjson
import psutil
import pytest
from pydicom import dcmread
from pydicom.uid import JPEGLSLossless, SecondaryCaptureImageStorage, generate_uid

from dicomweb import bulk_content
from dicomweb.xml import to_native
from tests.dicomweb.server import B, parts_of, slice_of, url_of

JSON, XML = "application/dicom+json", "application/dicom+xml"
WHOLE = 'multipart/related; type="application/dicom"; transfer-syntax=*'


def body(*parts: tuple[dict[str, str], bytes]) -> bytes:
    out = io.BytesIO()
    for headers, content in parts:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        out.write(f"--{B}\r\n{lines}\r\n".encode() + content + b"\r\n")
    return out.getvalue() + f"--{B}--\r\n".encode()


def described(dataset, location="bulk/1"):
    """The data set's metadata with its pixels named by location, and the pixels."""
    pixels = dataset.PixelData
    document = dataset.to_json_dict(suppress_invalid_tags=True, bulk_data_threshold=1 << 30)
    document["7FE00010"] = {"vr": "OW", "BulkDataURI": location}
    return document, pixels


def post(web, kind, content, **headers):
    content_type = f'multipart/related; type="{kind}"; boundary={B}'
    return web.post("/studies", content=content, headers={"Content-Type": content_type, **headers})


def metadata_part(kind, document):
    text = orjson.dumps([document]) if kind == JSON else to_native(document)
    return {"Content-Type": kind}, text


@pytest.mark.parametrize("kind", [JSON, XML])
def test_metadata_and_pixels_become_the_instance_they_describe(web, kind):
    dataset = slice_of(PatientName="Müller^Jürgen", SpecificCharacterSet="ISO_IR 192")
    document, pixels = described(dataset)
    octets = {"Content-Type": "application/octet-stream", "Content-Location": "bulk/1"}

    answer = post(web, kind, body(metadata_part(kind, document), (octets, pixels)))
    got = web.get(url_of(dataset), headers={"Accept": WHOLE})
    again = dcmread(io.BytesIO(parts_of(got)[0][1]))

    assert answer.status_code == 200
    assert answer.json()["00081199"]["Value"][0]["00081155"]["Value"] == [dataset.SOPInstanceUID]
    assert again.PixelData == pixels
    assert (again.PatientName, again.Rows, again.Columns) == ("Müller^Jürgen", 16, 24)


def test_compressed_frames_are_encapsulated_as_their_media_type_says(web):
    dataset = slice_of(SOPClassUID=SecondaryCaptureImageStorage, NumberOfFrames=2)
    document, _ = described(dataset)
    frames = [b"\xff\xd8\xff first \xff\xd9", b"\xff\xd8\xff second frame \xff\xd9!"]
    jls = {"Content-Type": "image/jls", "Content-Location": "bulk/1"}

    parts = [metadata_part(JSON, document), *((jls, frame) for frame in frames)]
    answer = post(web, JSON, body(*parts))
    got = web.get(
        url_of(dataset) + "/frames/1,2", headers={"Accept": 'multipart/related; type="image/jls"'}
    )
    head = dcmread(
        io.BytesIO(parts_of(web.get(url_of(dataset), headers={"Accept": WHOLE}))[0][1]),
        stop_before_pixels=True,
    )

    assert answer.status_code == 200
    assert head.file_meta.TransferSyntaxUID == JPEGLSLossless
    assert [content.rstrip(b"\0") for _, content in parts_of(got)] == frames


def test_other_bulk_values_and_sequences_find_their_place(web):
    dataset = slice_of()
    document, pixels = described(dataset)
    lut = np.arange(256, dtype="<u2").tobytes()
    document["00283010"] = {
        "vr": "SQ",
        "Value": [{"00283006": {"vr": "OW", "BulkDataURI": "lut"}}],
    }
    document["00204000"] = {"vr": "LT", "BulkDataURI": "text"}
    octets = "application/octet-stream"

    answer = post(
        web,
        JSON,
        body(
            metadata_part(JSON, document),
            ({"Content-Type": octets, "Content-Location": "bulk/1"}, pixels),
            ({"Content-Type": octets, "Content-Location": "lut"}, lut),
            ({"Content-Type": octets, "Content-Location": "text"}, "größer".encode()),
        ),
    )
    again = dcmread(io.BytesIO(parts_of(web.get(url_of(dataset), headers={"Accept": WHOLE}))[0][1]))

    assert answer.status_code == 200
    assert again.VOILUTSequence[0].LUTData == lut
    assert again.ImageComments == "größer"


def test_metadata_alone_are_enough_for_what_has_no_bulk_data(web):
    dataset = slice_of(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    del dataset.PixelData, dataset.Rows, dataset.Columns
    document = dataset.to_json_dict()

    answer = web.post(
        "/studies", content=orjson.dumps([document]), headers={"Content-Type": JSON, "Accept": XML}
    )

    assert answer.status_code == 200
    assert answer.headers["content-type"] == XML
    assert b'keyword="ReferencedSOPSequence"' in answer.content


def test_an_instance_whose_bulk_data_did_not_come_is_listed_as_failed(web):
    good, bad = slice_of(), slice_of()
    document, pixels = described(good)
    lost, _ = described(bad, "bulk/lost")
    octets = {"Content-Type": "application/octet-stream", "Content-Location": "bulk/1"}

    both = {"Content-Type": JSON}, orjson.dumps([document, lost])
    answer = post(web, JSON, body(both, (octets, pixels)))

    assert answer.status_code == 202
    failed = answer.json()["00081198"]["Value"][0]
    assert failed["00081155"]["Value"] == [bad.SOPInstanceUID]
    assert web.get(url_of(bad)).status_code == 404


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (JSON, b"not json"),
        (JSON, b"[1, 2]"),
        (JSON, b"[" * 5000),
        (XML, b"<NativeDicomModel>"),
        (XML, b"<!DOCTYPE x><NativeDicomModel/>"),
        (JSON, orjson.dumps([{"0020000D": {"vr": "UI", "Value": ["../../x"]}}])),
        (JSON, orjson.dumps([{"0020000D": 5}])),
        (JSON, orjson.dumps([{"00100010": {"vr": "PN", "Value": [{"Alphabetic": 7}]}}])),
    ],
)
def test_metadata_that_cannot_be_understood_are_400(web, kind, content):
    answer = post(web, kind, body(({"Content-Type": kind}, content)))

    assert answer.status_code == 400


def test_pixels_of_a_consumer_format_are_415(web):
    document, _ = described(slice_of())
    png = {"Content-Type": "image/png", "Content-Location": "bulk/1"}

    answer = post(web, JSON, body(metadata_part(JSON, document), (png, b"\x89PNG")))

    assert answer.status_code == 415


def test_bulk_data_of_another_study_do_not_pass_the_url(server, web):
    dataset = slice_of()
    document, pixels = described(dataset)
    octets = {"Content-Type": "application/octet-stream", "Content-Location": "bulk/1"}
    content_type = f'multipart/related; type="{JSON}"; boundary={B}'

    answer = web.post(
        f"/studies/{generate_uid()}",
        content=body(metadata_part(JSON, document), (octets, pixels)),
        headers={"Content-Type": content_type},
    )

    assert answer.status_code == 409
    assert answer.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0xA900]


def test_a_thousand_bulk_parts_need_no_thousand_files(web):
    dataset = slice_of(SOPClassUID=SecondaryCaptureImageStorage, NumberOfFrames=1000)
    document, _ = described(dataset)
    jls = {"Content-Type": "image/jls", "Content-Location": "bulk/1"}
    frames = [b"\xff\xd8\xff frame %d \xff\xd9" % number for number in range(1000)]
    before = psutil.Process().num_fds()
    most = before

    def content():
        nonlocal most
        for part in (metadata_part(JSON, document), *((jls, frame) for frame in frames)):
            yield body(part).removesuffix(f"--{B}--\r\n".encode())
            most = max(most, psutil.Process().num_fds())
        yield f"--{B}--\r\n".encode()

    answer = post(web, JSON, content())
    got = web.get(
        url_of(dataset) + "/frames/1,1000",
        headers={"Accept": 'multipart/related; type="image/jls"'},
    )

    assert answer.status_code == 200
    assert [part.rstrip(b"\0") for _, part in parts_of(got)] == [frames[0], frames[-1]]
    assert most < before + 100


def test_many_attributes_that_name_one_large_value_are_refused_in_bounded_memory(web, monkeypatch):
    monkeypatch.setattr(bulk_content, "_MAX_INLINE", 1024 * 1024)
    document, pixels = described(slice_of())
    for number in range(0x10, 0x30):
        document[f"0043{number:02X}10"] = {"vr": "OB", "BulkDataURI": "large"}
    octets = {"Content-Type": "application/octet-stream"}
    parts = [
        metadata_part(JSON, document),
        ({**octets, "Content-Location": "bulk/1"}, pixels),
        ({**octets, "Content-Location": "large"}, bytes(100_000)),
    ]

    assert post(web, JSON, body(*parts)).status_code == 413
