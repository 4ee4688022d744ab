"""What the index keeps of one instance, read from its file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archive.attributes import (
    INSTANCE_NUMBER,
    INSTANCE_TAGS,
    MODALITY,
    SERIES_NUMBER,
    SERIES_TAGS,
    SERIES_UID,
    SOP_CLASS,
    SOP_UID,
    STUDY_TAGS,
    STUDY_UID,
    json_name,
)
from archive.config import ArchiveConfig
from archive.errors import InvalidUid, MissingAttribute
from archive.keys import DicomJson, InstanceKey
from archive.metadata import JsonWriter
from archive.names import folded_groups
from archive.part10 import Part10, open_part10
from archive.pixels import frame_index

_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")
_CHUNK = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Header:
    """One instance's place, identity and ready JSON of the three levels."""

    key: InstanceKey
    sop_class: str
    transfer_syntax: str
    size: int
    sha256: str
    frames: int
    frame_table: bytes | None
    study: DicomJson
    series: DicomJson
    instance: DicomJson


def is_valid_uid(text: str) -> bool:
    """PS3.5 section 9.1, for the whole text: pydicom's own check lets a line end through."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def read_header(path: Path, config: ArchiveConfig) -> Header:
    """Read and check the file at `path`; see `archive.errors` for what it refuses."""
    with open_part10(path, config) as part10:
        key, sop_class = _identity(part10)
        frames, index = frame_index(part10)
        writer = JsonWriter(part10.buffer, lambda _: "")
        return Header(
            key=key,
            sop_class=sop_class,
            transfer_syntax=part10.transfer_syntax,
            size=path.stat().st_size,
            sha256=_digest(path, part10.data_set_start),
            frames=frames,
            frame_table=index.pack() if index else None,
            study=writer.data_set(part10.elements, STUDY_TAGS),
            series=writer.data_set(part10.elements, SERIES_TAGS),
            instance=writer.data_set(part10.elements, INSTANCE_TAGS),
        )


def _identity(part10: Part10) -> tuple[InstanceKey, str]:
    """The three UIDs and the SOP class, each valid: they become parts of a path."""
    found = []
    for tag, name in (
        (STUDY_UID, "StudyInstanceUID"),
        (SERIES_UID, "SeriesInstanceUID"),
        (SOP_UID, "SOPInstanceUID"),
        (SOP_CLASS, "SOPClassUID"),
    ):
        element = part10.elements.get(tag)
        raw = part10.buffer[element.offset : element.offset + element.length] if element else b""
        text = bytes(raw).decode("latin-1").rstrip("\0 ")
        if not text:
            raise MissingAttribute(f"{name} is missing")
        if not is_valid_uid(text):
            raise InvalidUid(f"{name} is not a valid UID")
        found.append(text)
    if not is_valid_uid(part10.transfer_syntax):
        raise InvalidUid("TransferSyntaxUID is not a valid UID")
    study, series, instance, sop_class = found
    return InstanceKey(study, series, instance), sop_class


def _digest(path: Path, start: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(start)
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def first(document: DicomJson, tag: int) -> Any:
    """First value of an attribute, or None."""
    values = document.get(json_name(tag), {}).get("Value")
    return values[0] if values else None


def text(document: DicomJson, tag: int) -> str:
    """First value as text; empty if there is none."""
    value = first(document, tag)
    return "" if value is None else str(value)


def number(document: DicomJson, tag: int) -> int | None:
    """First value as a number that PostgreSQL's bigint holds, or None."""
    value = first(document, tag)
    return int(value) if isinstance(value, int | float) and abs(value) < 2**62 else None


def modality(header: Header) -> str:
    """Modality of the instance's series."""
    return text(header.series, MODALITY)


def series_number(header: Header) -> int | None:
    """SeriesNumber, for the order of series."""
    return number(header.series, SERIES_NUMBER)


def instance_number(header: Header) -> int | None:
    """InstanceNumber, for the order of instances."""
    return number(header.instance, INSTANCE_NUMBER)


def folded_names(documents: Iterable[DicomJson]) -> dict[str, list[list[str]]]:
    """Folded groups of each person name of the documents, by attribute."""
    names: dict[str, list[list[str]]] = {}
    for document in documents:
        for name, element in document.items():
            if element["vr"] == "PN" and element.get("Value"):
                names[name] = [folded_groups(value) for value in element["Value"] if value]
    return names
