"""Ten thousand damaged files through STOW-RS: each has an answer, and what is kept can be read."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pydicom.data
import pytest
from pydicom import dcmread

from tests.dicomweb.server import B, file_of, multipart, running, slice_of

INPUTS, PER_REQUEST = 10_000, 250
SEEDS = (
    "rtplan.dcm", "reportsi.dcm", "image_dfl.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm",
    "UN_sequence.dcm", "nested_priv_SQ.dcm", "priv_SQ.dcm", "no_meta.dcm", "SC_rgb_rle_2frame.dcm",
    "eCT_Supplemental.dcm",
)  # fmt: skip
NUMBERS = (b"\xff\xff\xff\xff", b"\xfe\xff\xff\x7f", b"\0\0\0\0", b"\xf0\xff\xff\xff", b"\xff\xff")
KIND = {"Content-Type": f'multipart/related; type="application/dicom"; boundary={B}'}


def seeds() -> list[tuple[bytes, bytes]]:
    """Small files of many kinds, each with the bytes of its SOP Instance UID."""
    folder = Path(pydicom.data.__file__).parent / "test_files"
    files = [file_of(slice_of())]
    files += [path.read_bytes() for name in SEEDS if (path := folder / name).exists()]
    found = []
    for file in files:
        if len(file) < 40_000 and file[128:132] == b"DICM":
            uid = sop_uid(file)
            if uid:
                found.append((file, uid))
    return found


def sop_uid(file: bytes) -> bytes:
    return str(dcmread(io.BytesIO(file), force=True).get("SOPInstanceUID", "")).encode()


def damaged(file: bytes, uid: bytes, number: int, dice: random.Random) -> bytes:
    """One input: another UID of the same length, then one to eight wounds."""
    fresh = f"1.2.826.{number}.".encode().ljust(len(uid), b"7")[: len(uid)]
    data = bytearray(file.replace(uid, fresh))
    for _ in range(dice.choice((1, 1, 2, 4, 8))):
        at = dice.randrange(132, len(data))
        wound = dice.randrange(6)
        if wound == 0:
            data[at] ^= 1 << dice.randrange(8)
        elif wound == 1:
            piece = dice.choice(NUMBERS)
            data[at : at + len(piece)] = piece
        elif wound == 2:
            data[at:at] = dice.randbytes(dice.randrange(1, 9))
        elif wound == 3:
            del data[at : at + dice.randrange(1, 9)]
        elif wound == 4:
            other = dice.randrange(132, len(data))
            data[at : at + 32] = data[other : other + 32]
        elif len(data) > 400 and dice.random() < 0.2:
            del data[at:]
        if len(data) < 140:
            break
    return bytes(data)


@pytest.fixture
def target(tmp_path_factory, postgres):
    """A server of its own: a deflated file hides its UID, which stays that of the sample."""
    postgres.create_database("dicomweb_fuzz")
    with running(postgres.dsn("dicomweb_fuzz"), tmp_path_factory.mktemp("fuzz")) as server:
        yield server


@pytest.mark.slow
def test_every_damaged_file_has_an_answer_and_what_is_kept_can_be_read(target):
    dice, sources = random.Random(20261124), seeds()
    inputs = [damaged(*dice.choice(sources), number, dice) for number in range(INPUTS)]
    stored, reasons = [], set()
    web = target.client()

    for at in range(0, INPUTS, PER_REQUEST):
        batch = inputs[at : at + PER_REQUEST]
        answer = web.post("/studies", content=multipart(*batch), headers=KIND)
        assert answer.status_code in (200, 202, 400, 409), at
        lists = answer.json()
        items = {
            tag: lists.get(tag, {}).get("Value", []) for tag in ("00081199", "00081198", "0008119A")
        }
        assert sum(map(len, items.values())) == len(batch)
        stored += [item["00081190"]["Value"][0] for item in items["00081199"]]
        reasons |= {
            item["00081197"]["Value"][0] for tag in ("00081198", "0008119A") for item in items[tag]
        }

    read = {
        web.get(url.removeprefix(target.base) + "/metadata").status_code for url in stored[::10]
    }
    shown = {
        web.get(url.removeprefix(target.base) + "/rendered").status_code for url in stored[::100]
    }
    listed = web.get("/instances?limit=1000")

    assert len(sources) >= 7
    assert 1000 < len(stored) < INPUTS
    assert reasons <= {0x0110, 0x0111, 0xA900, 0xC000}
    assert read == {200}
    assert shown <= {200, 400, 404, 406}
    assert listed.status_code == 200
    web.close()
