"""STOW-RS (PS3.18 section 10.5): instances streamed to the archive, one result for each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import anyio
import orjson
import structlog
from anyio.abc import TaskGroup
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from archive import (
    ArchiveError,
    ArchiveUnavailable,
    Incoming,
    OutOfSpace,
    Source,
    Stored,
)
from dicomweb.door import Visit, in_thread
from dicomweb.errors import BadRequest, DicomwebError, PayloadTooLarge, UnsupportedMediaType
from dicomweb.media import (
    DICOM,
    DICOM_JSON,
    MULTIPART,
    OCTETS,
    MediaRange,
    Offer,
    choose,
    parse_media_type,
)
from dicomweb.multipart import Event, MultipartParser, PartBegin, PartData, PartEnd
from dicomweb.problems import problem_of

log = structlog.get_logger(__name__)

# Bytes that are collected before one hop to a thread: a hop costs about as much as writing 64 KiB.
WRITE_BYTES = 1024 * 1024
_JSON = (Offer(DICOM_JSON), Offer("application/json"))

Outcome = Stored | ArchiveError | DicomwebError


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
        self._current: _Upload | None = None
        self._count = 0
        self.outcomes: dict[int, Outcome] = {}
        caller = visit.caller
        self._source = Source("stow", address=caller.address, subject=caller.subject)
        own = frozenset({visit.study}) if visit.study is not None else None
        self._studies = own if own is not None else caller.studies

    async def take(self, event: Event) -> None:
        """One event of the multipart stream."""
        if isinstance(event, PartBegin):
            await self._begin(event.headers.get("content-type", DICOM))
        elif isinstance(event, PartData):
            await self._data(event.data)
        else:
            await self._end()

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
            return
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
        assert upload.incoming is not None  # noqa: S101 - set where failure is not
        try:
            await in_thread(upload.incoming.write, data)
        except ArchiveError as error:
            upload.failure = error

    async def _end(self) -> None:
        upload, self._current = self._current, None
        assert upload is not None  # noqa: S101 - the parser ends only what began
        if upload.failure is None and upload.pending:
            self._current = upload
            await self._write(upload)
            self._current = None
        await self._slots.acquire()
        self._group.start_soon(self._finish, upload)

    async def _finish(self, upload: _Upload) -> None:
        try:
            self.outcomes[upload.number] = await in_thread(self._store, upload)
        finally:
            self._slots.release()

    def _store(self, upload: _Upload) -> Outcome:
        """In a thread: store the instance; the temporary file goes away in any case."""
        if upload.incoming is None:
            assert upload.failure is not None  # noqa: S101 - one of the two is there
            return upload.failure
        with upload.incoming as incoming:
            if upload.failure is not None:
                return upload.failure
            try:
                return self._visit.archive.store(incoming, self._source, studies=self._studies)
            except ArchiveError as error:
                return error


async def store(visit: Visit) -> Response:
    """POST /studies and /studies/{study}."""
    choose(visit.accept, _JSON)
    content = _content_type(visit)
    failure: DicomwebError | ClientDisconnect | None = None
    async with anyio.create_task_group() as group:
        intake = _Intake(visit, group)
        try:
            async for event in _events(visit, content):
                await intake.take(event)
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
    outcomes = [intake.outcomes[number] for number in sorted(intake.outcomes)]
    return _answer(visit, outcomes)


def _content_type(visit: Visit) -> MediaRange:
    """The request's content type, once it is sure that it can be stored."""
    content = parse_media_type(visit.request.headers.get("content-type", OCTETS))
    wrapped = content.type == MULTIPART and content.parameters.get("type", DICOM).lower() == DICOM
    if not wrapped and content.type != DICOM:
        raise UnsupportedMediaType(f'send {DICOM} or {MULTIPART}; type="{DICOM}"')
    if visit.request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("a compressed request body is not taken")
    return content


async def _events(visit: Visit, content: MediaRange) -> AsyncIterator[Event]:
    """The body as parts; a single instance is one part."""
    config = visit.door.config
    if content.type == DICOM:
        yield PartBegin()
        async for chunk in visit.request.stream():
            if chunk:
                yield PartData(chunk)
        yield PartEnd()
        return
    parser = MultipartParser(content.parameters.get("boundary", ""), max_parts=config.max_parts)
    async for chunk in visit.request.stream():
        for event in parser.feed(chunk):
            yield event
    parser.finish()


def _answer(visit: Visit, outcomes: list[Outcome]) -> Response:
    """The Store Instances Response Module (PS3.18 table I.2-1) and its status."""
    base = visit.door.base_url(visit.request)
    stored = [one for one in outcomes if isinstance(one, Stored)]
    failed = [one for one in outcomes if not isinstance(one, Stored)]
    studies = {one.key.study for one in stored}
    document: dict[str, Any] = {}
    if len(studies) == 1:
        document["00081190"] = _element("UR", f"{base}/studies/{studies.pop()}")
    if failed:
        document["00081198"] = {"vr": "SQ", "Value": [_failed_item(one) for one in failed]}
    if stored:
        document["00081199"] = {"vr": "SQ", "Value": [_stored_item(base, one) for one in stored]}
    for one in failed:
        key = getattr(one, "key", None)
        log.info("stow_refused", reason=type(one).__name__, instance=key and key.instance)
    return Response(orjson.dumps(document), _status(stored, failed), media_type=DICOM_JSON)


def _status(stored: list[Stored], failed: list[ArchiveError | DicomwebError]) -> int:
    if not failed:
        return HTTPStatus.OK
    if stored:
        return HTTPStatus.ACCEPTED
    if all(isinstance(one, OutOfSpace) for one in failed):
        return HTTPStatus.INSUFFICIENT_STORAGE
    if all(isinstance(one, ArchiveUnavailable) for one in failed):
        return HTTPStatus.SERVICE_UNAVAILABLE
    if all(isinstance(one, UnsupportedMediaType) for one in failed):
        return HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    return HTTPStatus.CONFLICT


def _element(vr: str, value: str | int) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]}


def _stored_item(base: str, one: Stored) -> dict[str, Any]:
    key = one.key
    url = f"{base}/studies/{key.study}/series/{key.series}/instances/{key.instance}"
    return {
        "00081150": _element("UI", one.sop_class),
        "00081155": _element("UI", key.instance),
        "00081190": _element("UR", url),
    }


def _failed_item(error: ArchiveError | DicomwebError) -> dict[str, Any]:
    item = {"00081197": _element("US", problem_of(error).reason)}
    key = getattr(error, "key", None)
    if key is not None:
        item["00081155"] = _element("UI", key.instance)
    return item
