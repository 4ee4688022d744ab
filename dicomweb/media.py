"""Media types: parsing of Content-Type and Accept, and the choice among what can be made."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pydicom import uid

from dicomweb.errors import BadRequest, NotAcceptable, UnsupportedMediaType

DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
OCTETS = "application/octet-stream"
MULTIPART = "multipart/related"
EXPLICIT_LE = "1.2.840.10008.1.2.1"

# Native pixel data leaves as Explicit VR Little Endian holds it.
NATIVE = frozenset(
    {
        "1.2.840.10008.1.2",
        EXPLICIT_LE,
        "1.2.840.10008.1.2.1.99",
        "1.2.840.10008.1.2.2",
        "1.2.840.113619.5.2",
    }
)
# PS3.18 table 8.7.3-5; JPEG XL and HTJ2K of its later editions.
_FRAME_TYPES = {
    uid.RLELossless: "image/dicom-rle",
    uid.JPEGBaseline8Bit: "image/jpeg",
    uid.JPEGExtended12Bit: "image/jpeg",
    uid.JPEGLossless: "image/jpeg",
    uid.JPEGLosslessSV1: "image/jpeg",
    uid.JPEGLSLossless: "image/jls",
    uid.JPEGLSNearLossless: "image/jls",
    uid.JPEG2000Lossless: "image/jp2",
    uid.JPEG2000: "image/jp2",
    uid.JPEG2000MCLossless: "image/jpx",
    uid.JPEG2000MC: "image/jpx",
    uid.HTJ2KLossless: "image/jphc",
    uid.HTJ2KLosslessRPCL: "image/jphc",
    uid.HTJ2K: "image/jphc",
    "1.2.840.10008.1.2.4.110": "image/jxl",
    "1.2.840.10008.1.2.4.111": "image/jxl",
    "1.2.840.10008.1.2.4.112": "image/jxl",
    uid.MPEG2MPML: "video/mpeg",
    uid.MPEG2MPHL: "video/mpeg",
}
_PARAMETER = re.compile(r';\s*([A-Za-z0-9!#$%&\'*+.^_`|~-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)')
_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+*-]+/[A-Za-z0-9!#$&^_.+*-]+")


def frame_media_type(transfer_syntax: str) -> str:
    """Media type of one frame as it is stored."""
    if transfer_syntax.startswith("1.2.840.10008.1.2.4.10"):
        return _FRAME_TYPES.get(transfer_syntax, "video/mp4")
    return _FRAME_TYPES.get(transfer_syntax, OCTETS)


# What a bulk data part holds where it does not say its transfer syntax (table 10.5.2-1).
_SYNTAX_OF_TYPE: dict[str, str] = {
    "image/dicom-rle": uid.RLELossless,
    "image/jpeg": uid.JPEGBaseline8Bit,
    "image/jls": uid.JPEGLSLossless,
    "image/jp2": uid.JPEG2000Lossless,
    "image/jpx": uid.JPEG2000MCLossless,
    "image/jphc": uid.HTJ2KLossless,
    "image/jxl": "1.2.840.10008.1.2.4.110",
    "video/mpeg": uid.MPEG2MPML,
    "video/mpeg2": uid.MPEG2MPML,
    "video/mp4": uid.MPEG4HP41,
}


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One media type of an Accept or Content-Type header; parameter names in lower case."""

    type: str
    parameters: dict[str, str] = field(default_factory=dict)
    q: float = 1.0

    @property
    def part(self) -> str:
        """The type inside multipart/related, else the type itself."""
        if self.type == MULTIPART:
            return self.parameters.get("type", "*/*").lower()
        return self.type

    @property
    def transfer_syntax(self) -> str | None:
        """The transfer-syntax parameter, also where it hid in the quoted type."""
        return self.parameters.get("transfer-syntax")


def parse_media_type(text: str) -> MediaRange:
    """One media type with its parameters; quoted values are unquoted.

    Raises:
        BadRequest: it has no type/subtype form.
    """
    name, _, rest = text.partition(";")
    kind = name.strip().lower()
    if not _TYPE.fullmatch(kind):
        raise BadRequest("a media type has no type/subtype form")
    parameters: dict[str, str] = {}
    for key, value in _PARAMETER.findall(";" + rest):
        value = value.strip()
        if value.startswith('"'):
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        parameters.setdefault(key.lower(), value)
    inner = parameters.get("type", "")
    if ";" in inner:  # type="application/octet-stream; transfer-syntax=..." is seen in the field
        nested = parse_media_type(inner)
        parameters["type"] = nested.type
        parameters = {**nested.parameters, **parameters}
    return MediaRange(kind, parameters, _quality(parameters.pop("q", "1")))


