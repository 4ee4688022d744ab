"""The archive's nouns: what is stored, where it came from, what changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

DicomJson = dict[str, Any]
"""One data set in the DICOM JSON model (PS3.18 annex F): tag -> {"vr", "Value" | ...}."""


@dataclass(frozen=True, slots=True, order=True)
class InstanceKey:
    """The three UIDs that place one SOP instance in its series and study.

    UIDs are kept as received: PS3.5 section 9 gives them no inner meaning.
    """

    study: str
    series: str
    instance: str


@dataclass(frozen=True, slots=True)
class Source:
    """Through which door and from whom an instance came."""

    kind: Literal["dimse", "stow", "local"]
    calling_ae: str | None = None
    address: str | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """The answer to a store: "duplicate" means that the same content was there already."""

    key: InstanceKey
    outcome: Literal["stored", "duplicate"]
    sop_class: str


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """One stored instance and how its bytes are to be understood.

    Attributes:
        size: Bytes of the whole Part 10 file.
        sha256: Digest of the data set's bytes after the file meta information, as hex.
        frames: Number of frames; 0 if there is no pixel data.
        path: The file as received.
        head_length: Bytes before the data set; None if stored before this was kept.
        head_sha256: Digest of those bytes, as hex; None likewise.
    """

    key: InstanceKey
    sop_class: str
    transfer_syntax: str
    size: int
    sha256: str
    frames: int
    path: Path
    head_length: int | None = None
    head_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a query's matches: `total` is known where asked for or where this is the end."""

    items: list[DicomJson]
    has_more: bool
    total: int | None


@dataclass(frozen=True, slots=True)
class QueryTag:
    """An attribute that is kept for queries because a site wants it.

    Attributes:
        tag: Eight hexadecimal digits, upper case.
        level: At which level its value is returned.
        done, total: Changes of the feed that were looked through, and those that must have been
            before the tag can be matched.
    """

    tag: str
    vr: str
    level: Literal["study", "series", "instance"]
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class JsonPage:
    """A page whose items are ready JSON texts."""

    items: list[str]
    has_more: bool
    total: int | None


@dataclass(frozen=True, slots=True)
class SeriesMetadata:
    """DICOM JSON array of a series, gzip-compressed, with its strong ETag (quoted)."""

    etag: str
    gzip: bytes


@dataclass(frozen=True, slots=True)
class BulkData:
    """One bulk value; `chunks` reads it in pieces and closes the file at its end."""

    media_type: str
    size: int
    chunks: Iterator[bytes]
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the feed. A later commit always has a larger sequence number.

    Attributes:
        reason: Why an instance was deleted, as its deleter said; None for a store.
    """

    sequence: int
    kind: Literal["instance_stored", "instance_deleted"]
    key: InstanceKey
    at: datetime
    source: Source
    reason: str | None = None
