"""In which form an instance leaves, and its bytes in that form."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from os import fstat
from typing import BinaryIO

import structlog
from starlette.concurrency import iterate_in_threadpool

from archive import Archive, ArchiveError, InstanceRecord
from dicomweb.door import Visit
from dicomweb.errors import NotAcceptable, NotRenderable
from dicomweb.media import DICOM, EXPLICIT_LE, NATIVE, MediaRange, Offer, choose
from pixels import TARGETS, can_decode, can_make

log = structlog.get_logger(__name__)

READ_BYTES = 1024 * 1024


def instance_offers(transfer_syntax: str, *, single: bool) -> list[Offer]:
    """How an instance can be sent: as stored, decompressed, or compressed for who asks for it.

    A range without transfer-syntax means Explicit VR Little Endian (PS3.18 section 8.7.3.5.2).
    Native files are readable by all and leave as stored; so does what nothing here can decode.
    """
    decodable = transfer_syntax != EXPLICIT_LE and can_decode(transfer_syntax)
    pairs = [(transfer_syntax, transfer_syntax in NATIVE or not decodable)]
    pairs += [
        (target, target == EXPLICIT_LE)
        for target in TARGETS
        if target != transfer_syntax and can_make(transfer_syntax, target)
    ]
    wraps = (True, False) if single else (True,)
    return [Offer(DICOM, wrap, syntax, default) for wrap in wraps for syntax, default in pairs]


def choose_each(
    accept: Sequence[MediaRange], records: Sequence[InstanceRecord], *, single: bool = False
) -> list[tuple[InstanceRecord, Offer]]:
    """The form of each instance.

    Without pixel data a compression means nothing: such an instance leaves as it is.

    Raises:
        NotAcceptable: for one of them none fits.
    """
    syntaxes = {one.transfer_syntax for one in records}
    offers = {one: instance_offers(one, single=single) for one in syntaxes}
    chosen = {one: choose(accept, offers[one]) for one in syntaxes}
    return [(record, _meant(record, chosen[record.transfer_syntax])) for record in records]


def _meant(record: InstanceRecord, offer: Offer) -> Offer:
    if record.frames or offer.transfer_syntax in NATIVE:
        return offer
    return Offer(DICOM, offer.multipart, record.transfer_syntax)


@dataclass(frozen=True)
class Content:
    """An instance as it will be sent; `made` is None where the file goes out as it is."""

    record: InstanceRecord
    offer: Offer
    made: BinaryIO | None = None

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.record.size if self.made is None else fstat(self.made.fileno()).st_size

    def pieces(self, archive: Archive) -> Iterator[bytes]:
        """The file in pieces; it is closed at their end."""
        if self.made is None:
            return stored_pieces(archive, self.record)
        return _pieces_of(self.made)


def stored_pieces(archive: Archive, record: InstanceRecord) -> Iterator[bytes]:
    """The stored file in pieces, its digest checked on the way.

    The answer has begun, so whatever is wrong can only cut it: the client sees that it is short.
    """
    try:
        yield from archive.content(record)
    except ArchiveError as error:
        log.warning("retrieve_cut", sop=record.key.instance, error=type(error).__name__)
        raise


def _pieces_of(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while piece := file.read(READ_BYTES):
            yield piece


async def read_through(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces, read off the event loop."""
    async for piece in iterate_in_threadpool(pieces):
        yield piece


async def prepare(visit: Visit, record: InstanceRecord, offer: Offer) -> Content:
    """Transcode if that was chosen. What turns out to be damaged leaves as stored, unless the
    client named the transfer syntax.

    Raises:
        NotAcceptable: it cannot be made, and as stored it was not accepted.
    """
    if offer.transfer_syntax == record.transfer_syntax:
        return Content(record, offer)
    decoders = visit.door.decoders
    try:
        made = await decoders.run(
            decoders.transcoder.transcode, record.path, offer.transfer_syntax, record.sha256
        )
    except (NotRenderable, NotAcceptable) as error:
        stored = Offer(DICOM, offer.multipart, record.transfer_syntax)
        try:
            return Content(record, choose(visit.accept, [stored]))
        except NotAcceptable:
            raise NotAcceptable(str(error)) from error
    except FileNotFoundError:
        # Deleted meanwhile, or lost: the archive says which.
        visit.archive.open_file(record).close()
        raise
    return Content(record, offer, made)
