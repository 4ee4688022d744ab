"""Reading what is stored: records, metadata, frames and bulk values."""

from __future__ import annotations

import gzip
import hashlib
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, LiteralString

import orjson
import psycopg

from archive.config import ArchiveConfig
from archive.errors import InstanceNotFound
from archive.integrity import open_parsed
from archive.keys import BulkData, DicomJson, InstanceKey, InstanceRecord, SeriesMetadata
from archive.metadata import WORD_BYTES, JsonWriter, swapped
from archive.part10 import DEFLATED, EXPLICIT_BIG, Element, Level, Part10

_CHUNK = 1024 * 1024
RECORD: LiteralString = (
    "select instance.study_uid, instance.series_uid, sop_uid, sop_class, transfer_syntax, size,"
    " sha256, frames, path, head_length, head_sha256, instance.number from archive.instance"
)
_ENCAPSULATED_DOCUMENT, _DOCUMENT_TYPE = "00420011", 0x00420012


def record(
    connection: psycopg.Connection, config: ArchiveConfig, key: InstanceKey
) -> InstanceRecord:
    """One instance; raises InstanceNotFound unless all three UIDs are right."""
    rows = connection.execute(
        RECORD + " where study_uid = %s and series_uid = %s and sop_uid = %s",
        [key.study, key.series, key.instance],
    ).fetchall()
    if not rows:
        raise InstanceNotFound(f"{key.instance} is not stored there", key)
    return record_of(config, rows[0])


def records(
    connection: psycopg.Connection, config: ArchiveConfig, study: str, series: str | None
) -> list[InstanceRecord]:
    """Instances of a study or of one series in it, in series and instance order."""
    rows = connection.execute(
        RECORD + " join archive.series using (study_uid, series_uid)"
        " where study_uid = %s and (%s::text is null or series_uid = %s)"
        " order by series.number, series_uid, instance.number, sop_uid",
        [study, series, series],
    ).fetchall()
    if not rows:
        raise InstanceNotFound("no such study or series is stored")
    return [record_of(config, row) for row in rows]


def record_of(config: ArchiveConfig, row: tuple[Any, ...]) -> InstanceRecord:
    """The record of a row of `RECORD`."""
    return InstanceRecord(
        key=InstanceKey(*row[:3]),
        sop_class=row[3],
        transfer_syntax=row[4],
        size=row[5],
        sha256=row[6],
        frames=row[7],
        path=config.root / row[8],
        head_length=row[9],
        head_sha256=row[10],
    )


def instance_metadata(config: ArchiveConfig, found: InstanceRecord) -> DicomJson:
    """Every attribute of the data set; BulkDataURI relative to the series."""
    base = f"instances/{found.key.instance}/bulkdata/"
    with open_parsed(found, config) as part10:
        return JsonWriter(part10.buffer, lambda path: base + path).data_set(part10.elements)


def kept_metadata(connection: psycopg.Connection, study: str, series: str) -> SeriesMetadata | None:
    """The metadata made earlier, unless the series has changed since."""
    row = connection.execute(
        "select m.etag, m.document from archive.series_metadata m"
        " join archive.series s using (study_uid, series_uid)"
        " where study_uid = %s and series_uid = %s and m.version = s.last_change",
        [study, series],
    ).fetchone()
    return SeriesMetadata(row[0], row[1]) if row else None


def series_version(connection: psycopg.Connection, study: str, series: str) -> int:
    """Sequence number of the latest change of a series; 0 if there is no such series."""
    row = connection.execute(
        "select last_change from archive.series where study_uid = %s and series_uid = %s",
        [study, series],
    ).fetchone()
    return int(row[0]) if row else 0


def build_metadata(config: ArchiveConfig, found: list[InstanceRecord]) -> SeriesMetadata:
    """The DICOM JSON array of a series. The same instances give the same bytes and ETag."""
    array = orjson.dumps([instance_metadata(config, instance) for instance in found])
    digest = hashlib.sha256(array).hexdigest()
    return SeriesMetadata(f'"{digest[:32]}"', gzip.compress(array, compresslevel=6, mtime=0))


def keep_metadata(
    connection: psycopg.Connection, study: str, series: str, version: int, made: SeriesMetadata
) -> None:
    """Keep metadata made at `version` of the series, unless it has changed since."""
    connection.execute(
        "insert into archive.series_metadata (study_uid, series_uid, version, etag, document)"
        " select study_uid, series_uid, last_change, %s, %s from archive.series"
        " where study_uid = %s and series_uid = %s and last_change = %s for key share"
        " on conflict (study_uid, series_uid) do update set version = excluded.version,"
        " etag = excluded.etag, document = excluded.document"
        " where series_metadata.version < excluded.version",
        [made.etag, made.gzip, study, series, version],
    )


def bulkdata(config: ArchiveConfig, found: InstanceRecord, path: str) -> BulkData:
    """The value at `path` (tags and item numbers as in its BulkDataURI), little endian.

    Encapsulated pixel data are given as their fragments joined, without item headers.
    """
    with open_parsed(found, config) as part10:
        element = _find(part10.elements, path, found.key)
        media_type = "application/octet-stream"
        if path == _ENCAPSULATED_DOCUMENT:
            media_type = _document_type(part10) or media_type
        pieces = element.fragments
        pieces = [(element.offset, element.length)] if pieces is None else pieces[1:]
        size = sum(length for _, length in pieces)
        word = 1 if element.little else WORD_BYTES.get(element.vr, 1)
        if isinstance(part10.buffer, mmap.mmap):
            chunks = _from_file(found.path, pieces, word)
        else:
            chunks = iter([part10.buffer[offset : offset + n] for offset, n in pieces])
    syntax = found.transfer_syntax
    if element.fragments is None and (syntax == EXPLICIT_BIG or syntax in DEFLATED):
        syntax = "1.2.840.10008.1.2.1"
    return BulkData(media_type, size, chunks, syntax)


def _from_file(path: Path, pieces: list[tuple[int, int]], word: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        for offset, length in pieces:
            file.seek(offset)
            while length:
                chunk = file.read(min(length, _CHUNK))
                if not chunk:
                    return
                length -= len(chunk)
                yield swapped(chunk, word)


def _find(elements: Level, path: str, key: InstanceKey) -> Element:
    """The element with a value of its own that the path leads to."""
    parts = path.split("/")
    try:
        for tag, item in zip(parts[:-1:2], parts[1::2], strict=True):
            items = elements[int(tag, 16)].items or []
            elements = items[int(item) - 1] if int(item) > 0 else {}
        element = elements[int(parts[-1], 16)]
    except (ValueError, KeyError, IndexError):
        element = None
    if element is None or element.items is not None:
        raise InstanceNotFound("the instance has no bulk value there", key)
    return element


def _document_type(part10: Part10) -> str:
    """MIMETypeOfEncapsulatedDocument, if it looks like one."""
    element = part10.elements.get(_DOCUMENT_TYPE)
    if element is None:
        return ""
    raw = bytes(part10.buffer[element.offset : element.offset + element.length])
    text = raw.decode("ascii", "replace").strip(" \0")
    kind, slash, rest = text.partition("/")
    return text if slash and kind.isalpha() and rest.replace("-", "").isalnum() else ""
