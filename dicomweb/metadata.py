"""WADO-RS metadata: the archive's ready JSON with ETag and gzip, or XML, at the three levels."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from hashlib import sha256

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from archive import Archive, InstanceNotFound, Query, SeriesMetadata
from dicomweb.door import Visit, in_thread
from dicomweb.media import DICOM_JSON, Offer, check_charset, choose, parse_weighted
from dicomweb.multipart import many_parts
from dicomweb.search import SERIES_UID, STUDY_UID
from dicomweb.xml import DICOM_XML, to_native

_FORMS = (Offer(DICOM_JSON), Offer("application/json"), Offer(DICOM_XML, multipart=True))
# The archive writes BulkDataURIs relative to the series. A quote inside a JSON text is always
# escaped, so these bytes are never part of a value.
_SERIES_RELATIVE = b'"BulkDataURI":"instances/'
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_TAGS = re.compile(r'(?:W/)?("[^"]*")|(\*)')


def _form(visit: Visit) -> Offer:
    check_charset(visit.request.query_params.getlist("charset"))
    return choose(visit.accept, _FORMS)


async def series_metadata(visit: Visit) -> Response:
    """GET /studies/{study}/series/{series}/metadata."""
    offer = _form(visit)
    found = await in_thread(visit.archive.metadata, visit.study, visit.series)
    if offer.multipart:
        return _as_xml(visit, [(visit.series or "", found)], found.etag)
    packed = _takes_gzip(visit.request)
    headers = _headers(found.etag, packed)
    if _is_current(visit.request, found.etag):
        return Response(status_code=304, headers=headers)
    if packed:
        headers["Content-Encoding"] = "gzip"
        return Response(found.gzip, media_type=offer.part, headers=headers)
    plain = await in_thread(gzip.decompress, found.gzip)
    return Response(plain, media_type=offer.part, headers=headers)


async def study_metadata(visit: Visit) -> Response:
    """GET /studies/{study}/metadata: the series' arrays as one, streamed."""
    offer = _form(visit)
    series = await in_thread(_series_of_study, visit.archive, visit.study or "")
    parts = [(uid, await in_thread(visit.archive.metadata, visit.study, uid)) for uid in series]
    digest = sha256("".join(found.etag for _, found in parts).encode()).hexdigest()
    etag = f'"{digest[:32]}"'
    if offer.multipart:
        return _as_xml(visit, parts, etag)
    packed = _takes_gzip(visit.request)
    headers = _headers(etag, packed)
    if _is_current(visit.request, etag):
        return Response(status_code=304, headers=headers)
    body = _joined(parts)
    if packed:
        headers["Content-Encoding"] = "gzip"
        body = _compressed(body)
    return StreamingResponse(body, media_type=offer.part, headers=headers)


async def instance_metadata(visit: Visit) -> Response:
    """GET .../instances/{instance}/metadata: an array of one."""
    offer = _form(visit)
    found = await in_thread(visit.archive.instance_metadata, visit.key)
    text = orjson.dumps([found])
    etag = f'"{sha256(text).hexdigest()[:32]}"'
    if offer.multipart:
        one = SeriesMetadata(etag, gzip.compress(text, compresslevel=1))
        return _as_xml(visit, [(visit.series or "", one)], etag)
    headers = _headers(etag, True)
    if _is_current(visit.request, etag):
        return Response(status_code=304, headers=headers)
    mine = f'"BulkDataURI":"instances/{visit.instance}/'.encode()
    text = text.replace(mine, b'"BulkDataURI":"')
    return Response(text, media_type=offer.part, headers=headers)


def _as_xml(visit: Visit, parts: list[tuple[str, SeriesMetadata]], etag: str) -> Response:
    """Native DICOM Model, one part an instance; its bulk data URIs are absolute."""
    tag = f'{etag[:-1]}-xml"'
    headers = _headers(tag, False)
    if _is_current(visit.request, tag):
        return Response(status_code=304, headers=headers)
    root = f"{visit.door.base_url(visit.request)}/studies/{visit.study}"

    def documents() -> Iterator[bytes]:
        for uid, found in parts:
            for document in orjson.loads(gzip.decompress(found.gzip)):
                yield to_native(document, f"{root}/series/{uid}/")

    return many_parts(DICOM_XML, documents(), headers)


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
    """Whether gzip is accepted (RFC 9110 section 12.5.3); a named coding goes before `*`."""
    accepted = ",".join(request.headers.getlist("accept-encoding"))
    weights = dict(parse_weighted(item) for item in accepted.split(","))
    named = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return named > 0


def _is_current(request: Request, etag: str) -> bool:
    """Weak comparison, as If-None-Match asks for (RFC 9110 section 13.1.2)."""
    asked = ",".join(request.headers.getlist("if-none-match"))
    return any(star or tag == etag for tag, star in _TAGS.findall(asked))
