"""WADO-RS frames (PS3.18 section 10.4.1.1.6): as stored, decoded, or compressed without loss."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.responses import Response, StreamingResponse

from archive.frame_reader import FrameReader
from dicomweb.door import Visit, in_thread
from dicomweb.errors import BadRequest
from dicomweb.media import EXPLICIT_LE, NATIVE, OCTETS, Offer, choose, frame_media_type
from dicomweb.multipart import PART_TAIL, closing, new_boundary, part_head
from dicomweb.retrieve import CACHED, multipart_type
from pixels import COMPRESSED_TARGETS, can_decode

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
    Compressed: in the image type of another compression without loss.
    """
    decodable = can_decode(transfer_syntax)
    if transfer_syntax in NATIVE:
        forms = [Offer(OCTETS, transfer_syntax=EXPLICIT_LE)]
        decodable = True
    else:
        forms = _typed(transfer_syntax)
        forms.append(Offer(OCTETS, False, transfer_syntax, by_default=not decodable))
        if decodable:
            forms.append(Offer(OCTETS, transfer_syntax=EXPLICIT_LE))
    for target in COMPRESSED_TARGETS:
        if decodable and target != transfer_syntax:
            forms += _typed(target)
            forms.append(Offer(OCTETS, False, target, by_default=False))
    wrapped = [Offer(one.part, True, one.transfer_syntax, one.by_default) for one in forms]
    return wrapped + forms if single else wrapped


def _typed(transfer_syntax: str) -> list[Offer]:
    kind = frame_media_type(transfer_syntax)
    kinds = _RLE if kind in _RLE else (kind,)
    return [Offer(one, transfer_syntax=transfer_syntax) for one in kinds if one != OCTETS]


async def retrieve_frames(visit: Visit) -> Response:
    """GET .../frames/{numbers}."""
    numbers = frame_numbers(visit.request.path_params["numbers"], visit.door.config.max_frames)
    single = len(numbers) == 1

    def begin() -> tuple[FrameReader, Offer, bytes]:
        # One step off the event loop for the index, the choice and the first frame.
        reader = visit.archive.frame_reader(visit.key)
        offer = choose(visit.accept, frame_offers(reader.found.transfer_syntax, single=single))
        if max(numbers) > reader.found.frames:
            visit.archive.read_frame(reader, max(numbers))
        return reader, offer, visit.archive.read_frame(reader, numbers[0])

    reader, offer, first = await in_thread(begin)
    frames = _Frames(visit, reader, offer)
    # The first frame is made before the answer begins, so that a failure still has a status.
    first = await frames.formed(numbers[0], first)
    if not offer.multipart:
        return Response(first, media_type=offer.content_type, headers=CACHED)
    boundary = new_boundary()
    head = part_head(boundary, offer.content_type)
    kind = multipart_type(offer.part, boundary)
    if single:
        whole = b"".join((head, first, PART_TAIL, closing(boundary)))
        return Response(whole, media_type=kind, headers=CACHED)

    async def body() -> AsyncIterator[bytes]:
        yield head + first + PART_TAIL
        for number in numbers[1:]:
            yield head + await frames.frame(number) + PART_TAIL
        yield closing(boundary)

    return StreamingResponse(body(), media_type=kind, headers=CACHED)


class _Frames:
    """The frames of one instance in the chosen form."""

    def __init__(self, visit: Visit, reader: FrameReader, offer: Offer) -> None:
        self._visit = visit
        self._reader = reader
        self._target = offer.transfer_syntax or EXPLICIT_LE
        stored = reader.found.transfer_syntax
        native = stored in NATIVE and self._target == EXPLICIT_LE
        self._as_stored = native or self._target == stored

    async def frame(self, number: int) -> bytes:
        """Bytes of one frame, counted from 1."""
        data = await in_thread(self._visit.archive.read_frame, self._reader, number)
        return await self.formed(number, data)

    async def formed(self, number: int, data: bytes) -> bytes:
        """A frame that was read, in the chosen form."""
        if self._as_stored:
            return data
        decoders, found = self._visit.door.decoders, self._reader.found
        return await decoders.run(
            decoders.transcoder.frame,
            found.path,
            found.transfer_syntax,
            data,
            self._target,
            f"{found.sha256}/{number}",
        )
