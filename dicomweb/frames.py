"""WADO-RS frames (PS3.18 section 10.4.1.1.6): raw as stored, or decoded to native bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.responses import Response, StreamingResponse

from archive import InstanceRecord
from dicomweb.door import Visit, in_thread
from dicomweb.errors import BadRequest
from dicomweb.media import EXPLICIT_LE, NATIVE, OCTETS, Offer, choose, frame_media_type
from dicomweb.multipart import PART_TAIL, closing, new_boundary, part_head
from dicomweb.retrieve import CACHE, VARY, multipart_type
from pixels import can_decode

# The name before PS3.18 2019 and the present one are both asked for.
_RLE = ("image/dicom-rle", "image/x-dicom-rle")


def frame_numbers(text: str, most: int) -> list[int]:
    """`1,3,2` as numbers in the order asked for.

    Raises:
        BadRequest: not numbers from 1, or too many.
    """
    parts = text.split(",")
    if len(parts) > most:
        raise BadRequest(f"more than {most} frames in one request")
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise BadRequest("frames are whole numbers, divided by commas")
    numbers = [int(part) for part in parts]
    if 0 in numbers:
        raise BadRequest("frames are counted from 1")
    return numbers


def frame_offers(transfer_syntax: str, *, single: bool) -> list[Offer]:
    """How a frame can be sent.

    As stored: in its own image type, or as octets for who says transfer-syntax. Decoded: as
    octets, which is also what octets without transfer-syntax means (PS3.18 table 8.7.3-5).
    """
    if transfer_syntax in NATIVE:
        forms = [Offer(OCTETS, transfer_syntax=EXPLICIT_LE)]
    else:
        kind = frame_media_type(transfer_syntax)
        kinds = _RLE if kind in _RLE else (kind,)
        forms = [Offer(one, transfer_syntax=transfer_syntax) for one in kinds if one != OCTETS]
        decodable = can_decode(transfer_syntax)
        forms.append(Offer(OCTETS, False, transfer_syntax, by_default=not decodable))
        if decodable:
            forms.append(Offer(OCTETS, transfer_syntax=EXPLICIT_LE))
    wrapped = [Offer(one.part, True, one.transfer_syntax, one.by_default) for one in forms]
    return wrapped + forms if single else wrapped


async def retrieve_frames(visit: Visit) -> Response:
    """GET .../frames/{numbers}."""
    config = visit.door.config
    numbers = frame_numbers(visit.request.path_params["numbers"], config.max_frames)
    record = await in_thread(visit.archive.instance, visit.key)
    offers = frame_offers(record.transfer_syntax, single=len(numbers) == 1)
    offer = choose(visit.accept, offers)
    source = _Source(visit, record, offer)
    # The first frame is read before the answer begins, so that a failure still has a status.
    first = await source.frame(numbers[0])
    if max(numbers) > record.frames:
        await source.frame(max(numbers))
    headers = {"Cache-Control": CACHE, "Vary": VARY}
    if not offer.multipart:
        return Response(first, media_type=offer.content_type, headers=headers)
    boundary = new_boundary()
    head = part_head(boundary, offer.content_type)
    kind = multipart_type(offer.part, boundary)
    if len(numbers) == 1:
        whole = b"".join((head, first, PART_TAIL, closing(boundary)))
        return Response(whole, media_type=kind, headers=headers)

    async def body() -> AsyncIterator[bytes]:
        yield head + first + PART_TAIL
        for number in numbers[1:]:
            yield head + await source.frame(number) + PART_TAIL
        yield closing(boundary)

    return StreamingResponse(body(), media_type=kind, headers=headers)


class _Source:
    """The frames of one instance in the chosen form."""

    def __init__(self, visit: Visit, record: InstanceRecord, offer: Offer) -> None:
        self._visit = visit
        self._record = record
        stored = record.transfer_syntax
        self._as_stored = stored in NATIVE or offer.transfer_syntax == stored

    async def frame(self, number: int) -> bytes:
        """Bytes of one frame, counted from 1."""
        data = await in_thread(self._visit.archive.frame, self._record.key, number)
        if self._as_stored:
            return data
        decoders = self._visit.door.decoders
        record = self._record
        return await decoders.run(
            decoders.transcoder.frame, record.path, record.transfer_syntax, data
        )
