"""Accept negotiation: the client's order, q-values, quotes and transfer syntaxes."""

from __future__ import annotations

import pytest
from pydicom.uid import JPEG2000, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from dicomweb.errors import BadRequest, NotAcceptable
from dicomweb.frames import frame_offers
from dicomweb.instances import instance_offers
from dicomweb.media import EXPLICIT_LE, choose, parse_accept, parse_media_type

IMPLICIT = "1.2.840.10008.1.2"
OCTETS, DICOM = "application/octet-stream", "application/dicom"


@pytest.mark.parametrize(
    ("accept", "stored", "expected"),
    [
        # what OHIF sends: not quoted
        (
            f"multipart/related; type={OCTETS}; transfer-syntax=*",
            JPEG2000Lossless,
            (True, OCTETS, JPEG2000Lossless),
        ),
        (
            f"multipart/related; type={OCTETS}; transfer-syntax=*",
            IMPLICIT,
            (True, OCTETS, EXPLICIT_LE),
        ),
        # octets without transfer-syntax are native
        (f'multipart/related; type="{OCTETS}"', JPEG2000Lossless, (True, OCTETS, EXPLICIT_LE)),
        (
            f'multipart/related; type="{OCTETS}"; transfer-syntax={EXPLICIT_LE}',
            RLELossless,
            (True, OCTETS, EXPLICIT_LE),
        ),
        (
            'multipart/related; type="image/jp2"',
            JPEG2000Lossless,
            (True, "image/jp2", JPEG2000Lossless),
        ),
        ("image/jpeg", JPEGBaseline8Bit, (False, "image/jpeg", JPEGBaseline8Bit)),
        ("image/*", JPEG2000Lossless, (False, "image/jp2", JPEG2000Lossless)),
        (
            'multipart/related; type="image/x-dicom-rle"',
            RLELossless,
            (True, "image/x-dicom-rle", RLELossless),
        ),
        ("*/*", JPEGBaseline8Bit, (True, "image/jpeg", JPEGBaseline8Bit)),
        ("", IMPLICIT, (True, OCTETS, EXPLICIT_LE)),
        (f"image/jpeg;q=0.2, {OCTETS};q=0.9", JPEGBaseline8Bit, (False, OCTETS, EXPLICIT_LE)),
        (
            f'multipart/related; type="{OCTETS}; transfer-syntax=*"',
            RLELossless,
            (True, OCTETS, RLELossless),
        ),
        # transcoded without loss, in the order of the header
        ("image/jls", JPEGBaseline8Bit, (False, "image/jls", "1.2.840.10008.1.2.4.80")),
        ("image/jphc", IMPLICIT, (False, "image/jphc", "1.2.840.10008.1.2.4.201")),
        # nothing here makes lossy images, nor decodes video
        (f"image/jp2; transfer-syntax={JPEG2000}", IMPLICIT, None),
        ("image/jls", "1.2.840.10008.1.2.4.103", None),
        (
            f'multipart/related; type="{OCTETS}"; transfer-syntax={RLELossless}',
            JPEGBaseline8Bit,
            (True, OCTETS, RLELossless),
        ),
        ("*/*;q=0", IMPLICIT, None),
    ],
)
def test_frames(accept, stored, expected):
    check(accept, frame_offers(stored, single=True), expected)


@pytest.mark.parametrize(
    ("accept", "stored", "expected"),
    [
        (
            f'multipart/related; type="{DICOM}"; transfer-syntax=*',
            RLELossless,
            (True, DICOM, RLELossless),
        ),
        (f'multipart/related; type="{DICOM}"', RLELossless, (True, DICOM, EXPLICIT_LE)),
        (f'multipart/related; type="{DICOM}"', IMPLICIT, (True, DICOM, IMPLICIT)),
        (f"{DICOM}; transfer-syntax={EXPLICIT_LE}", IMPLICIT, (False, DICOM, EXPLICIT_LE)),
        (f"{DICOM}; transfer-syntax={RLELossless}", RLELossless, (False, DICOM, RLELossless)),
        ("multipart/related", IMPLICIT, (True, DICOM, IMPLICIT)),
        ("*/*", RLELossless, (True, DICOM, RLELossless)),
        # a syntax that nothing here decodes leaves as it is, unless another one is asked for
        (
            f'multipart/related; type="{DICOM}"',
            "1.2.840.10008.1.2.4.103",
            (True, DICOM, "1.2.840.10008.1.2.4.103"),
        ),
        (
            f'multipart/related; type="{DICOM}"; transfer-syntax={EXPLICIT_LE}',
            "1.2.840.10008.1.2.4.103",
            None,
        ),
        (
            f"{DICOM}; transfer-syntax={JPEG2000Lossless}",
            IMPLICIT,
            (False, DICOM, JPEG2000Lossless),
        ),
        (f"{DICOM}; transfer-syntax={JPEG2000}", IMPLICIT, None),
        ('multipart/related; type="application/dicom+xml"', IMPLICIT, None),
    ],
)
def test_instances(accept, stored, expected):
    check(accept, instance_offers(stored, single=True), expected)


def check(accept, offers, expected):
    if expected is None:
        with pytest.raises(NotAcceptable):
            choose(parse_accept(accept), offers)
        return
    offer = choose(parse_accept(accept), offers)
    assert (offer.multipart, offer.part, offer.transfer_syntax) == expected


def test_quotes_commas_and_escapes_in_parameters():
    one = parse_media_type(r'Multipart/Related; TYPE="application/dicom"; boundary="a,\"b"')

    assert one.type == "multipart/related"
    assert one.parameters == {"type": "application/dicom", "boundary": 'a,"b'}
    assert [r.type for r in parse_accept('a/b; x="1,2", c/d;q=0.5, e/f')] == ["a/b", "e/f", "c/d"]


@pytest.mark.parametrize("text", ["", "nonsense", "a/", "/b", "a b/c"])
def test_what_is_no_media_type_is_refused(text):
    with pytest.raises(BadRequest):
        parse_media_type(text)
