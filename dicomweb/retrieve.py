"""WADO-RS (PS3.18 section 10.4): instances as multipart, single part or zip, streamed from disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

from starlette.responses import Response, StreamingResponse

from archive import InstanceRecord
from dicomweb.door import Visit, in_thread
from dicomweb.errors import NotAcceptable
from dicomweb.instances import Content, choose_each, prepare, read_through, stored_pieces
from dicomweb.media import DICOM, MULTIPART, Offer, choose
from dicomweb.multipart import PART_TAIL, closing, new_boundary, part_head
from dicomweb.ranges import ranged
from dicomweb.zipping import zipped

ZIP = "application/zip"
# Stored bytes never change; a token can be withdrawn, so not for long.
CACHE = "private, max-age=300"
VARY = "Accept, Authorization"
CACHED = {"Cache-Control": CACHE, "Vary": VARY}
JOIN_BYTES = 1024 * 1024


async def retrieve_study(visit: Visit) -> Response:
    """GET /studies/{study}."""
    records = await in_thread(visit.archive.study_instances, visit.study)
    return await several(visit, records, f"{visit.study}.zip")


async def retrieve_series(visit: Visit) -> Response:
    """GET /studies/{study}/series/{series}."""
    records = await in_thread(visit.archive.series_instances, visit.study, visit.series)
    return await several(visit, records, f"{visit.series}.zip")


async def retrieve_instance(visit: Visit) -> Response:
    """GET .../instances/{instance}: multipart, or the file itself for application/dicom."""
    return await single(visit, await in_thread(visit.archive.instance, visit.key))


async def several(visit: Visit, records: Sequence[InstanceRecord], name: str) -> Response:
    """Instances as one multipart message, or as a zip called `name`."""
    try:
        chosen = choose_each(visit.accept, records)
    except NotAcceptable as error:
        _check_zip(visit, error)
        return _zip(visit, records, name)
    if all(offer.transfer_syntax == one.transfer_syntax for one, offer in chosen):
        return _as_stored(visit, chosen)
    return await _transcoded(visit, chosen)


async def single(visit: Visit, record: InstanceRecord) -> Response:
    """One instance: multipart, a file (with Range), or a zip."""
    try:
        [(_, offer)] = choose_each(visit.accept, [record], single=True)
    except NotAcceptable as error:
        _check_zip(visit, error)
        return _zip(visit, [record], f"{record.key.instance}.zip")
    if offer.multipart:
        if offer.transfer_syntax == record.transfer_syntax:
            return _as_stored(visit, [(record, offer)])
        return await _transcoded(visit, [(record, offer)])
    content = await prepare(visit, record, offer)
    headers = {
        **CACHED,
        # A preamble may be a program of another kind: never shown, always saved.
        "Content-Disposition": f'attachment; filename="{record.key.instance}.dcm"',
    }
    etag = f'"{record.sha256[:32]}-{content.offer.transfer_syntax}"'
    kind = content.offer.content_type
    return ranged(visit.request, content.size, content.pieces(visit.archive), kind, etag, headers)


def _check_zip(visit: Visit, error: NotAcceptable) -> None:
    """Raise the error, which tells what else there is, unless the client takes a zip."""
    try:
        choose(visit.accept, [Offer(ZIP)])
    except NotAcceptable:
        raise error from None


def _zip(visit: Visit, records: Sequence[InstanceRecord], name: str) -> Response:
    headers = {**CACHED, "Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(zipped(visit.archive, records), media_type=ZIP, headers=headers)


def _as_stored(visit: Visit, chosen: Sequence[tuple[InstanceRecord, Offer]]) -> Response:
    """The files as they are: read in a thread, a megabyte at each step, length known."""
    boundary = new_boundary()
    heads = [part_head(boundary, offer.content_type) for _, offer in chosen]
    framing = sum(len(head) + len(PART_TAIL) for head in heads) + len(closing(boundary))
    length = framing + sum(record.size for record, _ in chosen)

    def pieces() -> Iterator[bytes]:
        for head, (record, _) in zip(heads, chosen, strict=True):
            yield head
            yield from stored_pieces(visit.archive, record)
            yield PART_TAIL
        yield closing(boundary)

    headers = {**CACHED, "Content-Length": str(length)}
    kind = multipart_type(DICOM, boundary)
    return StreamingResponse(joined(pieces()), media_type=kind, headers=headers)


async def _transcoded(visit: Visit, chosen: Sequence[tuple[InstanceRecord, Offer]]) -> Response:
    """Each file in the form chosen for it; the first is made before the answer begins, so that
    a failure still has a status.
    """
    boundary = new_boundary()
    first = await prepare(visit, *chosen[0])

    async def body() -> AsyncIterator[bytes]:
        for number, (record, offer) in enumerate(chosen):
            content = first if number == 0 else await _prepared(visit, record, offer)
            yield part_head(boundary, content.offer.content_type)
            async for chunk in read_through(content.pieces(visit.archive)):
                yield chunk
            yield PART_TAIL
        yield closing(boundary)

    kind = multipart_type(DICOM, boundary)
    return StreamingResponse(body(), media_type=kind, headers=CACHED)


async def _prepared(visit: Visit, record: InstanceRecord, offer: Offer) -> Content:
    """What cannot be transcoded in the middle of an answer leaves as stored: its part says so."""
    try:
        return await prepare(visit, record, offer)
    except NotAcceptable:
        return Content(record, Offer(DICOM, True, record.transfer_syntax))


def joined(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of about a megabyte: each step of an answer costs a thread hop."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= JOIN_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


def multipart_type(part: str, boundary: str) -> str:
    """Content-Type of a multipart/related answer."""
    return f'{MULTIPART}; type="{part}"; boundary={boundary}'
