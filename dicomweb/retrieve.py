"""WADO-RS (PS3.18 section 10.4): instances and bulk data, streamed from disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from starlette.responses import Response, StreamingResponse

from archive import InstanceRecord
from dicomweb.door import Visit, in_thread
from dicomweb.errors import NotRenderable
from dicomweb.media import DICOM, EXPLICIT_LE, MULTIPART, NATIVE, OCTETS, Offer, choose
from dicomweb.multipart import PART_TAIL, closing, new_boundary, part_head
from pixels import can_decode

READ_BYTES = 1024 * 1024
# Stored bytes never change; a token can be withdrawn, so not for long.
CACHE = "private, max-age=300"
VARY = "Accept, Authorization"


async def retrieve_study(visit: Visit) -> Response:
    """GET /studies/{study}."""
    records = await in_thread(visit.archive.study_instances, visit.study)
    return await _instances(visit, records)


async def retrieve_series(visit: Visit) -> Response:
    """GET /studies/{study}/series/{series}."""
    records = await in_thread(visit.archive.series_instances, visit.study, visit.series)
    return await _instances(visit, records)


async def retrieve_instance(visit: Visit) -> Response:
    """GET .../instances/{instance}: multipart, or the file itself for application/dicom."""
    record = await in_thread(visit.archive.instance, visit.key)
    return await _instances(visit, [record], single=True)


def instance_offers(transfer_syntax: str, *, single: bool) -> list[Offer]:
    """How an instance can be sent: as stored, and decompressed where a decoder exists.

    A range without transfer-syntax means Explicit VR Little Endian (PS3.18 section 8.7.3.5.2).
    Native files are readable by all and leave as stored; so does what nothing here can decode.
    """
    decodable = transfer_syntax != EXPLICIT_LE and can_decode(transfer_syntax)
    stored_by_default = transfer_syntax in NATIVE or not decodable
    pairs = [(transfer_syntax, stored_by_default)]
    if decodable:
        pairs.append((EXPLICIT_LE, True))
    wraps = (True, False) if single else (True,)
    return [Offer(DICOM, wrap, syntax, default) for wrap in wraps for syntax, default in pairs]


async def _instances(
    visit: Visit, records: Sequence[InstanceRecord], *, single: bool = False
) -> Response:
    syntaxes = {one.transfer_syntax for one in records}
    chosen = {one: choose(visit.accept, instance_offers(one, single=single)) for one in syntaxes}
    if single:
        content = await _prepare(visit, records[0], chosen[records[0].transfer_syntax])
        if not content.offer.multipart:
            return _file(visit, content)
    boundary = new_boundary()
    headers = {"Cache-Control": CACHE, "Vary": VARY}
    if all(chosen[one].transfer_syntax == one for one in syntaxes):
        length = len(closing(boundary))
        for record in records:
            head = part_head(boundary, chosen[record.transfer_syntax].content_type)
            length += len(head) + record.size + len(PART_TAIL)
        headers["Content-Length"] = str(length)

    async def body() -> AsyncIterator[bytes]:
        for record in records:
            one = content if single else None
            one = one or await _prepare(visit, record, chosen[record.transfer_syntax])
            yield part_head(boundary, one.offer.content_type)
            async for chunk in _stream(visit, one):
                yield chunk
            yield PART_TAIL
        yield closing(boundary)

    kind = multipart_type(DICOM, boundary)
    return StreamingResponse(body(), media_type=kind, headers=headers)


@dataclass(frozen=True, slots=True)
class _Content:
    """An instance as it will be sent; `decoded` is None where the file goes out as it is."""

    record: InstanceRecord
    offer: Offer
    decoded: bytes | None = None


async def _prepare(visit: Visit, record: InstanceRecord, offer: Offer) -> _Content:
    """Decompress if that was chosen. What turns out to be damaged leaves as stored, unless the
    client named the transfer syntax.
    """
    if offer.transfer_syntax == record.transfer_syntax:
        return _Content(record, offer)
    decoders = visit.door.decoders
    try:
        file = await decoders.run(
            decoders.transcoder.transcode, record.path, EXPLICIT_LE, record.sha256
        )
        with file:
            decoded = file.read()
    except NotRenderable:
        stored = Offer(DICOM, offer.multipart, record.transfer_syntax)
        return _Content(record, choose(visit.accept, [stored]))
    return _Content(record, offer, decoded)


def multipart_type(part: str, boundary: str) -> str:
    """Content-Type of a multipart/related answer."""
    return f'{MULTIPART}; type="{part}"; boundary={boundary}'


def _file(visit: Visit, content: _Content) -> Response:
    record = content.record
    size = record.size if content.decoded is None else len(content.decoded)
    headers = {
        "Cache-Control": CACHE,
        "Vary": VARY,
        # A preamble may be a program of another kind: never shown, always saved.
        "Content-Disposition": f'attachment; filename="{record.key.instance}.dcm"',
        "Content-Length": str(size),
    }
    kind = content.offer.content_type
    return StreamingResponse(_stream(visit, content), media_type=kind, headers=headers)


async def _stream(visit: Visit, content: _Content) -> AsyncIterator[bytes]:
    if content.decoded is not None:
        yield content.decoded
        return
    handle: BinaryIO = await in_thread(visit.archive.read, content.record.key)
    try:
        while chunk := await in_thread(handle.read, READ_BYTES):
            yield chunk
    finally:
        handle.close()


async def retrieve_bulkdata(visit: Visit) -> Response:
    """GET .../instances/{instance}/bulkdata/{path}: the value of one attribute."""
    path: str = visit.request.path_params["path"]
    bulk = await in_thread(visit.archive.bulkdata, visit.key, path)
    kinds = list(dict.fromkeys((bulk.media_type, OCTETS)))
    offer = choose(
        visit.accept,
        [Offer(kind, wrap, bulk.transfer_syntax) for wrap in (True, False) for kind in kinds],
    )
    headers = {"Cache-Control": CACHE, "Vary": VARY}
    if not offer.multipart:
        headers["Content-Disposition"] = "attachment"
        headers["Content-Length"] = str(bulk.size)
        return StreamingResponse(bulk.chunks, media_type=offer.part, headers=headers)
    boundary = new_boundary()
    head = part_head(boundary, offer.content_type, location=str(visit.request.url.path))
    tail = PART_TAIL + closing(boundary)
    headers["Content-Length"] = str(len(head) + bulk.size + len(tail))

    def body() -> Iterator[bytes]:
        yield head
        yield from bulk.chunks
        yield tail

    return StreamingResponse(
        body(), media_type=multipart_type(offer.part, boundary), headers=headers
    )
