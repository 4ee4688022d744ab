"""Segments of a DICOM Segmentation laid over the image that they were drawn on (PS3.3 C.8.20).

Only over exactly that image: frame of reference, size, place and the reference must agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from pixels.decode import DAMAGE, decode_frame
from pixels.errors import BadParameter
from pixels.source import Source, open_source
from pixels.syntaxes import NATIVE

_OPACITY = 0.45
_TOLERANCE_MM = 0.01
_LIMIT = 1 << 30
# For segments without a recommended colour: distinct, and none of them grey.
_COLOURS = ((230, 60, 60), (60, 180, 75), (60, 110, 230), (245, 190, 40), (200, 60, 200))
Mask = NDArray[np.bool_]


def with_segments(
    shown: NDArray[np.uint8], header: Dataset, path: Path, sop: str, number: int, limit: int
) -> NDArray[np.uint8]:
    """The picture of frame `number` of instance `sop` as RGB, with the segments of `path`.

    Raises:
        BadParameter: the file is no segmentation of this image.
    """
    picture = shown if shown.ndim == 3 else np.repeat(shown[:, :, None], 3, axis=2)
    result = picture.astype(np.float64)
    source = open_source(path, _LIMIT)
    with source.file:
        try:
            _check(source.header, header, sop)
            for segment, mask in _masks(source, header, sop, number, limit):
                colour = np.asarray(_colour_of(source.header, segment), dtype=np.float64)
                result[mask] = (1 - _OPACITY) * result[mask] + _OPACITY * colour
        except DAMAGE as error:
            raise BadParameter("the segmentation cannot be read") from error
    return np.round(result).astype(np.uint8)


def _check(segmentation: Dataset, header: Dataset, sop: str) -> None:
    if segmentation.get("Modality") != "SEG" or "SegmentSequence" not in segmentation:
        raise BadParameter("the segmentation parameter does not name a Segmentation")
    if segmentation.get("FrameOfReferenceUID") != header.get("FrameOfReferenceUID"):
        raise BadParameter("image and segmentation have different frames of reference")
    size = (header.Rows, header.Columns)
    if (segmentation.Rows, segmentation.Columns) != size:
        raise BadParameter("image and segmentation have different numbers of pixels")
    named = {
        str(item.get("ReferencedSOPInstanceUID"))
        for series in segmentation.get("ReferencedSeriesSequence") or []
        for item in series.get("ReferencedInstanceSequence") or []
    }
    named |= {uid for frame in _frames(segmentation) for uid, _ in _references(segmentation, frame)}
    if sop not in named:
        raise BadParameter("the segmentation does not refer to this image")


def _frames(segmentation: Dataset) -> list[Dataset]:
    return list(segmentation.get("PerFrameFunctionalGroupsSequence") or [])


def _references(segmentation: Dataset, frame: Dataset) -> Iterator[tuple[str, list[int]]]:
    """Instances, and frames in them, that a frame of the segmentation was drawn on."""
    shared = segmentation.get("SharedFunctionalGroupsSequence") or []
    for group in (frame, *shared):
        for derivation in group.get("DerivationImageSequence") or []:
            for item in derivation.get("SourceImageSequence") or []:
                numbers = item.get("ReferencedFrameNumber") or []
                numbers = [numbers] if isinstance(numbers, int) else numbers
                yield str(item.get("ReferencedSOPInstanceUID")), [int(one) for one in numbers]


def _masks(
    source: Source, header: Dataset, sop: str, number: int, limit: int
) -> Iterator[tuple[int, Mask]]:
    """Segment number and mask of each frame that was drawn on this frame of the image."""
    segmentation = source.header
    label_map = segmentation.get("SegmentationType") == "LABELMAP"
    for index, frame in enumerate(_frames(segmentation)):
        if not any(
            uid == sop and (not numbers or number in numbers)
            for uid, numbers in _references(segmentation, frame)
        ):
            continue
        if not _same_place(frame, header, number):
            raise BadParameter("the segmentation lies elsewhere than the image it refers to")
        values = _values(source, index, limit)
        if label_map:
            for segment in (int(one) for one in np.unique(values) if one):
                yield segment, values == segment
        else:
            identified = frame.get("SegmentIdentificationSequence")
            shared = segmentation.get("SharedFunctionalGroupsSequence") or [Dataset()]
            identified = identified or shared[0].SegmentIdentificationSequence
            threshold = int(segmentation.get("MaximumFractionalValue") or 1) / 2
            yield int(identified[0].ReferencedSegmentNumber), values > threshold


def _same_place(frame: Dataset, header: Dataset, number: int) -> bool:
    mine = _position(frame, frame)
    frames = header.get("PerFrameFunctionalGroupsSequence") or []
    theirs = _position(header, frames[number - 1] if number <= len(frames) else Dataset())
    if mine is None or theirs is None:
        return True
    return bool(np.allclose(mine, theirs, atol=_TOLERANCE_MM))


def _position(header: Dataset, frame: Dataset) -> list[float] | None:
    for item in frame.get("PlanePositionSequence") or []:
        header = item
    position = header.get("ImagePositionPatient")
    return [float(one) for one in position] if position else None


def _values(source: Source, index: int, limit: int) -> NDArray[Any]:
    """The stored values of one frame of the segmentation, counted from 0."""
    header, element = source.header, source.pixels
    if element is None:
        raise BadParameter("the segmentation holds no pixel data")
    if element.encapsulated:
        count = int(header.get("NumberOfFrames") or 1)
        data = next(one for n, one in enumerate(source.frames(count)) if n == index)
        return decode_frame(header, data, source.syntax, limit).pixels
    if source.syntax not in NATIVE or not source.little:
        raise BadParameter("segmentations in this transfer syntax are not drawn")
    pixels = int(header.Rows) * int(header.Columns)
    bits = int(header.BitsAllocated)
    begin = index * pixels * bits
    source.file.seek(element.offset + begin // 8)
    data = source.file.read((begin % 8 + pixels * bits + 7) // 8)
    if bits > 1:
        return np.frombuffer(data, f"<u{bits // 8}").reshape(int(header.Rows), -1)
    flat = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    return flat[begin % 8 :][:pixels].reshape(int(header.Rows), -1)


def _colour_of(segmentation: Dataset, number: int) -> tuple[int, int, int]:
    for item in segmentation.SegmentSequence:
        if int(item.SegmentNumber) == number and "RecommendedDisplayCIELabValue" in item:
            return lab_to_rgb(*(int(v) for v in item.RecommendedDisplayCIELabValue))
    return _COLOURS[(number - 1) % len(_COLOURS)]


def lab_to_rgb(light: int, a: int, b: int) -> tuple[int, int, int]:
    """A CIELab value as DICOM writes it (PS3.3 C.10.7.1.1, white point D50) as 8-bit sRGB."""
    lightness, a_star, b_star = light * 100 / 65535, a * 255 / 65535 - 128, b * 255 / 65535 - 128
    y = (lightness + 16) / 116
    steps = np.array([y + a_star / 500, y, y - b_star / 200])
    linear = np.where(steps > 6 / 29, steps**3, 3 * (6 / 29) ** 2 * (steps - 4 / 29))
    xyz = linear * np.array([0.96422, 1.0, 0.82521])
    # XYZ (D50) to linear sRGB, the Bradford adaptation to D65 included.
    matrix = np.array(
        [
            [3.1338561, -1.6168667, -0.4906146],
            [-0.9787684, 1.9161415, 0.0334540],
            [0.0719453, -0.2289914, 1.4052427],
        ]
    )
    rgb = np.clip(matrix @ xyz, 0.0, 1.0)
    encoded = np.where(rgb <= 0.0031308, rgb * 12.92, 1.055 * rgb ** (1 / 2.4) - 0.055)
    red, green, blue = (round(float(v) * 255) for v in encoded)
    return red, green, blue
