"""Parts of a representation by the Range header (RFC 9110 section 14), for one range of bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

_RANGE = re.compile(r"bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})", re.ASCII)


def ranged(
    request: Request,
    size: int,
    pieces: Iterator[bytes],
    media_type: str,
    etag: str,
    headers: Mapping[str, str],
) -> Response:
    """The representation as a whole, the part that was asked for (206), or 416.

    Several ranges in one request are answered with the whole, as RFC 9110 allows.
    """
    told = {**headers, "ETag": etag, "Accept-Ranges": "bytes"}
    wanted = asked_range(request.headers, size, etag)
    if wanted is None:
        told["Content-Length"] = str(size)
        return StreamingResponse(pieces, media_type=media_type, headers=told)
    begin, end = wanted
    if begin >= end:
        _close(pieces)
        told["Content-Range"] = f"bytes */{size}"
        return Response(status_code=416, headers=told)
    told |= {"Content-Range": f"bytes {begin}-{end - 1}/{size}", "Content-Length": str(end - begin)}
    part = _part(pieces, begin, end)
    return StreamingResponse(part, status_code=206, media_type=media_type, headers=told)


def asked_range(headers: Mapping[str, str], size: int, etag: str) -> tuple[int, int] | None:
    """First byte and the one behind the last; None for the whole; an empty one for 416."""
    match = _RANGE.fullmatch(headers.get("range", "").strip())
    if match is None or headers.get("if-range", etag) != etag:
        return None
    first, last = match.groups()
    if not first:
        if not last:
            return None
        return max(size - int(last), 0), size if int(last) else 0
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, size) if last else size


def _part(pieces: Iterator[bytes], begin: int, end: int) -> Iterator[bytes]:
    position = 0
    for piece in pieces:
        low, high = max(begin - position, 0), min(end - position, len(piece))
        position += len(piece)
        if low < high:
            yield piece[low:high]
        if position >= end:
            break
    _close(pieces)


def _close(pieces: Iterator[bytes]) -> None:
    close = getattr(pieces, "close", None)
    if close is not None:
        close()
