"""multipart/related as a stream (RFC 2046, RFC 2387): read in pieces of any size, and written."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from starlette.responses import Response, StreamingResponse

from dicomweb.errors import MalformedMultipart, PayloadTooLarge

MAX_PREAMBLE = 64 * 1024
MAX_HEADERS = 16 * 1024
MAX_PADDING = 256
# RFC 2046 allows 70 characters; Orthanc's DICOMweb plugin sends 73.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,199}[0-9A-Za-z'()+_,\-./:=?]")


@dataclass(frozen=True, slots=True)
class PartBegin:
    """A part starts; header names are in lower case."""

    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PartData:
    """The next bytes of the current part."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The current part is complete."""


Event = PartBegin | PartData | PartEnd


class _State(Enum):
    PREAMBLE = auto()
    AFTER_BOUNDARY = auto()
    HEADERS = auto()
    BODY = auto()
    EPILOGUE = auto()


class MultipartParser:
    """Takes the body in pieces and gives the parts as events; holds no more than a piece.

    Senders differ: a line end before the first boundary, no Content-Type in a part, LF instead
    of CRLF. The line end after the first boundary decides which of the two delimits the whole
    message, so that binary data that ends in CR keeps its last byte.
    """

    def __init__(self, boundary: str, *, max_parts: int = 10_000) -> None:
        if not _BOUNDARY.fullmatch(boundary):
            raise MalformedMultipart("the boundary parameter is missing or not valid")
        self._dash = b"--" + boundary.encode("ascii")
        self._delimiter = b"\r\n" + self._dash
        self._max_parts = max_parts
        self._buffer = bytearray()
        self._state = _State.PREAMBLE
        self._parts = 0
        self._line_end = b""

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events that become known with the next piece of the body."""
        self._buffer += data
        steps = {
            _State.PREAMBLE: self._preamble,
            _State.AFTER_BOUNDARY: self._after_boundary,
            _State.HEADERS: self._headers,
            _State.BODY: self._body,
        }
        while self._state is not _State.EPILOGUE:
            before = (self._state, len(self._buffer))
            yield from steps[self._state]()
            if (self._state, len(self._buffer)) == before:
                return
        self._buffer.clear()

    def finish(self) -> None:
        """The body has ended: refuse one that stops before its closing boundary."""
        if self._state is _State.PREAMBLE:
            raise MalformedMultipart("the body holds no boundary")
        if self._state is not _State.EPILOGUE:
            raise MalformedMultipart("the body ends before its closing boundary")

    def _preamble(self) -> Iterator[Event]:
        position = self._buffer.find(self._dash)
        while position > 0 and self._buffer[position - 1] != 0x0A:
            position = self._buffer.find(self._dash, position + 1)
        if position < 0:
            if len(self._buffer) > MAX_PREAMBLE:
                raise MalformedMultipart("the body does not begin with its boundary")
            return
        del self._buffer[: position + len(self._dash)]
        self._state = _State.AFTER_BOUNDARY
        yield from ()

    def _after_boundary(self) -> Iterator[Event]:
        """`--` closes the message, a line end (after white space) opens a part."""
        rest = bytes(self._buffer[:MAX_PADDING])
        if rest.startswith(b"--"):
            self._state = _State.EPILOGUE
            return
        line = rest.lstrip(b" \t")
        ends = [self._line_end] if self._line_end else [b"\r\n", b"\n"]
        found = next((end for end in ends if line.startswith(end)), None)
        if found is None:
            if len(rest) < MAX_PADDING and line in (b"", b"\r", b"-"):
                return
            raise MalformedMultipart("a boundary is not followed by a line end")
        if not self._line_end:
            self._line_end = found
            self._delimiter = found + self._dash
        self._parts += 1
        if self._parts > self._max_parts:
            raise PayloadTooLarge(f"more than {self._max_parts} parts")
        del self._buffer[: len(rest) - len(line) + len(found)]
        self._state = _State.HEADERS
        yield from ()

    def _headers(self) -> Iterator[Event]:
        end = self._line_end
        if self._buffer.startswith(end):
            block, used = b"", len(end)
        else:
            position = self._buffer.find(end + end)
            if position < 0:
                if len(self._buffer) > MAX_HEADERS:
                    raise MalformedMultipart("the headers of a part do not end")
                return
            block, used = bytes(self._buffer[:position]), position + 2 * len(end)
        if len(block) > MAX_HEADERS:
            raise MalformedMultipart("the headers of a part are too long")
        del self._buffer[:used]
        # A part without any data ends with the delimiter right here: its line end is this one.
        self._buffer[:0] = end
        self._state = _State.BODY
        self._skip = len(end)
        yield PartBegin(_parse_headers(block))

    def _body(self) -> Iterator[Event]:
        position = self._find_delimiter()
        if position is None:
            # Keep what could be the beginning of a delimiter and the padding behind it.
            keep = len(self._delimiter) + 2
            ready = len(self._buffer) - keep
            if ready > self._skip:
                yield from self._take(ready)
            return
        yield from self._take(position)
        del self._buffer[: len(self._delimiter)]
        self._state = _State.AFTER_BOUNDARY
        yield PartEnd()

    def _find_delimiter(self) -> int | None:
        """Position of the next delimiter line; data that only looks like one is stepped over."""
        position = self._buffer.find(self._delimiter)
        while position >= 0:
            behind = bytes(self._buffer[position + len(self._delimiter) :][:2])
            if len(behind) < 2:
                return None if not behind.startswith(b"\n") else position
            if behind == b"--" or behind[:1] in (b"\r", b"\n", b" ", b"\t"):
                return position
            position = self._buffer.find(self._delimiter, position + 1)
        return None

    def _take(self, count: int) -> Iterator[Event]:
        data = bytes(self._buffer[self._skip : count])
        del self._buffer[:count]
        self._skip = 0
        if data:
            yield PartData(data)

    _skip = 0


def _parse_headers(block: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    unfolded = re.sub(rb"\r?\n[ \t]+", b" ", block)
    for line in unfolded.splitlines():
        name, colon, value = line.partition(b":")
        if not colon or not name.strip():
            raise MalformedMultipart("a part has a header line without a colon")
        headers[name.strip().decode("latin-1").lower()] = value.strip().decode("latin-1")
    return headers


def new_boundary() -> str:
    """A boundary that no content holds, for all practical purposes (128 random bits)."""
    return f"hilum-{secrets.token_hex(16)}"


def part_head(boundary: str, content_type: str, *, location: str | None = None) -> bytes:
    """The delimiter line and headers before a part's content."""
    lines = [f"--{boundary}", f"Content-Type: {content_type}"]
    if location is not None:
        lines.append(f"Content-Location: {location}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


PART_TAIL = b"\r\n"


def closing(boundary: str) -> bytes:
    """The delimiter that ends the message."""
    return f"--{boundary}--\r\n".encode("ascii")


def many_parts(
    kind: str, parts: Iterable[bytes], headers: Mapping[str, str] | None = None
) -> Response:
    """A multipart/related answer of small parts, one after the other."""
    boundary = new_boundary()
    head = part_head(boundary, kind)

    def body() -> Iterator[bytes]:
        for part in parts:
            yield head + part + PART_TAIL
        yield closing(boundary)

    media_type = f'multipart/related; type="{kind}"; boundary={boundary}'
    return StreamingResponse(body(), media_type=media_type, headers=headers)
