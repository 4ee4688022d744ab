"""Files made to hurt: each costs a refusal, none a worker."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import pytest

from archive import ArchiveError, InvalidUid, NotDicom, Query, TooComplex, Truncated
from tests.archive.phantom import bytes_of, element, part10, raw_slice, slice_of

BAD_UIDS = [
    "../../../tmp/x",
    "1.2/../3",
    "1.2\0.3",
    "1..2",
    "1.02",
    "1." + "2" * 63,
    "1.2.ü",
    "abc",
    "1.2\n",
]


@pytest.mark.parametrize("uid", BAD_UIDS)
@pytest.mark.parametrize("place", ["study", "series", "instance"])
def test_a_uid_that_is_no_uid_never_becomes_a_path(shared, put, uid, place):
    with pytest.raises(InvalidUid):
        put(shared, part10(raw_slice(**{place: uid})))


def nested(depth):
    """A sequence in a sequence, undefined lengths, `depth` times."""
    opening = struct.pack("<HH2sHL", 0x40, 0xA730, b"SQ", 0, 0xFFFFFFFF)
    opening += struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    closing = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return opening * depth + closing * depth


@pytest.mark.parametrize("depth", [41, 200, 5_000, 100_000])
def test_deep_nesting_is_refused_and_the_next_file_is_served(shared, put, depth):
    with pytest.raises(TooComplex):
        put(shared, part10(raw_slice() + nested(depth)))

    assert put(shared, slice_of()).outcome == "stored"


def test_a_reasonable_depth_is_kept(shared, put):
    stored = put(shared, part10(raw_slice("1.2.30", "1.2.31", "1.2.32") + nested(40)))

    assert "0040A730" in shared.instance_metadata(stored.key)


def test_a_deflate_bomb_is_refused_in_little_memory(shared, put):
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    chunk = bytes(1024 * 1024)
    bomb = deflater.compress(raw_slice()) + b"".join(deflater.compress(chunk) for _ in range(300))
    bomb += deflater.flush()

    tracemalloc.start()
    with pytest.raises(TooComplex):
        put(shared, part10(bomb, "1.2.840.10008.1.2.1.99"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 160 * 1024 * 1024


@pytest.mark.parametrize("kept", [0, 100, 131, 132, 140, 300, 600, -1, -64])
def test_a_cut_off_file_is_refused(shared, put, kept):
    whole = bytes_of(slice_of())

    with pytest.raises((Truncated, NotDicom)):
        put(shared, whole[:kept])


def test_no_cut_of_a_file_does_worse_than_be_refused(shared, put):
    whole = bytes_of(slice_of())
    kept = 0
    for length in range(140, len(whole), 7):
        try:
            put(shared, whole[:length])
            kept += 1
        except ArchiveError:
            continue

    # Only a cut between two elements cannot be told from a smaller data set.
    assert kept <= 1


def test_a_length_beyond_the_end_is_refused(shared, put):
    lie = struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFF0) + b"abc"

    with pytest.raises(Truncated):
        put(shared, part10(raw_slice() + lie))


def test_too_many_elements_are_refused(config, put):
    import dataclasses

    from archive import Archive

    small = dataclasses.replace(config, element_limit=1000)
    items = struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 2000
    sequence = struct.pack("<HH2sHL", 0x40, 0xA730, b"SQ", 0, len(items)) + items

    with Archive.open(small) as archive, pytest.raises(TooComplex):
        put(archive, part10(raw_slice() + sequence))


def test_absurd_dimensions_are_stored_and_their_frames_refused(shared, put):
    from archive import FrameNotFound

    stored = put(shared, slice_of(Rows=60000, Columns=60000, NumberOfFrames=2**31 - 1))

    with pytest.raises(FrameNotFound):
        shared.frame(stored.key, 1)
    assert shared.instance(stored.key).frames == 2**31 - 1


def test_control_and_sql_characters_are_only_text(shared, put):
    name = "Robert'); drop table archive.study;--^%_\x01"
    stored = put(shared, slice_of(PatientName=name, PatientID="' or 1=1 --"))

    by_id = shared.studies(Query.of({"PatientID": "' or 1=1 --"}))

    assert [s["0020000D"]["Value"][0] for s in by_id.items] == [stored.key.study]
    assert shared.studies(Query.of({"PatientName": "%"})).total == 0


def test_a_huge_text_is_kept_whole_and_does_not_break_the_index(shared, put):
    patient_id = "x" * 20_000
    data = part10(
        element(8, 0x16, b"UI", b"1.2.840.10008.5.1.4.1.1.4\0")
        + element(8, 0x18, b"UI", b"1.2.77.1")
        + element(0x10, 0x20, b"LO", patient_id.encode())
        + element(0x20, 0x0D, b"UI", b"1.2.77.2")
        + element(0x20, 0x0E, b"UI", b"1.2.77.3")
    )

    stored = put(shared, data)

    assert shared.instance_metadata(stored.key)["00100020"]["Value"] == [patient_id]
