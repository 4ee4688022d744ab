"""WADO-URI: the older way to ask for one instance, with the same rights and the same pictures."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.uid import generate_uid

from access import AuditEventKind
from tests.dicomweb.server import file_of, slice_of


@pytest.fixture
def ask(server, stored):
    """A request at /wado for the stored slice; keyword arguments change or take away parameters."""

    def ask(accept="*/*", token=None, **changes):
        parameters = {
            "requestType": "WADO",
            "studyUID": stored.StudyInstanceUID,
            "seriesUID": stored.SeriesInstanceUID,
            "objectUID": stored.SOPInstanceUID,
            **changes,
        }
        parameters = {k: v for k, v in parameters.items() if v is not None}
        url = server.base.removesuffix("/dicomweb") + "/wado"
        with server.client(Accept=accept) as web:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            return web.get(url, params=parameters, headers=headers)

    return ask


def size_of(answer) -> tuple[int, int]:
    return Image.open(io.BytesIO(answer.content)).size


def test_without_a_content_type_it_is_a_jpeg(ask):
    answer = ask()

    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert size_of(answer) == (24, 16)


@pytest.mark.parametrize(
    ("kind", "accept", "got"),
    [
        ("application/dicom", "*/*", "application/dicom"),
        ("image/png", "*/*", "image/png"),
        ("image/png,image/jpeg", "*/*", "image/png"),
        (None, "image/png", "image/png"),
        (None, "application/dicom", "application/dicom"),
        (None, "image/avif,image/webp,image/png,*/*;q=0.8", "image/png"),
    ],
)
def test_content_type_and_accept_choose(ask, kind, accept, got):
    answer = ask(accept, contentType=kind)

    assert answer.status_code == 200
    assert answer.headers["content-type"].split(";")[0] == got


def test_the_instance_itself_and_its_transfer_syntax(ask, stored):
    plain = ask(contentType="application/dicom")
    implicit = ask(contentType="application/dicom", transferSyntax="1.2.840.10008.1.2.4.999")

    assert dcmread(io.BytesIO(plain.content)).PixelData == stored.PixelData
    assert plain.headers["content-disposition"].startswith("attachment")
    assert implicit.status_code == 406


def test_size_region_window_and_frame(ask):
    small = ask(rows="8", columns="12")
    region = ask(region="0,0,0.5,0.5", rows="8", columns="12")
    narrow, wide = (ask(windowCenter="1000", windowWidth=width) for width in ("1", "100000"))
    frame = ask(frameNumber="1", contentType="image/png")

    assert size_of(small) == (12, 8)
    assert size_of(region) == (12, 8)
    assert region.content != small.content
    assert narrow.content != wide.content
    assert frame.status_code == 200


def test_the_series_may_be_left_out(ask):
    assert ask(seriesUID=None).status_code == 200


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"requestType": None}, 400),
        ({"requestType": "OTHER"}, 400),
        ({"studyUID": None}, 400),
        ({"objectUID": "../../etc/passwd"}, 400),
        ({"seriesUID": "1..2"}, 400),
        ({"objectUID": generate_uid()}, 404),
        ({"seriesUID": None, "objectUID": generate_uid()}, 404),
        ({"frameNumber": "0"}, 400),
        ({"frameNumber": "2"}, 404),
        ({"windowCenter": "1"}, 400),
        ({"region": "0,0,2,2"}, 400),
        ({"region": "x"}, 400),
        ({"rows": "99999999"}, 400),
        ({"anonymize": "yes"}, 400),
        ({"presentationUID": "1.2"}, 400),
        ({"contentType": "text/html"}, 406),
        ({"transferSyntax": "x", "contentType": "application/dicom"}, 400),
    ],
)
def test_what_cannot_be_given_has_a_reason(ask, changes, status):
    answer = ask(**changes)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_the_rights_are_those_of_dicomweb(server, ask, stored):
    elsewhere = server.token_for(studies=[generate_uid()])
    searcher = server.token_for("system/ImagingStudy.s")
    here = server.token_for(studies=[stored.StudyInstanceUID])

    answers = [ask(token=one).status_code for one in (elsewhere, searcher, here, "nonsense")]

    assert answers == [403, 403, 200, 401]


def test_each_request_is_audited_with_its_study(server, ask, stored):
    ask()

    last = [one for one in server.audits() if one.study == stored.StudyInstanceUID][-1]
    assert (last.event, last.outcome) == (AuditEventKind.RETRIEVE, "success")


def test_an_instance_without_an_image_is_406(server, ask):
    document = slice_of(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    del document.PixelData, document.Rows, document.Columns
    assert server.stow(file_of(document)).status_code == 200

    answer = ask(
        studyUID=document.StudyInstanceUID,
        seriesUID=document.SeriesInstanceUID,
        objectUID=document.SOPInstanceUID,
    )

    assert answer.status_code == 406
