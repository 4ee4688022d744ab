"""STOW-RS (PS3.18 section 10.5): instances streamed to the archive, one result for each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Future
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup
from pydicom import dcmread
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from archive import (
    ArchiveError,
    ContentConflict,
    Incoming,
    NotDicom,
    PlacementConflict,
    Source,
    Stored,
)
from archive.keys import DicomJson
from dicomweb.body import body_of
from dicomweb.door import Visit, in_thread
from dicomweb.errors import BadRequest, DicomwebError, PayloadTooLarge, UnsupportedMediaType
from dicomweb.media import (
    DICOM,
    DICOM_JSON,
    MULTIPART,
    OCTETS,
    MediaRange,
    check_charset,
    choose,
    parse_media_type,
)
from dicomweb.multipart import Event, MultipartParser, PartBegin, PartData, PartEnd
from dicomweb.store_answer import FORMS, Failure, Outcome, answer
from dicomweb.store_bulk import BulkIntake, key_of
from dicomweb.store_judge import StoreJudge, hidden
from dicomweb.xml import DICOM_XML

# Bytes that are collected before one hop to a thread: a hop costs about as much as writing 64 KiB.
WRITE_BYTES = 1024 * 1024
# Instances of one request that wait for the archive's group commit at the same time.
WAITING = 64
# Bytes of the preamble and the four characters behind it.
SHORTEST = 132
_METADATA = (DICOM_JSON, DICOM_XML)


@dataclass
class _Upload:
    """The instance that is being received; `failure` is set when its bytes are only drained."""

    number: int
    incoming: Incoming | None
    pending: bytearray
    size: int = 0
    failure: ArchiveError | DicomwebError | None = None


class _Intake:
    """Receives the parts of one request and stores them, several at a time."""

    def __init__(self, visit: Visit, group: TaskGroup) -> None:
        self._visit = visit
        self._group = group
        self._slots = anyio.Semaphore(visit.door.config.store_concurrency)
        self._waiting = anyio.Semaphore(WAITING)
        self._current: _Upload | None = None
        self._count = 0
        self._outcomes: dict[int, Outcome] = {}
        caller = visit.caller
        self._source = Source("stow", address=caller.address, subject=caller.subject)
        own = frozenset({visit.study}) if visit.study is not None else None
        self._studies = own if own is not None else caller.studies
        self._judge = StoreJudge(visit) if visit.is_limited("c") else None

    @property
    def outcomes(self) -> list[Outcome]:
        """What became of each instance, in the order of the request."""
        return [self._outcomes[number] for number in sorted(self._outcomes)]

    async def take(self, event: Event) -> None:
        """One event of the multipart stream."""
        if isinstance(event, PartBegin):
            await self._begin(event.headers.get("content-type", DICOM))
        elif isinstance(event, PartData):
            await self._data(event.data)
        else:
            await self._end()

    async def make(self, bulk: BulkIntake, document: DicomJson) -> None:
        """One instance of metadata and bulk data."""
        upload = _Upload(self._count, None, bytearray())
        self._count += 1
        await self._open(upload)
        if upload.incoming is not None:
            try:
                await in_thread(bulk.write, document, upload.incoming)
            except (ArchiveError, DicomwebError) as error:
                upload.failure = _named(error, document)
        await self._store_soon(upload)

    async def abandon(self) -> None:
        """The request breaks off: forget the instance that is not complete."""
        if self._current is not None and self._current.incoming is not None:
            await in_thread(self._current.incoming.__exit__, None, None, None)
        self._current = None

    async def _begin(self, content_type: str) -> None:
        self._current = upload = _Upload(self._count, None, bytearray())
        self._count += 1
        kind = parse_media_type(content_type).type
        if kind not in (DICOM, OCTETS):
            upload.failure = UnsupportedMediaType(f"a part of type {kind} cannot be stored")

    async def _open(self, upload: _Upload) -> None:
        try:
            upload.incoming = (await in_thread(self._visit.archive.receive)).__enter__()
        except ArchiveError as error:
            upload.failure = error

    async def _data(self, data: bytes) -> None:
        upload = self._current
        assert upload is not None  # noqa: S101 - the parser gives data only inside a part
        upload.size += len(data)
        if upload.size > self._visit.door.config.max_part_bytes:
            raise PayloadTooLarge("an instance is larger than the limit")
        if upload.failure is None:
            upload.pending += data
            if len(upload.pending) >= WRITE_BYTES:
                await self._write(upload)

    async def _write(self, upload: _Upload) -> None:
        data, upload.pending = upload.pending, bytearray()
        if upload.incoming is None:
            await self._open(upload)
        if upload.incoming is None:
            return
        try:
            await in_thread(upload.incoming.write, data)
        except ArchiveError as error:
            upload.failure = error

    async def _end(self) -> None:
        upload = self._current
        assert upload is not None  # noqa: S101 - the parser ends only what began
        if upload.failure is None and upload.size < SHORTEST:
            # No file is made for it: a request may hold very many such parts.
            upload.failure = NotDicom("a part is too short for a DICOM file")
        self._current = None
        if upload.incoming is None and upload.failure is not None:
            self._outcomes[upload.number] = Failure(upload.failure)
            return
        await self._store_soon(upload)

    async def _store_soon(self, upload: _Upload) -> None:
        await self._waiting.acquire()
        await self._slots.acquire()
        self._group.start_soon(self._finish, upload)

    async def _finish(self, upload: _Upload) -> None:
        try:
            self._outcomes[upload.number] = await self._store(upload)
        finally:
            self._waiting.release()

    async def _store(self, upload: _Upload) -> Outcome:
        """Store the instance; the temporary file goes away in any case."""
        try:
            try:
                future = await in_thread(self._submit, upload)
            finally:
                self._slots.release()
            stored: Stored = await asyncio.wrap_future(future)
            return stored
        except PlacementConflict as error:
            if self._judge is not None:  # the place that the UID has may not be the caller's
                return Failure(hidden(error))
            return Failure(error, await in_thread(self._sop_class, upload.incoming, error))
        except (ArchiveError, DicomwebError) as error:
            return Failure(error, await in_thread(self._sop_class, upload.incoming, error))
        finally:
            if upload.incoming is not None:
                upload.incoming.__exit__(None, None, None)

    def _submit(self, upload: _Upload) -> Future[Stored]:
        """In one hop to a thread, what a small instance needs: a file, its bytes, its header."""
        if upload.failure is not None:
            raise upload.failure
        if upload.incoming is None:
            upload.incoming = self._visit.archive.receive().__enter__()
        if upload.pending:
            upload.incoming.write(upload.pending)
            upload.pending = bytearray()
        return self._visit.archive.submit(
            upload.incoming, self._source, studies=self._studies, judge=self._judge
        )

    def _sop_class(
        self, incoming: Incoming | None, error: ArchiveError | DicomwebError
    ) -> str | None:
        """SOP class of a refused instance whose UIDs could be read."""
        if incoming is None or not isinstance(error, ArchiveError) or error.key is None:
            return None
        if incoming.path.exists():
            return _class_in(incoming)
        if not isinstance(error, ContentConflict | PlacementConflict):
            return None
        # The archive has let go of the file. What it keeps under the UID is of the same class.
        try:
            records = self._visit.archive.records_of(instances=[error.key.instance])
            return next((one.sop_class for one in records), None)
        except ArchiveError:
            return None


def _named(
    error: ArchiveError | DicomwebError, document: DicomJson
) -> ArchiveError | DicomwebError:
    """The error with the instance that the metadata name, so that the answer can list it."""
    if getattr(error, "key", None) is None:
        error.key = key_of(document)  # type: ignore[union-attr]
    return error


def _class_in(incoming: Incoming) -> str | None:
    try:
        incoming.finish()
        head = dcmread(incoming.path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
    except (ArchiveError, OSError, ValueError, AttributeError):
        return None
    return str(head.get("SOPClassUID", "")) or None


async def store(visit: Visit) -> Response:
    """POST /studies and /studies/{study}."""
    check_charset(visit.request.query_params.getlist("charset"))
    offer = choose(visit.accept, FORMS)
    content = _content_type(visit)
    take = _take_bulk if _part_type(content) in _METADATA else _take_instances
    failure: DicomwebError | ClientDisconnect | None = None
    async with anyio.create_task_group() as group:
        intake = _Intake(visit, group)
        try:
            await take(visit, content, intake)
        except (DicomwebError, ClientDisconnect) as error:
            # Raised only after the group: what is being stored is finished, not torn off.
            failure = error
        finally:
            with anyio.CancelScope(shield=True):
                await intake.abandon()
    if failure is not None:
        raise failure
    if not intake.outcomes:
        raise BadRequest("the request holds no instance")
    return answer(visit, offer, intake.outcomes)


async def _take_instances(visit: Visit, content: MediaRange, intake: _Intake) -> None:
    async for event in _events(visit, content):
        await intake.take(event)


async def _take_bulk(visit: Visit, content: MediaRange, intake: _Intake) -> None:
    """Metadata and bulk data: every part is collected before the first instance can be made."""
    bulk = BulkIntake(visit.door.config)
    try:
        async for event in _events(visit, content):
            await in_thread(bulk.take, event)
        for document in bulk.documents:
            await intake.make(bulk, document)
    finally:
        await in_thread(bulk.close)


def _part_type(content: MediaRange) -> str:
    """Type of the content, or of the parts of a multipart body."""
    return (
        content.parameters.get("type", DICOM).lower() if content.type == MULTIPART else content.type
    )


def _content_type(visit: Visit) -> MediaRange:
    """The request's content type, once it is sure that it can be stored."""
    content = parse_media_type(visit.request.headers.get("content-type", OCTETS))
    if _part_type(content) not in (DICOM, *_METADATA):
        kinds = [DICOM, *(f'{MULTIPART}; type="{kind}"' for kind in (DICOM, *_METADATA))]
        raise UnsupportedMediaType(f"{_part_type(content)} cannot be stored", taken=kinds)
    return content


async def _events(visit: Visit, content: MediaRange) -> AsyncIterator[Event]:
    """The body as parts; a body that is not multipart is one part."""
    config = visit.door.config
    body = body_of(visit.request, config)
    if content.type != MULTIPART:
        yield PartBegin({"content-type": content.type})
        async for chunk in body:
            yield PartData(chunk)
        yield PartEnd()
        return
    parser = MultipartParser(content.parameters.get("boundary", ""), max_parts=config.max_parts)
    async for chunk in body:
        for event in parser.feed(chunk):
            yield event
    parser.finish()
