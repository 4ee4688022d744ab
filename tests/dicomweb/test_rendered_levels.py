"""Rendered at every level, in every type, with what lies over the image; reports and documents."""

from __future__ import annotations

import io

import highdicom as hd
import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    ComprehensiveSRStorage,
    EncapsulatedPDFStorage,
    generate_uid,
)

from tests.dicomweb.server import file_of, parts_of, slice_of, url_of
from tests.dicomweb.test_rendered import PNG, picture

SIZE = (64, 48)  # rows, columns


def image(study=None, series=None, **changes):
    """A slice with what a segmentation refers to."""
    rows, columns = SIZE
    values = np.tile(np.linspace(0, 1000, columns), (rows, 1)).astype("<u2")
    dataset = slice_of(study, series, Rows=rows, Columns=columns, PixelData=values.tobytes())
    dataset.FrameOfReferenceUID = generate_uid()
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness = [1, 1], 1
    dataset.PatientBirthDate, dataset.StudyID = "", ""
    dataset.ReferringPhysicianName, dataset.PositionReferenceIndicator = "", ""
    for name, value in changes.items():
        setattr(dataset, name, value)
    return dataset


def segmentation(source, kind=hd.seg.SegmentationTypeValues.BINARY, colour=(20000, 50000, 40000)):
    mask = np.zeros(SIZE, np.uint8)
    mask[10:20, 5:15] = 1
    mask[30:50, 20:40] = 2
    segments = []
    for number, label in ((1, "one"), (2, "two")):
        segment = hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Neoplasm,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        segment.RecommendedDisplayCIELabValue = list(colour)
        segments.append(segment)
    if kind != hd.seg.SegmentationTypeValues.LABELMAP:
        mask = np.stack([mask == 1, mask == 2], axis=-1)[None].astype(np.uint8)
    else:
        mask = mask[None]
    return hd.seg.Segmentation(
        source_images=[source],
        pixel_array=mask,
        segmentation_type=kind,
        segment_descriptions=segments,
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="t",
        manufacturer_model_name="t",
        software_versions="1",
        device_serial_number="1",
    )


@pytest.mark.parametrize("level", ["study", "series", "instance"])
def test_each_level_as_one_image_as_multipart_and_as_animation(server, web, level):
    first = image()
    others = [
        image(first.StudyInstanceUID, first.SeriesInstanceUID, InstanceNumber=n) for n in (2, 3)
    ]
    server.stow(*(file_of(one) for one in (first, *others)))
    url = f"{url_of(first, level)}/rendered"
    count = 1 if level == "instance" else 3

    one = web.get(url, headers=PNG)
    many = web.get(url, headers={"Accept": 'multipart/related; type="image/jpeg"'})
    moving = web.get(url, headers={"Accept": "image/gif"})

    assert picture(one).shape == SIZE
    assert [head["content-type"] for head, _ in parts_of(many)] == ["image/jpeg"] * count
    with Image.open(io.BytesIO(moving.content)) as gif:
        assert gif.format == "GIF"
        assert gif.size == (SIZE[1], SIZE[0])


def test_a_multi_frame_moves_with_the_speed_that_it_states(server, web):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 1000, (5, 16, 24)).astype("<u2")
    dataset = slice_of(NumberOfFrames=5, PixelData=pixels.tobytes(), FrameTime="250")
    server.stow(file_of(dataset))

    gif = web.get(f"{url_of(dataset)}/rendered", headers={"Accept": "image/gif"})
    chosen = web.get(
        f"{url_of(dataset)}/frames/5,1/rendered",
        headers={"Accept": 'multipart/related; type="image/png"'},
    )

    with Image.open(io.BytesIO(gif.content)) as moving:
        assert (moving.n_frames, moving.info["duration"]) == (5, 250)
    assert len(parts_of(chosen)) == 2


def test_a_part_of_the_image_can_be_turned(server, web):
    dataset = image()
    server.stow(file_of(dataset))
    url = f"{url_of(dataset)}/rendered?viewport=48,64"

    plain = picture(web.get(f"{url},0,0,,", headers=PNG))
    across = picture(web.get(f"{url},0,0,-48,64", headers=PNG))
    down = picture(web.get(f"{url},0,0,48,-64", headers=PNG))

    assert plain[0, 0] < plain[0, -1]
    assert np.array_equal(across, plain[:, ::-1])
    assert np.array_equal(down, plain[::-1])


def test_an_mr_without_a_window_is_not_darkened_by_one_bright_spot(server, web):
    rows, columns = SIZE
    values = np.random.default_rng(0).normal(300, 60, (rows, columns)).clip(0).astype("<u2")
    values[0, 0] = 60000
    dataset = image(PixelData=values.tobytes(), BitsStored=16, HighBit=15)
    server.stow(file_of(dataset))

    shown = picture(web.get(f"{url_of(dataset)}/rendered", headers=PNG))

    assert 90 < shown.mean() < 165
    assert shown[0, 0] == 255


