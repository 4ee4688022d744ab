"""A whole Part 10 file in another transfer syntax. Runs in a decoder process (worker.py).

Attributes stay as they are except those that describe the form of the pixel data. Compression
is without loss, and checked frame by frame.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from pydicom import Dataset, dcmwrite
from pydicom.dataelem import DataElement
from pydicom.filebase import DicomBytesIO, DicomIO
from pydicom.filewriter import write_dataset
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import UID

from pixels.decode import DAMAGE, Frame, check_size, decode_frame, description, native_bytes
from pixels.encode import encode_frame, encoded_header, native_values
from pixels.errors import NotDecodable, NotPossible, TooLarge
from pixels.source import PixelElement, Source, open_source
from pixels.syntaxes import COMPRESSED_TARGETS, IMPLICIT_LE, NATIVE, can_make, is_lossy

_CHUNK = 1024 * 1024
_MAX_LENGTH = 0xFFFFFFFE
_ITEM = b"\xfe\xff\x00\xe0"
_SEQUENCE_END = b"\xfe\xff\xdd\xe0\0\0\0\0"
_META = (
    ("MediaStorageSOPClassUID", "SOPClassUID"),
    ("MediaStorageSOPInstanceUID", "SOPInstanceUID"),
)
_WORDS = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}


def transcode_file(path: Path, target: str, output: Path, frame_limit: int, limit: int) -> bytes:
    """Write the file at `path` to `output` in the `target` transfer syntax.

    Raises:
        NotDecodable: damaged.
        NotPossible: no codec for it, or it would not come back as it is.
        TooLarge: it would pass a limit.
    """
    source = open_source(path, limit)
    with source.file, output.open("wb") as file:
        if not can_make(source.syntax, target):
            raise NotPossible("this transfer syntax cannot be made from the stored one")
        try:
            _Writer(source, target, file, frame_limit, limit).write()
        except DAMAGE as error:
            text = f"the instance cannot be transcoded ({type(error).__name__})"
            raise NotDecodable(text) from error
    return b""


class _Writer:
    """Writes one file: header, pixel data frame by frame, what follows."""

    def __init__(
        self, source: Source, target: str, file: BinaryIO, frame_limit: int, limit: int
    ) -> None:
        self._source = source
        self._target = target
        self._file = file
        self._frame_limit = frame_limit
        self._limit = limit
        self._implicit = target == IMPLICIT_LE

    def write(self) -> None:
        """All of it."""
        source, pixels = self._source, self._source.pixels
        if not source.little:
            _swap_words(source.header)
            _swap_words(source.after)
        if pixels is None:
            self._head(source.header)
        elif pixels.encapsulated:
            self._from_frames()
        elif self._target in COMPRESSED_TARGETS:
            self._compress(source.header, self._native_frames(pixels))
        else:
            self._head(source.header)
            self._element(pixels.keyword, pixels.vr, pixels.end - pixels.offset)
            self._copy(pixels)
        self._rest()

    def _head(self, header: Dataset) -> None:
        meta = header.file_meta
        meta.TransferSyntaxUID = UID(self._target)
        # Some senders leave these out.
        for meta_name, name in _META:
            if not meta.get(meta_name):
                setattr(meta, meta_name, header.get(name, ""))
        # Who wrote this file is us (PS3.10 7.1); pydicom fills them in.
        for name in ("ImplementationClassUID", "ImplementationVersionName"):
            if name in meta:
                delattr(meta, name)
        header.preamble = b"\0" * 128
        for name in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
            if name in header:
                delattr(header, name)
        dcmwrite(
            self._file,
            header,
            implicit_vr=self._implicit,
            little_endian=True,
            enforce_file_format=True,
        )

    def _element(self, keyword: str, vr: str, length: int | None) -> None:
        """Tag, VR and length of the pixel data; None is the undefined length."""
        if length is not None and length > _MAX_LENGTH:
            raise NotPossible("uncompressed, the pixel data pass the 4 GiB of one element")
        tags = {"PixelData": 0x0010, "FloatPixelData": 0x0008, "DoubleFloatPixelData": 0x0009}
        head = struct.pack("<HH", 0x7FE0, tags[keyword])
        if not self._implicit:
            head += vr.encode("ascii") + b"\0\0"
        number = 0xFFFFFFFF if length is None else length + length % 2
        self._file.write(head + struct.pack("<L", number))

    def _copy(self, pixels: PixelElement) -> None:
        header, left = self._source.header, pixels.end - pixels.offset
        bits = int(header.get("BitsAllocated") or 8)
        word = 1
        if not self._source.little:
            word = 2 if pixels.vr == "OW" and bits <= 16 else max(bits // 8, 1)
        self._source.file.seek(pixels.offset)
        odd = left % 2
        while left:
            data = self._source.file.read(min(left, _CHUNK))
            if not data:
                raise NotDecodable("the file ends inside of its pixel data")
            left -= len(data)
            self._file.write(_swapped(data, word))
        self._file.write(b"\0" * odd)

    def _native_frames(self, pixels: PixelElement) -> Iterator[Frame]:
        header = self._source.header
        if pixels.keyword != "PixelData":
            raise NotPossible("pixel data of real numbers are not compressed")
        rows, columns = check_size(header, self._frame_limit)
        bits = int(header.BitsAllocated)
        size = rows * columns * int(header.get("SamplesPerPixel", 1)) * bits // 8
        word = 1
        if not self._source.little:
            word = 2 if pixels.vr == "OW" and bits <= 16 else max(bits // 8, 1)
        described = description(header)  # that of the source will tell of the result
        for number in range(self._count(header)):
            begin = number * size // word * word
            self._source.file.seek(pixels.offset + begin)
            length = min(number * size + size + word - 1, pixels.end - pixels.offset) - begin
            data = _swapped(self._source.file.read(length), word)[number * size - begin :]
            values = native_values(described, data[:size], self._frame_limit)
            yield Frame(values, str(described.PhotometricInterpretation))

    def _from_frames(self) -> None:
        """From a compressed form: to native, or to another compression without loss."""
        header, syntax = self._source.header, self._source.syntax
        if syntax in NATIVE:
            raise NotDecodable("the pixel data are encapsulated in an uncompressed syntax")
        count = self._count(header)
        rows, columns = check_size(header, self._frame_limit)
        samples, bits = int(header.get("SamplesPerPixel", 1)), int(header.BitsAllocated)
        size = rows * columns * samples * bits // 8
        if size * count > self._limit:
            raise TooLarge("the decoded instance is larger than the limit")
        described = description(header)
        frames = (
            _settled(decode_frame(described, data, syntax, self._frame_limit), syntax)
            for data in self._source.frames(count)
        )
        if is_lossy(syntax):
            header.LossyImageCompression = "01"
        if self._target in COMPRESSED_TARGETS:
            self._compress(header, frames)
            return
        first = next(frames)
        _describe(header, first)
        self._head(header)
        total = (rows * columns * samples * bits * count + 7) // 8
        self._element("PixelData", "OB" if bits <= 8 and not self._implicit else "OW", total)
        written = self._file.write(native_bytes(header, first.pixels))
        for frame in frames:
            written += self._file.write(native_bytes(header, frame.pixels))
        self._file.write(b"\0" * (total + total % 2 - written))

    def _compress(self, header: Dataset, frames: Iterator[Frame]) -> None:
        count, number = self._count(header), 0
        for number, frame in enumerate(frames, 1):
            if number == 1:
                _describe(header, frame)
                described = description(header)
                new = encoded_header(header, self._target)
                header.PhotometricInterpretation = new.PhotometricInterpretation
                if "PlanarConfiguration" in new:
                    header.PlanarConfiguration = new.PlanarConfiguration
                self._head(header)
                self._element("PixelData", "OB", None)
                table = self._file.tell()
                self._file.write(_ITEM + struct.pack("<L", 4 * count) + b"\0" * 4 * count)
                start, offsets = self._file.tell(), []
            data = encode_frame(described, frame.pixels, self._target, self._frame_limit)
            offsets.append(self._file.tell() - start)
            padded = data + b"\0" * (len(data) % 2)
            self._file.write(_ITEM + struct.pack("<L", len(padded)) + padded)
            if self._file.tell() > self._limit:
                raise TooLarge("the compressed instance is larger than the limit")
        if number != count:
            raise NotDecodable("there are not as many frames as NumberOfFrames says")
        self._file.write(_SEQUENCE_END)
        end = self._file.tell()
        if offsets[-1] <= _MAX_LENGTH:
            self._file.seek(table + 8)
            self._file.write(struct.pack(f"<{count}L", *offsets))
            self._file.seek(end)

    def _count(self, header: Dataset) -> int:
        count = int(header.get("NumberOfFrames") or 1)
        if count < 1:
            raise NotDecodable("NumberOfFrames is not a positive number")
        size = self._source.pixels
        assert size is not None  # noqa: S101 - asked for only where there are some
        # Each frame has at least a bit, or an item of eight bytes: a forged count ends here.
        if count > (size.end - size.offset) * 8:
            raise NotDecodable("NumberOfFrames is more than the pixel data hold")
        return count

    def _rest(self) -> None:
        """Elements behind the pixel data: padding, signatures (void now, so left out)."""
        after = self._source.after
        if "DigitalSignaturesSequence" in after:
            del after.DigitalSignaturesSequence
        if not len(after):
            return
        target = DicomBytesIO()
        target.is_implicit_VR, target.is_little_endian = self._implicit, True
        write_dataset(cast(DicomIO, target), after)
        self._file.write(target.getvalue())


def _settled(frame: Frame, syntax: str) -> Frame:
    """Colours that came out of lossy JPEG leave as RGB, which all can show; others as they are."""
    if is_lossy(syntax) and frame.photometric.startswith("YBR_FULL"):
        return Frame(convert_color_space(frame.pixels, frame.photometric, "RGB"), "RGB")
    return frame


def _describe(header: Dataset, frame: Frame) -> None:
    """Make the header tell of decoded values: order of colours, no subsampling."""
    photometric = frame.photometric.removesuffix("_422") if frame.pixels.ndim == 3 else None
    if photometric is not None:
        header.PhotometricInterpretation = photometric
        header.PlanarConfiguration = 0


def _swap_words(dataset: Dataset) -> None:
    """Binary values of a big endian data set (pydicom turns only numbers) made little endian."""

    def turn(_: Dataset, element: DataElement) -> None:
        word = _WORDS.get(element.VR)
        if word and isinstance(element.value, bytes):
            element.value = _swapped(element.value, word)

    dataset.walk(turn)


def _swapped(data: bytes, word: int) -> bytes:
    if word == 1:
        return data
    whole = len(data) // word * word
    return np.frombuffer(data[:whole], f">u{word}").astype(f"<u{word}").tobytes() + data[whole:]
