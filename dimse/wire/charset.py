"""Character sets of identifiers: which one an answer is written in (PS3.5 6.1.2, PS3.4 C.2.2.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from pydicom.charset import convert_encodings, decode_bytes, encode_string, python_encoding
from pydicom.dataset import Dataset

from archive.keys import DicomJson

Terms = tuple[str, ...]
"""The values of Specific Character Set (0008,0005); none is the default repertoire, ASCII."""

UTF_8: Terms = ("ISO_IR 192",)
_ASCII = frozenset({"", "ISO_IR 6", "ISO 2022 IR 6"})
# Without code extensions only these multi-byte sets are named alone (PS3.3 C.12.1.1.2).
_WHOLE = frozenset({"ISO_IR 192", "GB18030", "GBK"})
_TEXT = frozenset({"SH", "LO", "ST", "LT", "UC", "UT", "PN"})
_PIECES = re.compile(r"[\\^=\r\n\f\t]")


class UnknownCharacterSet(Exception):
    """Specific Character Set names one that is not in the standard."""


def terms_of(dataset: Dataset) -> Terms:
    """The character set that a data set names. Raises UnknownCharacterSet."""
    value = dataset.get("SpecificCharacterSet")
    found = (value,) if isinstance(value, str) else tuple(value or ())
    terms = tuple(str(term).strip() for term in found)
    if any(term not in python_encoding for term in terms):
        raise UnknownCharacterSet
    return () if all(term in _ASCII for term in terms) else terms


def parse_terms(text: str | None) -> Terms:
    """A character set as the peer table holds it."""
    return tuple(text.split("\\")) if text else ()


def choose(texts: Iterable[str], wished: Sequence[Terms]) -> Terms:
    """The first wished character set that can write every text, else UTF-8."""
    found = [text for text in texts if not text.isascii()]
    for terms in wished:
        if all(can_encode(text, terms) for text in found):
            return terms
    return UTF_8 if found else ()


def can_encode(text: str, terms: Terms) -> bool:
    """Whether a text written in this character set is read back as it was."""
    if text.isascii():
        return True
    if not terms or (len(terms) == 1 and terms[0] in _ASCII):
        return False
    if terms[0] in _WHOLE:
        return _survives(text, terms[0])
    # The library writes its default repertoire as Latin-1, which the name does not say.
    if terms[0] in _ASCII and any("\x80" <= char <= "\xff" for char in text):
        return False
    return all(_is_written(piece, terms) for piece in _PIECES.split(text))


def _survives(text: str, term: str) -> bool:
    codec = python_encoding[term]
    try:
        return text.encode(codec).decode(codec) == text
    except UnicodeError:
        return False


@lru_cache(maxsize=4096)
def _is_written(piece: str, terms: Terms) -> bool:
    if piece.isascii():
        return True
    encodings = convert_encodings(list(terms))
    # The library replaces what it cannot write, with a warning: ask each codec first.
    if not all(_any_codec(char, terms) for char in piece):
        return False
    try:
        return decode_bytes(encode_string(piece, encodings), encodings, set()) == piece
    except (UnicodeError, ValueError):
        return False


@lru_cache(maxsize=65536)
def _any_codec(char: str, terms: Terms) -> bool:
    return any(_has(char, term) for term in terms)


def _has(char: str, term: str) -> bool:
    if char.isascii():
        return True
    if term in _ASCII:
        return False
    try:
        char.encode(_PLAIN.get(term, python_encoding[term]))
    except UnicodeError:
        return False
    return True


# Codecs of the library that Python does not know by that name.
_PLAIN = {
    "ISO 2022 IR 58": "gb2312",
    "ISO_IR 126": "iso8859_7",
    "ISO_IR 127": "iso8859_6",
    "ISO_IR 138": "iso8859_8",
    "ISO_IR 144": "iso8859_5",
    "ISO_IR 148": "iso8859_9",
    "ISO_IR 166": "iso8859_11",
    "ISO 2022 IR 126": "iso8859_7",
    "ISO 2022 IR 127": "iso8859_6",
    "ISO 2022 IR 138": "iso8859_8",
    "ISO 2022 IR 144": "iso8859_5",
    "ISO 2022 IR 148": "iso8859_9",
    "ISO 2022 IR 166": "iso8859_11",
}


def texts_of(document: DicomJson) -> Iterator[str]:
    """Every text of a DICOM JSON data set that its character set applies to."""
    for element in document.values():
        vr, values = element.get("vr"), element.get("Value", ())
        if vr == "SQ":
            for item in values:
                yield from texts_of(item or {})
        elif vr in _TEXT:
            for value in values:
                yield from _texts(value)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (str(group) for group in value.values())
    elif value is not None:
        yield str(value)
