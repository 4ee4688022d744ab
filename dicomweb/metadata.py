"""WADO-RS metadata: the archive's ready JSON with ETag and gzip, at the three levels."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from hashlib import sha256

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from archive import Archive, InstanceNotFound, Query, SeriesMetadata
from dicomweb.door import Visit, in_thread
from dicomweb.media import DICOM_JSON, Offer, choose
from dicomweb.search import SERIES_UID, STUDY_UID

_JSON = (Offer(DICOM_JSON), Offer("application/json"))
# The archive writes BulkDataURIs relative to the series. A quote inside a JSON text is always
# escaped, so these bytes are never part of a value.
_SERIES_RELATIVE = b'"BulkDataURI":"instances/'
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


async def series_metadata(visit: Visit) -> Response:
    """GET /studies/{study}/series/{series}/metadata."""
    media_type = choose(visit.accept, _JSON).part
    found = await in_thread(visit.archive.metadata, visit.study, visit.series)
    packed = _takes_gzip(visit.request)
    headers = _headers(found.etag, packed)
    if _is_current(visit.request, found.etag):
        return Response(status_code=304, headers=headers)
    if packed:
        headers["Content-Encoding"] = "gzip"
        return Response(found.gzip, media_type=media_type, headers=headers)
    plain = await in_thread(gzip.decompress, found.gzip)
    return Response(plain, media_type=media_type, headers=headers)


async def study_metadata(visit: Visit) -> Response:
    """GET /studies/{study}/metadata: the series' arrays as one, streamed."""
    media_type = choose(visit.accept, _JSON).part
    series = await in_thread(_series_of_study, visit.archive, visit.study or "")
    parts = [(uid, await in_thread(visit.archive.metadata, visit.study, uid)) for uid in series]
    digest = sha256("".join(found.etag for _, found in parts).encode()).hexdigest()
    etag = f'"{digest[:32]}"'
    packed = _takes_gzip(visit.request)
    headers = _headers(etag, packed)
    if _is_current(visit.request, etag):
        return Response(status_code=304, headers=headers)
    body = _joined(parts)
    if packed:
        headers["Content-Encoding"] = "gzip"
        body = _compressed(body)
    return StreamingResponse(body, media_type=media_type, headers=headers)


async def instance_metadata(visit: Visit) -> Response:
    """GET .../instances/{instance}/metadata: an array of one."""
    media_type = choose(visit.accept, _JSON).part
    found = await in_thread(visit.archive.instance_metadata, visit.key)
    mine = f'"BulkDataURI":"instances/{visit.instance}/'.encode()
    text = orjson.dumps([found]).replace(mine, b'"BulkDataURI":"')
    etag = f'"{sha256(text).hexdigest()[:32]}"'
    headers = _headers(etag, True)
    if _is_current(visit.request, etag):
        return Response(status_code=304, headers=headers)
    return Response(text, media_type=media_type, headers=headers)


def _series_of_study(archive: Archive, study: str) -> list[str]:
    page = archive.series(Query.of({STUDY_UID: study}, limit=None))
    if not page.items:
        raise InstanceNotFound(f"study {study} is not stored")
    return [item[SERIES_UID]["Value"][0] for item in page.items]


def _joined(parts: list[tuple[str, SeriesMetadata]]) -> Iterator[bytes]:
    """One JSON array of all series; bulk data URIs become relative to the study."""
    before = b"["
    for uid, found in parts:
        text = gzip.decompress(found.gzip).strip()
        rebased = b'"BulkDataURI":"series/%s/instances/' % uid.encode("ascii")
        yield before + text[1:-1].replace(_SERIES_RELATIVE, rebased)
        before = b","
    yield b"]"


def _compressed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    # Level 1: a study's metadata is packed for each request, unlike that of a series.
    packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP_WINDOW)
    for piece in pieces:
        yield packer.compress(piece)
    yield packer.flush()


def _headers(etag: str, packed: bool) -> dict[str, str]:
    # A strong tag names one sequence of bytes; the unpacked form shares it only weakly.
    return {
        "ETag": etag if packed else f"W/{etag}",
        "Vary": "Accept, Accept-Encoding, Authorization",
        "Cache-Control": "private, no-cache",
    }


def _takes_gzip(request: Request) -> bool:
    accepted = request.headers.get("accept-encoding", "")
    codings = [item.replace(" ", "").lower() for item in accepted.split(",")]
    return any(one.split(";")[0] == "gzip" and not one.endswith("q=0") for one in codings)


def _is_current(request: Request, etag: str) -> bool:
    """Weak comparison, as If-None-Match asks for (RFC 9110 section 13.1.2)."""
    asked = request.headers.get("if-none-match", "")
    tags = {tag.strip().removeprefix("W/") for tag in asked.split(",")}
    return etag in tags or "*" in tags
