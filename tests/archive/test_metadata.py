"""Series metadata, frames and bulk values as a viewer reads them."""

from __future__ import annotations

import gzip
import json
import struct

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.sequence import Sequence
from pydicom.uid import JPEG2000Lossless, generate_uid

from archive import FrameNotFound, InstanceNotFound
from tests.archive.phantom import bytes_of, slice_of


def document(metadata):
    return json.loads(gzip.decompress(metadata.gzip))


def test_metadata_are_made_once_and_anew_when_an_instance_joins(shared, put):
    first = slice_of(InstanceNumber=2)
    key = put(shared, first).key

    before = shared.metadata(key.study, key.series)
    again = shared.metadata(key.study, key.series)
    put(shared, slice_of(StudyInstanceUID=key.study, SeriesInstanceUID=key.series))
    after = shared.metadata(key.study, key.series)

    assert before == again
    assert before.etag != after.etag
    assert after.etag.startswith('"')
    assert [i["00200013"]["Value"][0] for i in document(after)] == [1, 2]


def test_metadata_of_an_unknown_series_are_not_found(shared):
    with pytest.raises(InstanceNotFound):
        shared.metadata("1.2.3", "1.2.3.4")


def test_bulk_values_are_links_that_lead_back_to_their_bytes(shared, put):
    item = Dataset()
    item.add_new(0x54001010, "OW", bytes(range(256)) * 8)
    dataset = slice_of(WaveformSequence=Sequence([Dataset(), item]))
    dataset.add_new(0x00420011, "OB", b"%PDF" * 1000)
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.add_new(0x00282000, "OB", b"profile!")
    key = put(shared, dataset).key

    (found,) = document(shared.metadata(key.study, key.series))
    base = f"instances/{key.instance}/bulkdata/"
    pixels = found["7FE00010"]["BulkDataURI"].removeprefix(base)
    nested = found["54000100"]["Value"][1]["54001010"]["BulkDataURI"].removeprefix(base)
    pdf = shared.bulkdata(key, "00420011")

    assert (pixels, nested) == ("7FE00010", "54000100/2/54001010")
    assert b"".join(shared.bulkdata(key, pixels).chunks) == dataset.PixelData
    assert b"".join(shared.bulkdata(key, nested).chunks) == item[0x54001010].value
    assert (pdf.media_type, pdf.size) == ("application/pdf", 4000)
    assert found["00282000"]["InlineBinary"] == "cHJvZmlsZSE="


@pytest.mark.parametrize("path", ["", "zz", "00100010/1", "54000100/9/54001010", "00200013/1/7"])
def test_a_bulk_path_that_leads_nowhere_is_not_found(shared, put, path):
    key = put(shared, slice_of()).key

    with pytest.raises(InstanceNotFound):
        shared.bulkdata(key, path)


def test_numbers_names_and_sequences_are_real_json(shared, put):
    referenced = Dataset()
    referenced.ReferencedSOPInstanceUID = "1.2.3"
    dataset = slice_of(
        PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう",
        ReferencedImageSequence=Sequence([referenced]),
        PixelSpacing=["0.5", "0.25"],
        ImageType=["ORIGINAL", "", "AXIAL"],
        RealWorldValueSlope=float("nan"),
    )
    key = put(shared, dataset).key

    found = shared.instance_metadata(key)

    assert found["00100010"]["Value"][0]["Ideographic"] == "山田^太郎"
    assert found["00081140"]["Value"][0]["00081155"]["Value"] == ["1.2.3"]
    assert found["00280030"]["Value"] == [0.5, 0.25]
    assert found["00080008"]["Value"] == ["ORIGINAL", None, "AXIAL"]
    assert found["00409225"]["Value"] == ["nan"]


FRAMES = [b"\xff\x4f" + bytes([n]) * (40 + 10 * n) + b"\xff\xd9" for n in range(1, 4)]


def encapsulated(pixel_data, **changes):
    dataset = slice_of(PixelData=pixel_data, NumberOfFrames=3, **changes)
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    return bytes_of(dataset, JPEG2000Lossless)


@pytest.mark.parametrize("fragments", [1, 2])
@pytest.mark.parametrize("table", [True, False])
def test_a_frame_is_found_with_and_without_a_table_and_in_several_fragments(
    shared, put, fragments, table
):
    pixel_data = encapsulate(FRAMES, fragments_per_frame=fragments, has_bot=table)
    key = put(shared, encapsulated(pixel_data)).key

    assert [shared.frame(key, n) for n in (1, 2, 3)] == FRAMES
    with pytest.raises(FrameNotFound):
        shared.frame(key, 4)
    with pytest.raises(FrameNotFound):
        shared.frame(key, 0)


def test_a_frame_is_found_by_the_extended_offset_table(shared, put):
    odd = [*FRAMES[:2], FRAMES[2] + b"\1"]
    pixel_data, offsets, _ = encapsulate_extended(odd)
    lengths = struct.pack("<3Q", *map(len, odd))
    key = put(
        shared,
        encapsulated(pixel_data, ExtendedOffsetTable=offsets, ExtendedOffsetTableLengths=lengths),
    ).key

    assert [shared.frame(key, n) for n in (1, 2, 3)] == odd


def test_one_bit_frames_that_begin_inside_a_byte_are_repacked(shared, put):
    bits = np.random.default_rng(3).integers(0, 2, (4, 5 * 3), dtype=np.uint8)
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    dataset = slice_of(
        Rows=5, Columns=3, NumberOfFrames=4, BitsAllocated=1, BitsStored=1, HighBit=0,
        PixelData=packed,
    )  # fmt: skip
    key = put(shared, dataset).key

    for number in range(4):
        expected = np.packbits(bits[number], bitorder="little").tobytes()
        assert shared.frame(key, number + 1) == expected


def test_an_undefined_length_unknown_is_read_as_the_sequence_it_is(shared, put):
    inner = struct.pack("<HHL", 0x8, 0x60, 2) + b"MR"
    item = struct.pack("<HHL", 0xFFFE, 0xE000, len(inner)) + inner
    end = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    unknown = struct.pack("<HH2sHL", 0x0009, 0x1001, b"UN", 0, 0xFFFFFFFF) + item + end
    data = bytes_of(slice_of(SOPInstanceUID=generate_uid()))
    place = data.index(struct.pack("<HH2s", 0x10, 0x10, b"PN"))
    key = put(shared, data[:place] + unknown + data[place:]).key

    found = shared.instance_metadata(key)["00091001"]

    assert found["Value"][0]["00080060"] == {"vr": "CS", "Value": ["MR"]}
