"""The body of a request as a bounded stream: size, pace and content coding are watched here."""

from __future__ import annotations

import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial

import anyio
from starlette.requests import Request

from dicomweb.config import DicomwebConfig
from dicomweb.errors import BadRequest, PayloadTooLarge, RequestTimeout, UnsupportedMediaType

# One step of inflating: small enough that a bomb is seen before it fills the memory.
_STEP = 1024 * 1024
# Real pixel data shrink 2 to 20 times, an empty frame up to 1000 times: a bomb is told by both.
_BOMB_RATIO, _BOMB_BYTES = 100, 32 * 1024 * 1024
_AUTOMATIC = 32 + zlib.MAX_WBITS  # gzip or zlib, whichever the first bytes show
_CODINGS = {"gzip": _AUTOMATIC, "x-gzip": _AUTOMATIC, "deflate": _AUTOMATIC}


async def body_of(request: Request, config: DicomwebConfig) -> AsyncIterator[bytes]:
    """The decoded body in pieces.

    Raises:
        PayloadTooLarge: it is, or says that it will be, larger than the limit; or it is a bomb.
        RequestTimeout: nothing came for a while, or what comes would take for ever.
        UnsupportedMediaType: the content coding is not known.
    """
    _check_length(request, config)
    decode = decoder_of(request.headers.get("content-encoding", ""))
    received = 0
    async for chunk in _paced(request, config):
        for piece in decode(chunk):
            received += len(piece)
            if received > config.max_request_bytes:
                raise PayloadTooLarge(f"a request holds at most {config.max_request_bytes} bytes")
            yield piece
    for piece in decode(b""):
        yield piece


async def whole_body(request: Request, config: DicomwebConfig, most: int) -> bytes:
    """The decoded body; raises as `body_of`, and PayloadTooLarge beyond `most` bytes."""
    data = bytearray()
    async for piece in body_of(request, config):
        data += piece
        if len(data) > most:
            raise PayloadTooLarge(f"this request holds at most {most} bytes")
    return bytes(data)


def _check_length(request: Request, config: DicomwebConfig) -> None:
    """Refuse at once what announces more than is taken."""
    text = request.headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit()):
        raise BadRequest("Content-Length is not a number")
    if len(text) > 18 or int(text) > config.max_request_bytes:
        raise PayloadTooLarge(f"a request holds at most {config.max_request_bytes} bytes")


async def _paced(request: Request, config: DicomwebConfig) -> AsyncIterator[bytes]:
    """The pieces as they come; a body that stands still or only drips is given up."""
    started, received = time.monotonic(), 0
    stream = request.stream()
    while True:
        with anyio.move_on_after(config.body_idle_s) as idle:
            chunk = await anext(stream, None)
        if idle.cancelled_caught:
            raise RequestTimeout(f"nothing more of the body came for {config.body_idle_s:g} s")
        if chunk is None:
            return
        received += len(chunk)
        waited = time.monotonic() - started
        if waited > config.body_idle_s and received < waited * config.min_body_rate:
            raise RequestTimeout(
                f"the body comes slower than {config.min_body_rate} bytes a second"
            )
        yield chunk


Decode = Callable[[bytes], Iterator[bytes]]


def decoder_of(coding: str) -> Decode:
    """What undoes a Content-Encoding; an empty piece ends the body."""
    name = coding.strip().lower()
    if name in ("", "identity"):
        return lambda data: iter((data,) if data else ())
    if name not in _CODINGS:
        raise UnsupportedMediaType("a request body is plain, gzip or deflate", taken=list(_CODINGS))
    return _Inflater(_CODINGS[name]).feed


class _Inflater:
    """Inflates in small steps and gives up on a bomb."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._inflater = zlib.decompressobj(window)
        self._taken = self._made = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Inflated pieces of the next data; empty data ends the body."""
        if not data:
            yield from self._end()
        self._taken += len(data)
        while data:
            if self._inflater.eof:  # gzip members may follow each other (RFC 1952 section 2.2)
                if not data.strip(b"\0"):
                    return
                self._inflater = zlib.decompressobj(self._window)
            yield from self._checked(partial(self._inflater.decompress, data, _STEP))
            data = self._inflater.unused_data or self._inflater.unconsumed_tail

    def _end(self) -> Iterator[bytes]:
        yield from self._checked(self._inflater.flush)
        if self._taken and not self._inflater.eof:
            raise BadRequest("the compressed body is cut off")

    def _checked(self, inflate: Callable[[], bytes]) -> Iterator[bytes]:
        try:
            piece = inflate()
        except zlib.error:
            raise BadRequest("the body is not what its Content-Encoding says") from None
        self._made += len(piece)
        if self._made > max(_BOMB_BYTES, self._taken * _BOMB_RATIO):
            raise PayloadTooLarge("the compressed body inflates beyond all measure")
        if piece:
            yield piece
