"""Bulk data of a store request, put where the metadata refer to them."""

from __future__ import annotations

import struct
from base64 import b64encode
from typing import Any

from pydicom import Dataset

from archive import MissingAttribute
from archive.keys import DicomJson
from dicomweb.bulk_file import BulkFile, Span
from dicomweb.errors import BadRequest, PayloadTooLarge
from dicomweb.media import NATIVE, MediaRange, transfer_syntax_of

_PIXEL_DATA = 0x7FE00010
_MAX_DEPTH = 64
_MAX_INLINE = 256 * 1024 * 1024
_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_NUMBERS = {"FL": "f", "FD": "d", "SL": "l", "SS": "h", "UL": "L", "US": "H", "SV": "q", "UV": "Q"}
_UNSPLIT = frozenset({"LT", "ST", "UT", "UR"})
_DESCRIPTION = (
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "SamplesPerPixel", "PhotometricInterpretation",
)  # fmt: skip


class Bulk:
    """The parts of one location: the frames of compressed pixel data, or one value."""

    def __init__(self, kind: MediaRange) -> None:
        self.kind = kind
        self.parts: list[Span] = []


class BulkContent:
    """Takes the bulk values out of a document; pydicom gets them as files, not as bytes."""

    def __init__(self, bulk: dict[str, Bulk], file: BulkFile) -> None:
        self._bulk = bulk
        self._file = file
        self._inlined = 0
        self.syntax: str | None = None
        self._pixels: Bulk | None = None

    def level(self, document: DicomJson, depth: int) -> DicomJson:
        """The level without its large bulk values."""
        if depth > _MAX_DEPTH:
            raise BadRequest(f"sequences are nested deeper than {_MAX_DEPTH}")
        kept: DicomJson = {}
        for name, element in document.items():
            if not isinstance(element, dict) or name[:4] == "0002":
                continue
            kept[name] = self._element(name, element, depth)
        if depth == 0 and self._pixels is not None:
            kept.pop("7FE00010", None)
        return kept

    def _element(self, name: str, element: dict[str, Any], depth: int) -> dict[str, Any]:
        if element.get("vr") == "SQ":
            items = [self.level(item or {}, depth + 1) for item in element.get("Value") or []]
            return {"vr": "SQ", "Value": items}
        if "BulkDataURI" not in element:
            return element
        bulk = self._bulk.get(str(element["BulkDataURI"]))
        if bulk is None:
            raise BadRequest("a BulkDataURI of the metadata has no part with that Content-Location")
        if depth == 0 and name.upper() == "7FE00010":
            self._pixels = bulk
            self.syntax = transfer_syntax_of(bulk.kind)
            return {"vr": "OW"}
        return self._inline(str(element.get("vr", "UN")), bulk)

    def fill(self, data_set: Dataset) -> None:
        """Put the pixel data in, as a stream."""
        if self._pixels is None:
            return
        if missing := [name for name in _DESCRIPTION if data_set.get(name) is None]:
            raise MissingAttribute(f"pixel data need {', '.join(missing)} in the metadata")
        parts = self._pixels.parts
        if self.syntax is None or self.syntax in NATIVE:
            vr = "OB" if int(data_set.get("BitsAllocated") or 8) <= 8 else "OW"
            data_set.add_new(_PIXEL_DATA, vr, self._file.joined(parts))
            return
        # pydicom's own EncapsulatedBuffer takes minutes for a thousand frames.
        data_set.add_new(_PIXEL_DATA, "OB", self._file.encapsulated(parts))
        data_set["PixelData"].is_undefined_length = True

    def _inline(self, vr: str, bulk: Bulk) -> dict[str, Any]:
        """A bulk value that is not pixel data, as if it had come in the metadata."""
        # In all: many attributes may refer to one value.
        self._inlined += sum(length for _, length in bulk.parts)
        if self._inlined > _MAX_INLINE:
            raise PayloadTooLarge("bulk values that are not pixel data are larger than the limit")
        data = self._file.joined(bulk.parts).read()
        if vr in _BINARY:
            return {"vr": vr, "InlineBinary": b64encode(data).decode("ascii")}
        if vr in _NUMBERS:
            one = struct.Struct("<" + _NUMBERS[vr])
            whole = data[: len(data) // one.size * one.size]
            return {"vr": vr, "Value": [value for (value,) in one.iter_unpack(whole)]}
        text = data.decode("utf-8", "replace").rstrip("\0 ")
        return {"vr": vr, "Value": [text] if vr in _UNSPLIT else text.split("\\")}
