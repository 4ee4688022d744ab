"""DICOM JSON (PS3.18 annex F) from the bytes of a data set, without decoding bulk values."""

from __future__ import annotations

import math
import struct
from base64 import b64encode
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from pydicom.charset import convert_encodings, decode_bytes

from archive.keys import DicomJson
from archive.names import GROUPS
from archive.part10 import Buffer, Element, Level

BULK_THRESHOLD = 1024
CHARACTER_SET = 0x00080005
PIXEL_DATA = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
BULK_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
WORD_BYTES = {"OW": 2, "OL": 4, "OF": 4, "OD": 8, "OV": 8}
_NUMBERS = {"FL": "f", "FD": "d", "SL": "l", "SS": "h", "UL": "L", "US": "H", "SV": "q", "UV": "Q"}
_DECODED = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_UNSPLIT = frozenset({"LT", "ST", "UT", "UR"})
_DELIMITERS = {0x0A, 0x0C, 0x0D, 0x09}
_UTF8 = {"vr": "CS", "Value": ["ISO_IR 192"]}
_DEFAULT = ("iso8859",)

BulkUri = Callable[[str], str]


@lru_cache(maxsize=256)
def _encodings(raw: bytes) -> tuple[str, ...]:
    """Python codecs of a SpecificCharacterSet value; an unknown one falls back to the default."""
    terms = [term.strip(" \0") for term in raw.decode("ascii", "replace").split("\\")]
    if not any(terms):
        return _DEFAULT
    try:
        return tuple(convert_encodings(terms)) or _DEFAULT
    except LookupError:
        return _DEFAULT


def decode(raw: bytes, encodings: tuple[str, ...]) -> str:
    """Text in the data set's character sets; nothing in it makes this fail."""
    if raw.isascii() and b"\x1b" not in raw:
        return raw.decode("ascii")
    if encodings == _DEFAULT:
        # Undeclared: UTF-8 if it is valid as such (a common slip of senders), else Latin-1.
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return raw.decode("latin-1")
    try:
        return decode_bytes(raw, list(encodings), _DELIMITERS)
    except (LookupError, UnicodeError):
        return raw.decode("latin-1")


class JsonWriter:
    """Turns elements of one buffer into DICOM JSON.

    Args:
        buffer: The data set as walked.
        bulk_uri: Makes the BulkDataURI from an attribute's path; None keeps every value inline.
    """

    def __init__(self, buffer: Buffer, bulk_uri: BulkUri | None) -> None:
        self._buffer = buffer
        self._bulk_uri = bulk_uri

    def data_set(self, elements: Level, tags: Iterable[int] | None = None) -> DicomJson:
        """The data set, or only its `tags`, in ascending order and in UTF-8."""
        wanted = elements if tags is None else [tag for tag in tags if tag in elements]
        return self._level(elements, wanted, _DEFAULT, "")

    def _level(
        self, elements: Level, tags: Iterable[int], inherited: tuple[str, ...], path: str
    ) -> DicomJson:
        charset = elements.get(CHARACTER_SET)
        encodings = _encodings(self._raw(charset)) if charset else inherited
        document: DicomJson = {}
        for tag in sorted(tags):
            if tag & 0xFFFF == 0 or tag >> 16 == 2:
                continue
            name = f"{tag:08X}"
            if tag == CHARACTER_SET:
                document[name] = _UTF8
                continue
            document[name] = self._element(tag, elements[tag], encodings, path + name)
        return document

    def _raw(self, element: Element) -> bytes:
        return bytes(self._buffer[element.offset : element.offset + element.length])

    def _element(
        self, tag: int, element: Element, encodings: tuple[str, ...], path: str
    ) -> DicomJson:
        vr = element.vr
        if element.items is not None:
            items = [
                self._level(item, item, encodings, f"{path}/{number}/")
                for number, item in enumerate(element.items, start=1)
            ]
            return {"vr": vr, "Value": items} if items else {"vr": vr}
        if element.length == 0:
            return {"vr": vr}
        if vr in BULK_VRS:
            return self._bulk(tag, element, path)
        raw = self._raw(element)
        if vr in _NUMBERS:
            values = _numbers(raw, vr, element.little)
        elif vr == "AT":
            pair = struct.Struct("<HH" if element.little else ">HH")
            values = [f"{g:04X}{e:04X}" for g, e in pair.iter_unpack(raw[: len(raw) // 4 * 4])]
        else:
            values = _texts(raw, vr, encodings)
        return {"vr": vr, "Value": values} if values else {"vr": vr}

    def _bulk(self, tag: int, element: Element, path: str) -> DicomJson:
        vr = element.vr
        large = element.length > BULK_THRESHOLD or tag in PIXEL_DATA
        if self._bulk_uri is not None and (large or element.fragments is not None):
            return {"vr": vr, "BulkDataURI": self._bulk_uri(path)}
        raw = self._raw(element)
        if not element.little:
            raw = swapped(raw, WORD_BYTES.get(vr, 1))
        return {"vr": vr, "InlineBinary": b64encode(raw).decode("ascii")}


def swapped(raw: bytes, word: int) -> bytes:
    """The same words in the other byte order; a part of a word at the end is left as it is."""
    if word == 1:
        return raw
    whole = len(raw) // word * word
    out = bytearray(raw)
    for offset in range(word):
        out[offset:whole:word] = raw[word - 1 - offset : whole : word]
    return bytes(out)


def _numbers(raw: bytes, vr: str, little: bool) -> list[Any]:
    one = struct.Struct(("<" if little else ">") + _NUMBERS[vr])
    values = [value for (value,) in one.iter_unpack(raw[: len(raw) // one.size * one.size])]
    if vr in ("FL", "FD"):
        return [value if math.isfinite(value) else str(value) for value in values]
    return values


def _texts(raw: bytes, vr: str, encodings: tuple[str, ...]) -> list[Any]:
    text = decode(raw, encodings if vr in _DECODED else _DEFAULT).rstrip(" \0").replace("\0", "")
    if not text:
        return []
    if vr in _UNSPLIT:
        return [text]
    values: list[Any] = []
    for part in text.split("\\"):
        part = part.strip(" ")
        if not part:
            values.append(None)
        elif vr == "PN":
            values.append(_name(part))
        elif vr in ("DS", "IS"):
            values.append(_number_text(part, vr))
        else:
            values.append(part)
    return values if any(value is not None for value in values) else []


def _name(text: str) -> dict[str, str] | None:
    groups = zip(GROUPS, text.split("="), strict=False)
    return {group: value.strip(" ") for group, value in groups if value.strip(" ")} or None


def _number_text(text: str, vr: str) -> int | float | str:
    """A number, or the text itself where it is none or does not fit (PS3.18 F.2.3 allows both)."""
    try:
        if vr == "IS":
            number = int(text)
            return number if abs(number) < 2**53 else text
        value = float(text)
    except ValueError:
        return text
    if not math.isfinite(value):
        return text
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
