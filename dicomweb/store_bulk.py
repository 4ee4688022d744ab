"""STOW-RS of metadata with bulk data (PS3.18 section 10.5.1.4): Part 10 files made of the two."""

from __future__ import annotations

import io
from typing import Any

import orjson
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID

from archive import ArchiveError, Incoming, InvalidUid, MissingAttribute, NotDicom
from archive.keys import DicomJson, InstanceKey
from dicomweb.bulk_content import Bulk, BulkContent
from dicomweb.bulk_file import BulkFile
from dicomweb.config import DicomwebConfig
from dicomweb.door import is_uid
from dicomweb.errors import BadRequest, PayloadTooLarge
from dicomweb.media import DICOM_JSON, EXPLICIT_LE, OCTETS, parse_media_type
from dicomweb.multipart import Event, PartBegin, PartData
from dicomweb.xml import DICOM_XML, from_native


class BulkIntake:
    """Collects the parts of one request; bulk data wait in a file."""

    def __init__(self, config: DicomwebConfig) -> None:
        self._config = config
        self._file = BulkFile()
        self._bulk: dict[str, Bulk] = {}
        self._document: bytearray | None = None
        self._kind = ""
        self._current: Bulk | None = None
        self._begin_at = 0
        self.documents: list[DicomJson] = []

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def take(self, event: Event) -> None:
        """One event of the multipart stream."""
        if isinstance(event, PartBegin):
            self._begin(event.headers)
        elif isinstance(event, PartData):
            self._data(event.data)
        else:
            self._end()

    def _begin(self, headers: dict[str, str]) -> None:
        """A part starts: a metadata document, or bulk data with its location."""
        kind = parse_media_type(headers.get("content-type", OCTETS))
        location = headers.get("content-location", "")
        if kind.type in (DICOM_JSON, DICOM_XML, "application/json"):
            self._document, self._kind = bytearray(), kind.type
            return
        if not location:
            raise BadRequest("a bulk data part has no Content-Location")
        self._current = self._bulk.setdefault(location, Bulk(kind))
        self._begin_at = self._file.size

    def _data(self, data: bytes) -> None:
        """The next bytes of the part."""
        if self._document is not None:
            self._document += data
            if len(self._document) > self._config.max_metadata_bytes:
                raise PayloadTooLarge("the metadata are larger than the limit")
            return
        if self._file.size + len(data) > self._config.max_bulk_bytes:
            raise PayloadTooLarge("the bulk data of the request are larger than the limit")
        self._file.write(data)

    def _end(self) -> None:
        """The part is complete."""
        document, self._document = self._document, None
        if document is None:
            assert self._current is not None  # noqa: S101 - begin has made one of the two
            self._current.parts.append((self._begin_at, self._file.size - self._begin_at))
            return
        if self._kind == DICOM_XML:
            self.documents.append(from_native(bytes(document)))
        else:
            self.documents += _documents(bytes(document))
        if len(self.documents) > self._config.max_parts:
            raise PayloadTooLarge(f"more than {self._config.max_parts} instances")

    def write(self, document: DicomJson, incoming: Incoming) -> None:
        """One instance as a Part 10 file into `incoming`.

        Raises:
            BadRequest: a value is not of its VR, or bulk data that it names did not come.
            ArchiveError: a UID is missing or not valid, or the disk refused the file.
        """
        _check_uids(document)
        content = BulkContent(self._bulk, self._file)
        level = content.level(document, 0)
        try:
            data_set = Dataset.from_json(level)
            data_set.file_meta = FileMetaDataset()
            data_set.file_meta.TransferSyntaxUID = UID(content.syntax or EXPLICIT_LE)
            # What JSON and XML carry is text: it is written in UTF-8.
            data_set.SpecificCharacterSet = "ISO_IR 192"
            content.fill(data_set)
            dcmwrite(_Sink(incoming), data_set, enforce_file_format=True)
        except ArchiveError:
            raise
        except Exception as error:  # pydicom raises nearly anything on values of a wrong form
            raise NotDicom("the metadata cannot be encoded", key_of(document)) from error


class _Sink(io.RawIOBase):
    """An incoming file as pydicom writes to one: forward only."""

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._incoming.size

    def write(self, data: Any) -> int:
        self._incoming.write(bytes(data))
        return len(data)


def _documents(data: bytes) -> list[DicomJson]:
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise BadRequest("the metadata are not JSON") from None
    found = found if isinstance(found, list) else [found]
    if not all(isinstance(one, dict) for one in found):
        raise BadRequest("the metadata are an array of DICOM JSON objects")
    return found


def _uids(document: DicomJson) -> list[str]:
    names = ("0020000D", "0020000E", "00080018", "00080016")
    found = [document.get(name) for name in names]
    values = [one.get("Value") if isinstance(one, dict) else None for one in found]
    return [str(v[0]) if isinstance(v, list) and v else "" for v in values]


def key_of(document: DicomJson) -> InstanceKey | None:
    """The instance that the metadata name, if all three UIDs are there."""
    study, series, instance, _ = _uids(document)
    return InstanceKey(study, series, instance) if study and series and instance else None


def _check_uids(document: DicomJson) -> None:
    uids = _uids(document)
    if not all(uids):
        raise MissingAttribute("the metadata lack the study, series, SOP instance or class UID")
    if not all(map(is_uid, uids)):
        raise InvalidUid("a UID of the metadata is not valid")
