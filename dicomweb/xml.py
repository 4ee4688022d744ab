"""The Native DICOM Model (PS3.19 annex A.1), written from DICOM JSON and read into it.

JSON is what the archive keeps ready; XML is the same data set in other clothes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

from pydicom.datadict import keyword_for_tag

from archive.keys import DicomJson
from dicomweb.errors import BadRequest

DICOM_XML = "application/dicom+xml"
MAX_DEPTH = 64
MAX_GAP = 1000
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_COMPONENTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_TAG = re.compile(r"[0-9A-Fa-f]{8}", re.ASCII)
_VR = re.compile(r"[A-Z]{2}", re.ASCII)
# XML 1.0 has no way at all to write these; DICOM text may hold ESC, and a hostile one anything.
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_INTEGERS = frozenset({"IS", "SL", "SS", "SV", "UL", "US", "UV"})
_DECIMALS = frozenset({"DS", "FD", "FL"})
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<NativeDicomModel xml:space="preserve">'


def to_native(document: DicomJson, base: str = "") -> bytes:
    """One data set as an XML document in UTF-8.

    Args:
        document: The data set in DICOM JSON.
        base: Put before each BulkDataURI.
    """
    body = "".join(_attributes(document, base))
    return f"{_HEAD}{body}</NativeDicomModel>\n".encode()


def _attributes(level: DicomJson, base: str) -> Iterator[str]:
    creators = {
        name[:4] + name[6:]: element["Value"][0]
        for name, element in level.items()
        if _is_creator(name) and element.get("Value")
    }
    for name in sorted(level):
        element = level[name]
        creator = creators.get(name[:6]) if _is_private(name) else None
        yield f"<DicomAttribute {_heading(name, element['vr'], creator)}>"
        yield from _content(element, base)
        yield "</DicomAttribute>"


def _is_private(name: str) -> bool:
    return int(name[:4], 16) % 2 == 1


def _is_creator(name: str) -> bool:
    return _is_private(name) and name[4:6] == "00" and name[6] != "0"


def _heading(name: str, vr: str, creator: str | None) -> str:
    """Attributes of the element; of a private tag the block number is left out (table A.1.5-2)."""
    if creator is not None:
        return f'tag="{name[:4]}00{name[6:]}" vr="{vr}" privateCreator={quoteattr(_text(creator))}'
    keyword = keyword_for_tag(int(name, 16))
    return f'tag="{name}" vr="{vr}"' + (f' keyword="{keyword}"' if keyword else "")


def _content(element: dict[str, Any], base: str) -> Iterator[str]:
    if "BulkDataURI" in element:
        yield f"<BulkData uri={quoteattr(base + element['BulkDataURI'])}/>"
    elif "InlineBinary" in element:
        yield f"<InlineBinary>{element['InlineBinary']}</InlineBinary>"
    for number, value in enumerate(element.get("Value", ()), start=1):
        if element["vr"] == "SQ":
            yield f'<Item number="{number}">'
            yield from _attributes(value, base)
            yield "</Item>"
        elif element["vr"] == "PN":
            yield f'<PersonName number="{number}">{_name(value)}</PersonName>'
        elif value is not None:
            yield f'<Value number="{number}">{escape(_text(value))}</Value>'


def _name(value: dict[str, str] | None) -> str:
    out = []
    for group in _GROUPS:
        if text := (value or {}).get(group):
            parts = zip(_COMPONENTS, text.split("^"), strict=False)
            inner = "".join(f"<{tag}>{escape(_text(part))}</{tag}>" for tag, part in parts if part)
            out.append(f"<{group}>{inner}</{group}>")
    return "".join(out)


def _text(value: object) -> str:
    return _UNWRITABLE.sub("\ufffd", str(value))


def from_native(data: bytes) -> DicomJson:
    """One XML document as DICOM JSON.

    Raises:
        BadRequest: it is not well-formed UTF-8 XML without a document type, or not the model.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadRequest("XML metadata must be in UTF-8") from None
    # Entities are only declared in a document type: without one there is nothing to expand.
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise BadRequest("XML metadata must not have a document type")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - see above
    except ElementTree.ParseError:
        raise BadRequest("the XML metadata is not well-formed") from None
    except ValueError:  # an encoding declared that is not the one decoded
        raise BadRequest("XML metadata must be in UTF-8") from None
    if _local(root) != "NativeDicomModel":
        raise BadRequest("the XML metadata is not a NativeDicomModel")
    return _read_level(root, 0)


def _local(node: ElementTree.Element) -> str:
    return node.tag.rpartition("}")[2]


def _read_level(node: ElementTree.Element, depth: int) -> DicomJson:
    if depth > MAX_DEPTH:
        raise BadRequest(f"sequences are nested deeper than {MAX_DEPTH}")
    level: DicomJson = {}
    for child in node:
        if _local(child) != "DicomAttribute":
            raise BadRequest("the XML metadata holds something else than a DicomAttribute")
        name, vr = child.get("tag", ""), child.get("vr", "UN")
        if not _TAG.fullmatch(name) or not _VR.fullmatch(vr):
            raise BadRequest("a DicomAttribute has no valid tag and vr")
        name = name.upper()
        creator = child.get("privateCreator")
        if creator is not None and _is_private(name) and name[4:6] == "00":
            name = f"{name[:4]}{_block(level, name[:4], creator)}{name[6:]}"
        level[name] = _read_element(child, vr, depth)
    return level


def _block(level: DicomJson, group: str, creator: str) -> str:
    """The block that the creator has reserved, or the next free one reserved for it."""
    for number in range(0x10, 0x100):
        name = f"{group}00{number:02X}"
        if name not in level:
            level[name] = {"vr": "LO", "Value": [creator]}
        if level[name].get("Value") == [creator]:
            return f"{number:02X}"
    raise BadRequest("a private group has no free block")


def _read_element(node: ElementTree.Element, vr: str, depth: int) -> dict[str, Any]:
    element: dict[str, Any] = {"vr": vr}
    values: list[Any] = []
    for child in sorted(node, key=_number):
        kind = _local(child)
        if kind == "BulkData":
            element["BulkDataURI"] = child.get("uri") or child.get("uuid") or ""
            continue
        if kind == "InlineBinary":
            element["InlineBinary"] = (child.text or "").strip()
            continue
        gap = min(_number(child) - 1 - len(values), MAX_GAP)
        values += [None] * gap  # values that are not there have no element of their own
        if kind == "Item":
            values.append(_read_level(child, depth + 1))
        elif kind == "PersonName":
            values.append(_read_name(child))
        else:
            values.append(_read_value(child.text or "", vr))
    if values:
        element["Value"] = values
    return element


def _number(node: ElementTree.Element) -> int:
    text = node.get("number", "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0


def _read_name(node: ElementTree.Element) -> dict[str, str]:
    name = {}
    for group in node:
        parts = {_local(part): part.text or "" for part in group}
        joined = "^".join(parts.get(component, "") for component in _COMPONENTS).rstrip("^")
        if joined:
            name[_local(group)] = joined
    return name


def _read_value(text: str, vr: str) -> str | int | float | None:
    if not text:
        return None
    try:
        if vr in _INTEGERS:
            return int(text)
        return float(text) if vr in _DECIMALS else text
    except ValueError:
        raise BadRequest(f"a value of VR {vr} is not a number") from None
