"""Rendered documents (PS3.18 table 8.7.4-1): structured reports as HTML, PDF as it is."""

from __future__ import annotations

from starlette.responses import Response, StreamingResponse

from archive import InstanceRecord
from dicomweb.door import Visit, in_thread
from dicomweb.errors import NotRenderable
from dicomweb.media import Offer, choose
from dicomweb.retrieve import CACHED, joined

_ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
_REPORTS = "1.2.840.10008.5.1.4.1.1.88."
_DOCUMENT = "00420011"
# Whatever a report holds, it runs no script, loads nothing, and is no part of our origin.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"


async def rendered_document(visit: Visit, record: InstanceRecord) -> Response:
    """An instance without an image, as something that a browser shows.

    Raises:
        NotRenderable: it is neither a structured report nor a PDF.
    """
    if record.sop_class == _ENCAPSULATED_PDF:
        return await _pdf(visit, record)
    if record.sop_class.startswith(_REPORTS):
        offer = choose(visit.accept, [Offer("text/html")])
        decoders = visit.door.decoders
        page = await decoders.run(decoders.transcoder.report, record.path)
        headers = {**CACHED, "Content-Security-Policy": _POLICY}
        return Response(page, media_type=offer.part, headers=headers)
    raise NotRenderable("the instance holds no image")


async def _pdf(visit: Visit, record: InstanceRecord) -> Response:
    offer = choose(visit.accept, [Offer("application/pdf")])
    bulk = await in_thread(visit.archive.bulkdata, record.key, _DOCUMENT)
    if bulk.media_type != offer.part:
        raise NotRenderable("the encapsulated document is not a PDF")
    headers = {
        **CACHED,
        "Content-Length": str(bulk.size),
        "Content-Disposition": f'inline; filename="{record.key.instance}.pdf"',
        "Content-Security-Policy": "sandbox allow-downloads",
    }
    chunks = joined(iter(bulk.chunks))
    return StreamingResponse(chunks, media_type=offer.part, headers=headers)
