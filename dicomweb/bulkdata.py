"""WADO-RS bulk data (PS3.18 section 10.4.1.1.5): the value of one attribute, whole or in part."""

from __future__ import annotations

from collections.abc import Iterator

from starlette.responses import Response, StreamingResponse

from archive import BulkData, InstanceRecord
from dicomweb.door import Visit, in_thread
from dicomweb.media import NATIVE, OCTETS, Offer, choose, frame_media_type
from dicomweb.multipart import PART_TAIL, closing, new_boundary, part_head
from dicomweb.ranges import ranged
from dicomweb.retrieve import CACHED, joined, multipart_type

_PIXEL_DATA = "7FE00010"


async def retrieve_bulkdata(visit: Visit) -> Response:
    """GET .../instances/{instance}/bulkdata/{path}."""
    path: str = visit.request.path_params["path"]
    record = await in_thread(visit.archive.instance, visit.key)
    bulk = await in_thread(visit.archive.bulkdata, visit.key, path)
    kinds = _kinds(record, bulk, path)
    offer = choose(
        visit.accept,
        [Offer(kind, wrap, bulk.transfer_syntax) for wrap in (True, False) for kind in kinds],
    )
    if not offer.multipart:
        headers = {**CACHED, "Content-Disposition": "attachment"}
        etag = f'"{record.sha256[:32]}-{path}"'
        chunks = joined(iter(bulk.chunks))
        return ranged(visit.request, bulk.size, chunks, offer.part, etag, headers)
    boundary = new_boundary()
    head = part_head(boundary, offer.content_type, location=str(visit.request.url.path))
    tail = PART_TAIL + closing(boundary)

    def body() -> Iterator[bytes]:
        yield head
        yield from bulk.chunks
        yield tail

    headers = {**CACHED, "Content-Length": str(len(head) + bulk.size + len(tail))}
    kind = multipart_type(offer.part, boundary)
    return StreamingResponse(joined(body()), media_type=kind, headers=headers)


def _kinds(record: InstanceRecord, bulk: BulkData, path: str) -> list[str]:
    """Media types of the value; pixel data that are one image or video have that one's as well."""
    kinds = [bulk.media_type, OCTETS]
    kind = frame_media_type(record.transfer_syntax)
    whole = record.frames == 1 or kind.startswith("video/")
    if path.upper() == _PIXEL_DATA and record.transfer_syntax not in NATIVE and whole:
        kinds.append(kind)
    return list(dict.fromkeys(kinds))
