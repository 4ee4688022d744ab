"""What the index keeps of one instance, read from its file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
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
from archive.errors import IdentityMismatch, InvalidUid, MissingAttribute, WrongStudy
from archive.incoming import Sums
from archive.keys import DicomJson, InstanceKey
from archive.metadata import JsonWriter
from archive.names import folded_groups
from archive.part10 import Part10
from archive.pixels import frame_index

_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")


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
    head_length: int
    head_sha256: str


def is_valid_uid(text: str) -> bool:
    """PS3.5 section 9.1, for the whole text: pydicom's own check lets a line end through."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def read_header(part10: Part10, size: int, sums: Sums) -> Header:
    """Check a parsed file and take what the index keeps; see `archive.errors` for refusals."""
    key, sop_class = _identity(part10)
    frames, index = frame_index(part10)
    study, series, instance = read_levels(part10)
    return Header(
        key=key,
        sop_class=sop_class,
        transfer_syntax=part10.transfer_syntax,
        size=size,
        sha256=sums.data,
        frames=frames,
        frame_table=index.pack() if index else None,
        study=study,
        series=series,
        instance=instance,
        head_length=sums.head_length,
        head_sha256=sums.head,
    )


def read_levels(part10: Part10) -> tuple[DicomJson, DicomJson, DicomJson]:
    """What the index keeps of the data set at study, series and instance level."""
    writer = JsonWriter(part10.buffer, lambda _: "")
    return (
        writer.data_set(part10.elements, STUDY_TAGS),
        writer.data_set(part10.elements, SERIES_TAGS),
        writer.data_set(part10.elements, INSTANCE_TAGS),
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


def check_claims(
    header: Header, studies: frozenset[str] | None, announced: tuple[str, str] | None
) -> None:
    """Raise WrongStudy or IdentityMismatch where an instance is not what its sender may send."""
    if studies is not None and header.key.study not in studies:
        raise WrongStudy("the instance belongs to a study outside the permitted ones")
    if announced is not None and announced != (header.sop_class, header.key.instance):
        raise IdentityMismatch("the data set names another SOP class or instance")


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
