"""E3 rows 28 to 31: files made to hurt. Each is refused, or served without harm; memory is bounded.

The server runs in this process, so its memory is ours; its decoders are our children.
"""

from __future__ import annotations

import struct
import zlib

import psutil
import pytest
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from tests.archive.phantom import part10, raw_slice
from tests.dicomweb.server import file_of, slice_of, url_of

MIB = 1024 * 1024
REFUSED = {400, 404, 406, 413}
ACCEPTS = (
    ("/rendered", "image/png"),
    ("/thumbnail", "image/jpeg"),
    ("/frames/1", "application/octet-stream"),
    ("/frames/1", "image/jls"),
    ("", "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"),
    ("", "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.90"),
    ("/rendered", "image/gif"),
)


def memory() -> int:
    me = psutil.Process()
    return me.memory_info().rss + sum(
        child.memory_info().rss for child in me.children() if "worker" in " ".join(child.cmdline())
    )


def compressed(syntax, *streams, **changes):
    described = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, **changes}
    dataset = slice_of(**described)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate(list(streams))
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return dataset


def j2k(width, height):
    """Headers of a JPEG 2000 codestream that claims a size, with nothing behind."""
    siz = struct.pack(
        ">HHLLLLLLLLHBBB", 41, 0, width, height, 0, 0, width, height, 0, 0, 1, 7, 1, 1
    )
    return b"\xff\x4f\xff\x51" + siz + b"\xff\xd9"


def truncated(syntax):
    dataset = slice_of(Rows=64, Columns=64, PixelData=bytes(range(256)) * 32)
    dataset.compress(syntax, generate_instance_uid=False)
    from pydicom.encaps import generate_frames

    [stream] = generate_frames(dataset.PixelData, number_of_frames=1)
    dataset.PixelData = encapsulate([stream[: len(stream) // 3]])
    dataset["PixelData"].is_undefined_length = True
    return dataset


def with_long_rows():
    """Rows with VR UL: the classic overflow of a reader that takes four bytes for two."""
    data = file_of(slice_of())
    short = b"\x28\0\x10\0US\x02\0" + struct.pack("<H", 16)
    assert short in data
    return data.replace(short, b"\x28\0\x10\0UL\x04\0" + struct.pack("<L", 0xFFFFFFF0))


def with_forged_length():
    data = file_of(slice_of())
    position = data.rindex(b"\xe0\x7f\x10\0OW")
    return data[: position + 8] + b"\xf0\xff\xff\xff" + data[position + 12 :]


def nested(depth):
    inner = Dataset()
    inner.PatientID = "x"
    for _ in range(depth):
        outer = Dataset()
        outer.add_new(0x00081140, "SQ", [inner])
        inner = outer
    return inner


def nested_file(depth):
    """By hand: pydicom cannot write this deep."""
    head = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    tail = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    data = file_of(slice_of())
    position = data.index(b"\x10\0\x10\0PN")
    return data[:position] + head * depth + tail * depth + data[position:]


def deflated(size):
    dataset = slice_of()
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data = file_of(dataset)
    start = 132 + 12 + struct.unpack_from("<L", data, 140)[0]
    plain = zlib.decompress(data[start:], -15)
    plain += b"\xfc\xff\xfc\xffOB\0\0" + struct.pack("<L", size) + bytes(size)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return data[:start] + packer.compress(plain) + packer.flush()


def palette_out_of_range():
    dataset = slice_of(PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [4, 60000, 16])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", b"\1\0\2\0\3\0\4\0")
    return dataset


BOMBS = {
    "60000 by 60000, native": lambda: slice_of(Rows=60000, Columns=60000),
    "60000 by 60000, JPEG": lambda: compressed(
        JPEGBaseline8Bit, b"\xff\xd8\xff\xd9", Rows=60000, Columns=60000
    ),
    "60000 by 60000, J2K, believed": lambda: compressed(
        JPEG2000Lossless, j2k(60000, 60000), Rows=60000, Columns=60000
    ),
    "60000 by 60000, J2K, in a small image": lambda: compressed(
        JPEG2000Lossless, j2k(60000, 60000)
    ),
    "15000 by 15000, J2K, under the limit": lambda: compressed(
        JPEG2000Lossless, j2k(15000, 15000), Rows=15000, Columns=15000
    ),
    "two thousand million frames, native": lambda: slice_of(NumberOfFrames=2**31 - 1),
    "two thousand million frames, JPEG": lambda: compressed(
        JPEGBaseline8Bit, b"\xff\xd8\xff\xd9", NumberOfFrames=2**31 - 1
    ),
    "more frames than an integer holds": lambda: slice_of(NumberOfFrames=2**31),
    "Rows of four bytes": with_long_rows,
    "palette from 60000": palette_out_of_range,
    "truncated J2K": lambda: truncated(JPEG2000Lossless),
    "truncated JPEG-LS": lambda: truncated(JPEGLSLossless),
    "truncated RLE": lambda: truncated(RLELossless),
    "RLE with offsets outside": lambda: compressed(
        RLELossless, struct.pack("<16L", 1, 4000, *[0] * 14) + b"\0" * 40
    ),
    "RLE with sixteen million segments": lambda: compressed(
        RLELossless, struct.pack("<16L", 2**24, 64, *[0] * 14) + b"\0" * 40
    ),
    "forged length": with_forged_length,
    "nested 200 deep": lambda: nested_file(200),
    "nested 5000 deep": lambda: nested_file(5000),
    "deflate bomb": lambda: deflated(300 * MIB),
    "no samples": lambda: slice_of(SamplesPerPixel=0),
    "65535 samples": lambda: slice_of(SamplesPerPixel=65535),
    "bits stored beyond allocated": lambda: slice_of(BitsStored=200, HighBit=199),
}
# What these hold can honestly be shown: a table is a table, and a first frame is there.
SHOWABLE = {
    "palette from 60000",
    "bits stored beyond allocated",
    "two thousand million frames, native",
    "more frames than an integer holds",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_and_recorded_and_memory_is_bounded(server, web, name):
    made = BOMBS[name]()
    data = made if isinstance(made, bytes) else file_of(made)
    before = memory()

    stored = server.stow(data)

    assert stored.status_code in {200, 202, 400, 409, 413}, stored.text
    if stored.status_code in (200, 202) and isinstance(made, Dataset):
        for path, accept in ACCEPTS:
            answer = web.get(url_of(made) + path, headers={"Accept": accept})
            as_it_is = path in ("", "/frames/1") or name in SHOWABLE
            allowed = REFUSED | {200} if as_it_is else REFUSED
            assert answer.status_code in allowed, (path, accept, answer.text[:300])
            if answer.status_code in REFUSED:
                assert server.audits()[-1].outcome == "minor"
                assert answer.headers["content-type"] == "application/problem+json"
    # Of which most is a decoder under its own limit.
    assert memory() - before < 700 * MIB
    assert web.get("/studies?limit=1").status_code in (200, 204)


@pytest.mark.parametrize(
    "bad", ["../../x", "1.2\0.3", "1" * 65, "1..2", "01.2", "1.2/../../x", "/etc/passwd"]
)
def test_no_uid_becomes_a_path_outside_of_the_archive(server, bad):
    """Row 28."""
    root = server.archive._config.root
    before = set(root.parent.iterdir())

    for name in ("study", "series", "instance"):
        answer = server.stow(part10(raw_slice(**{name: bad})))
        assert answer.status_code in (400, 409), (name, answer.text)

    assert set(root.parent.iterdir()) == before