def transfer_syntax_of(kind: MediaRange) -> str | None:
    """Transfer syntax of a bulk data part; None for plain octets.

    Raises:
        UnsupportedMediaType: pixel data of this type cannot be put into a DICOM file.
    """
    if kind.transfer_syntax is not None:
        return kind.transfer_syntax
    if kind.type == OCTETS:
        return None
    if kind.type not in _SYNTAX_OF_TYPE:
        raise UnsupportedMediaType(
            f"pixel data of type {kind.type} cannot be stored", taken=[OCTETS, *_SYNTAX_OF_TYPE]
        )
    return _SYNTAX_OF_TYPE[kind.type]


def _quality(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 1.0


def parse_accept(header: str) -> list[MediaRange]:
    """The ranges of an Accept header in order of preference; empty means anything."""
    ranges = [parse_media_type(item) for item in _split(header) if item.strip()]
    # A sort is stable: equal q keeps the order of the header.
    return sorted(ranges or [MediaRange("*/*")], key=lambda one: -one.q)


def _split(header: str) -> Iterable[str]:
    """Parts of a comma list; a comma inside quotes does not divide."""
    return re.findall(r'(?:[^,"]|"(?:[^"\\]|\\.)*"|")+', header)


def check_charset(asked: Sequence[str]) -> None:
    """Structured answers are in UTF-8 only; refuse a `charset` that leaves no room for it.

    Raises:
        NotAcceptable: the list names other character sets alone (PS3.18 section 8.8.1).
    """
    named = [parse_weighted(one) for item in asked for one in item.split(",") if one.strip()]
    if named and not any(name in ("utf-8", "utf8", "*") and q > 0 for name, q in named):
        raise NotAcceptable("the answer is in UTF-8", offered=["utf-8"])


def parse_weighted(text: str) -> tuple[str, float]:
    """`gzip;q=0.5` as its name in lower case and its weight."""
    name, _, rest = text.partition(";")
    key, _, value = rest.partition("=")
    return name.strip().lower(), _quality(value) if key.strip().lower() == "q" else 1.0


@dataclass(frozen=True, slots=True)
class Offer:
    """One representation that can be made.

    Attributes:
        part: media type of the content.
        multipart: whether it is wrapped in multipart/related.
        transfer_syntax: what the content is encoded in; None where that means nothing.
        by_default: whether a range without transfer-syntax may have it.
    """

    part: str
    multipart: bool = False
    transfer_syntax: str | None = None
    by_default: bool = True

    @property
    def content_type(self) -> str:
        """Content-Type of the content itself (of each part, if multipart)."""
        if self.transfer_syntax is None:
            return self.part
        return f"{self.part}; transfer-syntax={self.transfer_syntax}"

    @property
    def description(self) -> str:
        """As it would stand in an Accept header."""
        if not self.multipart:
            return self.content_type
        syntax = f"; transfer-syntax={self.transfer_syntax}" if self.transfer_syntax else ""
        return f'{MULTIPART}; type="{self.part}"{syntax}'


def choose(ranges: Sequence[MediaRange], offers: Sequence[Offer]) -> Offer:
    """The best representation: the client's order first, then the order of `offers`.

    Raises:
        NotAcceptable: none fits.
    """
    for one in ranges:
        for offer in offers:
            if one.q > 0 and _fits(one, offer) and not _excluded(ranges, offer):
                return offer
    raise NotAcceptable(
        "none of the accepted media types and transfer syntaxes can be made",
        offered=list(dict.fromkeys(offer.description for offer in offers)),
    )


def _fits(one: MediaRange, offer: Offer) -> bool:
    if one.type == "*/*":
        return True
    if (one.type == MULTIPART) != offer.multipart:
        return False
    wanted = one.part
    wildcard = wanted == "*/*" or (wanted.endswith("/*") and offer.part.startswith(wanted[:-1]))
    if not wildcard and wanted != offer.part:
        return False
    syntax = one.transfer_syntax
    if syntax is None:
        return offer.by_default or offer.transfer_syntax is None
    return syntax in ("*", offer.transfer_syntax) or offer.transfer_syntax is None


def _excluded(ranges: Sequence[MediaRange], offer: Offer) -> bool:
    """A q=0 range that names this very type takes it out."""
    return any(one.q == 0 and one.part == offer.part and _fits(one, offer) for one in ranges)
