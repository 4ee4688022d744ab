"""Damaged pixel data through STOW-RS and then through every codec: each request has an answer.

FUZZ=10000 runs as many inputs; the default suits a test run. The order is always the same.
"""

from __future__ import annotations

import os
import random
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from dicomweb.config import DicomwebConfig
from pixels import PixelsConfig
from pixels.encode import encode_frame
from tests.dicomweb.server import file_of, running, slice_of, url_of

INPUTS = int(os.environ.get("FUZZ", "150"))
SIDE = 48
REFUSED = {400, 404, 406, 413}
ASKED = (
    ("/rendered", "image/png"),
    ("/frames/1", "application/octet-stream"),
    ("", "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"),
)
DESCRIPTION = ("Rows", "Columns", "BitsAllocated", "BitsStored", "SamplesPerPixel")


def streams() -> dict[str, bytes]:
    """A good codestream of each kind."""
    import io

    values = (np.add.outer(np.arange(SIDE), np.arange(SIDE)) * 2).astype("u1")
    header = slice_of(Rows=SIDE, Columns=SIDE, BitsAllocated=8, BitsStored=8, HighBit=7)
    found = {
        str(syntax): encode_frame(header, values, str(syntax), 1 << 20)
        for syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless)
    }
    out = io.BytesIO()
    Image.fromarray(values).save(out, "JPEG")
    return {
        **found,
        str(JPEGBaseline8Bit): out.getvalue(),
        str(ExplicitVRLittleEndian): b"\5" * SIDE**2,
    }


def wounded(data: bytes, dice: random.Random) -> bytes:
    """Bits turned, bytes put in or left out, or the end cut off."""
    made = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 4, 16))):
        at = (
            dice.randrange(len(made))
            if dice.random() < 0.5
            else dice.randrange(min(120, len(made)))
        )
        kind = dice.randrange(5)
        if kind == 0:
            made[at] ^= 1 << dice.randrange(8)
        elif kind == 1:
            made[at : at + 4] = dice.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"))
        elif kind == 2:
            made[at:at] = dice.randbytes(dice.randrange(1, 9))
        elif kind == 3 and len(made) > 80:
            del made[at : at + dice.randrange(1, 9)]
        elif dice.random() < 0.2 and at > 2:
            del made[at:]
    return bytes(made)


def instance(syntax: str, data: bytes, dice: random.Random):
    dataset = slice_of(Rows=SIDE, Columns=SIDE, BitsAllocated=8, BitsStored=8, HighBit=7)
    dataset.file_meta.TransferSyntaxUID = syntax
    wound = wounded(data, dice)
    if syntax == ExplicitVRLittleEndian:
        dataset.PixelData = wound + b"\0" * (len(wound) % 2)
    else:
        dataset.PixelData = encapsulate([wound])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    if dice.random() < 0.4:
        value = dice.choice((0, 1, 7, 12, 16, 47, 49, 255, 4096, 65535))
        setattr(dataset, dice.choice(DESCRIPTION), value)
    if dice.random() < 0.1:
        dataset.NumberOfFrames = dice.choice((0, 2, 1000, 2**31 - 1, -1))
    return dataset


@pytest.fixture(scope="module")
def fuzzed(postgres, tmp_path_factory):
    postgres.create_database("fuzz_pixels")
    config = DicomwebConfig(pixels=PixelsConfig(timeout_s=5, cpu_s=5, memory_bytes=2 << 30))
    folder = tmp_path_factory.mktemp("fuzz")
    with running(postgres.dsn("fuzz_pixels"), folder, config) as server:
        yield server


@pytest.mark.slow
@pytest.mark.timeout(60 + INPUTS * 3)
def test_damaged_pixel_data_never_end_the_server_nor_make_it_fail(fuzzed):
    dice, good = random.Random(20261124), streams()
    seen: Counter[str] = Counter()

    with fuzzed.client() as web:
        for number in range(INPUTS):
            if number % 500 == 0:  # a long run outlives a token
                fuzzed.headers["Authorization"] = f"Bearer {fuzzed.token_for()}"
                web.headers.update(fuzzed.headers)
            syntax = dice.choice(sorted(good))
            dataset = instance(syntax, good[syntax], dice)
            stored = fuzzed.stow(file_of(dataset)).status_code
            seen[f"STOW {stored}"] += 1
            if stored not in (200, 202):
                assert stored in (400, 409, 413), number
                continue
            for path, accept in ASKED:
                answer = web.get(url_of(dataset) + path, headers={"Accept": accept})
                seen[f"{path or '/'} {answer.status_code}"] += 1
                assert answer.status_code in REFUSED | {200}, (number, path, answer.text)
        assert web.get("/studies?limit=1").status_code == 200

    print(dict(sorted(seen.items())))  # noqa: T201 - shown with -s, to be written down
    assert seen["/rendered 200"] > INPUTS / 20 and seen["/rendered 406"] > INPUTS / 20