def test_tables_of_modality_and_window_are_applied_in_their_order(server, web):
    dataset = image()
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [1001, 0, 16], "US"
    table.LUTData = [1000 - n for n in range(1001)]
    dataset.ModalityLUTSequence = [table]
    voi = Dataset()
    voi.LUTDescriptor = [1001, 0, 8]
    voi.LUTData = [min(n // 4, 255) for n in range(1001)]
    dataset.VOILUTSequence = [voi]
    for one in (table, voi):
        one["LUTData"].VR = one["LUTDescriptor"].VR = "US"
    server.stow(file_of(dataset))

    shown = picture(web.get(f"{url_of(dataset)}/rendered", headers=PNG)).astype(int)

    values = 1000 - dataset.pixel_array.astype(int)
    assert np.abs(shown - np.minimum(values // 4, 255)).max() <= 1


def test_an_overlay_plane_is_drawn(server, web):
    plane = np.zeros(SIZE, np.uint8)
    plane[2:4, 2:10] = 1
    dataset = image()
    for element, vr, value in (
        (0x0010, "US", SIZE[0]), (0x0011, "US", SIZE[1]), (0x0040, "CS", "G"),
        (0x0050, "SS", [1, 1]), (0x0100, "US", 1), (0x0102, "US", 0),
        (0x3000, "OW", np.packbits(plane.ravel(), bitorder="little").tobytes()),
    ):  # fmt: skip
        dataset.add_new(0x60000000 + element, vr, value)
    server.stow(file_of(dataset))

    shown = picture(web.get(f"{url_of(dataset)}/rendered", headers=PNG))

    assert (shown[2:4, 2:10] == 255).all()
    assert shown[6, 2] < 60


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_a_segmentation_is_laid_over_the_image_that_it_belongs_to(server, web, kind):
    source = image()
    laid = segmentation(source, hd.seg.SegmentationTypeValues[kind])
    assert server.stow(file_of(source), file_of(laid)).status_code == 200
    url = f"{url_of(source)}/frames/1/rendered"

    plain = picture(web.get(url, headers=PNG))
    shown = picture(web.get(f"{url}?segmentation={laid.SOPInstanceUID}", headers=PNG)).astype(int)

    assert shown.shape == (*SIZE, 3)
    inside = shown[30:50, 20:40]
    assert (inside.max(axis=2) - inside.min(axis=2) > 20).all()
    outside = shown[0:8]
    assert np.array_equal(outside, np.repeat(plain[0:8, :, None], 3, axis=2))


def test_a_segmentation_of_another_image_is_refused(server, web):
    source, other = image(), image()
    elsewhere = image(source.StudyInstanceUID)  # another frame of reference, same study
    mine = segmentation(elsewhere)
    foreign = segmentation(other)
    server.stow(*(file_of(one) for one in (source, elsewhere, mine, other, foreign)))
    url = f"{url_of(source)}/rendered?segmentation="

    bad = ("1.2.3", "", "x%00", "1.2%27")
    for uid in (mine.SOPInstanceUID, foreign.SOPInstanceUID, source.SOPInstanceUID, *bad):
        answer = web.get(url + uid, headers=PNG)
        assert answer.status_code == 400, answer.text


def report() -> Dataset:
    dataset = slice_of(SOPClassUID=ComprehensiveSRStorage, Modality="SR")
    for name in ("PixelData", "Rows", "Columns", "BitsAllocated"):
        delattr(dataset, name)

    def code(meaning):
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "1", "99T", meaning
        return item

    finding = Dataset()
    finding.RelationshipType, finding.ValueType = "CONTAINS", "TEXT"
    finding.ConceptNameCodeSequence = [code("Finding")]
    finding.TextValue = "<script>alert(1)</script> mass & oedema"
    number = Dataset()
    number.RelationshipType, number.ValueType = "CONTAINS", "NUM"
    number.ConceptNameCodeSequence = [code("Volume")]
    measured = Dataset()
    measured.NumericValue = "12.5"
    unit = code("millilitre")
    unit.CodeValue = "mL"
    measured.MeasurementUnitsCodeSequence = [unit]
    number.MeasuredValueSequence = [measured]
    dataset.ValueType, dataset.ContinuityOfContent = "CONTAINER", "SEPARATE"
    dataset.ConceptNameCodeSequence = [code("Brain MR report")]
    dataset.ContentSequence = [finding, number]
    return dataset


def test_a_structured_report_is_a_page_that_runs_nothing(server, web):
    dataset = report()
    server.stow(file_of(dataset))

    answer = web.get(f"{url_of(dataset)}/rendered", headers={"Accept": "text/html"})

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "<h1>Brain MR report</h1>" in answer.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; mass &amp; oedema" in answer.text
    assert "12.5 mL" in answer.text
    assert "<script" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert web.get(f"{url_of(dataset)}/rendered", headers=PNG).status_code == 406


def test_an_encapsulated_pdf_leaves_as_pdf(server, web):
    document = b"%PDF-1.4 not much of one"
    dataset = slice_of(SOPClassUID=EncapsulatedPDFStorage, Modality="DOC")
    for name in ("PixelData", "Rows", "Columns", "BitsAllocated"):
        delattr(dataset, name)
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocument = document
    server.stow(file_of(dataset))

    answer = web.get(f"{url_of(dataset)}/rendered", headers={"Accept": "application/pdf"})

    assert answer.content == document
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_annotation_and_profile(server, web):
    dataset = image()
    server.stow(file_of(dataset))
    url = f"{url_of(dataset)}/rendered"

    annotated = web.get(f"{url}?annotation=patient,technique", headers=PNG)

    assert annotated.status_code == 200 and annotated.headers["warning"].startswith("299")
    assert web.get(f"{url}?iccprofile=yes", headers=PNG).status_code == 200
    assert web.get(f"{url}?iccprofile=cmyk", headers=PNG).status_code == 400
    assert web.get(f"{url}?annotation=address", headers=PNG).status_code == 400
    assert web.get(url, headers={"Accept": "video/mp4"}).status_code == 406
