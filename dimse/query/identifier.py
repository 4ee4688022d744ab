"""Identifiers of C-FIND: the request as keys, the answer as a data set (PS3.4 C.2.2 and K.2.2)."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any

from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as Items
from pydicom.tag import BaseTag
from pydicom.valuerep import format_number_as_ds

from archive.keys import DicomJson
from archive.worklist_match import Key
from dimse.wire.charset import Terms

CHARACTER_SET, LEVEL, TIMEZONE = "00080005", "00080052", "00080201"
_DEEPEST = 8
_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_DS_CHARS = 16


class BadIdentifier(Exception):
    """An identifier that cannot be answered; `tag` names the element at fault."""

    def __init__(self, comment: str, tag: int | None = None) -> None:
        super().__init__(comment)
        self.comment = comment
        self.tag = tag


def read_keys(dataset: Dataset, depth: int = 0) -> tuple[Key, ...]:
    """The keys of an identifier, without its character set.

    Raises:
        BadIdentifier: an element that cannot be read, or a sequence with several items.
    """
    if depth > _DEEPEST:
        raise BadIdentifier("sequences are nested too deep")
    keys = []
    for tag in sorted(dataset.keys()):
        if tag.element == 0 or tag == int(CHARACTER_SET, 16):
            continue
        try:
            element = dataset[tag]
        # Whatever the library trips over in a value that a peer made up.
        except Exception:  # noqa: BLE001
            raise BadIdentifier("an element of the identifier cannot be read", tag) from None
        keys.append(_key(element, depth))
    return tuple(keys)


def _key(element: DataElement, depth: int) -> Key:
    name, vr = f"{element.tag:08X}", str(element.VR)[:2]
    if vr != "SQ":
        return Key(name, vr, "" if vr in _BINARY else _text(element.value))
    items = list(element.value or ())
    if len(items) > 1:
        raise BadIdentifier("a sequence of keys has more than one item", element.tag)
    return Key(name, vr, keys=read_keys(items[0], depth + 1) if items else ())


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, MultiValue | list | tuple):
        return "\\".join(_text(one) for one in value)
    if isinstance(value, BaseTag):
        return f"{value:08X}"
    # Padding and NULs at the ends are not significant.
    return str(value).strip(" \0")


def conditions(keys: Sequence[Key], path: str = "") -> list[tuple[str, str]]:
    """Keys with a value, as (dotted tag path, value)."""
    found = []
    for key in keys:
        here = f"{path}.{key.tag}" if path else key.tag
        if key.vr == "SQ":
            found.extend(conditions(key.keys, here))
        elif not key.is_universal:
            found.append((here, key.value))
    return found


def pick(keys: Iterable[Key], document: DicomJson) -> DicomJson:
    """Of a document what the keys ask for; what it lacks comes empty."""
    picked: DicomJson = {}
    for key in keys:
        found = document.get(key.tag)
        if found is None:
            picked[key.tag] = {"vr": key.vr}
        elif key.keys and found.get("vr") == "SQ":
            items = [pick(key.keys, item or {}) for item in found.get("Value", ())]
            picked[key.tag] = {"vr": "SQ", "Value": items}
        else:
            picked[key.tag] = found
    return picked


def to_dataset(document: DicomJson, terms: Terms) -> Dataset:
    """A DICOM JSON document as a data set that is written in a character set."""
    dataset = _dataset(document)
    if terms:
        dataset.SpecificCharacterSet = terms[0] if len(terms) == 1 else list(terms)
    return dataset


def _dataset(document: DicomJson) -> Dataset:
    dataset = Dataset()
    for name in sorted(document):
        # A nested item is written in the character set of the whole.
        if name == CHARACTER_SET:
            continue
        element = document[name]
        vr = element.get("vr", "UN")
        # Kept as received, valid or not: the asker gets what is stored.
        dataset.add(
            DataElement(int(name, 16), vr, _value(vr, element), validation_mode=config.IGNORE)
        )
    return dataset


def _value(vr: str, element: dict[str, Any]) -> Any:
    values = element.get("Value", [])
    if vr == "SQ":
        return Items([_dataset(item or {}) for item in values])
    if vr in _BINARY:
        return base64.b64decode(element.get("InlineBinary", ""))
    found = [_single(vr, value) for value in values]
    if not found:
        return "" if vr == "PN" else None
    return found[0] if len(found) == 1 else found


def _single(vr: str, value: Any) -> Any:
    if value is None:
        return ""
    if vr == "PN":
        name = value if isinstance(value, dict) else {"Alphabetic": str(value)}
        groups = (str(name.get(group, "")) for group in ("Alphabetic", "Ideographic", "Phonetic"))
        return "=".join(groups).rstrip("=")
    if vr == "AT":
        return int(str(value), 16)
    if vr == "DS":
        text = str(value)
        return text if len(text) <= _DS_CHARS else format_number_as_ds(float(value))
    if vr == "IS":
        return str(value)
    return value
