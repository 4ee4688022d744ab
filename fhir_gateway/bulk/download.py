"""A finished file as an HTTP answer: whole, in ranges, or compressed; kept while it is fetched."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from fhir_gateway.bulk.jobs import BUSY_S, ExportFile

CHUNK = 256 * 1024
GZIP_WINDOW = 31  # zlib's way to say gzip
Busy = Callable[[], Awaitable[None]]


class KeptFile(FileResponse):
    """A file whose job does not expire while it is being sent."""

    def __init__(self, path: Path, busy: Busy, media_type: str, headers: dict[str, str]) -> None:
        super().__init__(path, headers=headers, media_type=media_type)
        self._busy = busy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        async with _kept(self._busy):
            await super().__call__(scope, receive, send)


def answer(
    path: Path, file: ExportFile, media_type: str, asked: Mapping[str, str], busy: Busy
) -> Response:
    """The response for a file; compressed where that is accepted and helps.

    Args:
        asked: the request's headers.
    """
    headers = {"Cache-Control": "no-store", "Vary": "Accept-Encoding"}
    if asked.get("if-none-match") == f'"{file.sha256}"':
        return Response(status_code=304, headers=headers | {"ETag": f'"{file.sha256}"'})
    if file.name.endswith(".ndjson") and _accepts_gzip(asked.get("accept-encoding", "")):
        headers |= {"Content-Encoding": "gzip", "ETag": f'"{file.sha256}-gzip"'}
        return StreamingResponse(_compressed(path, busy), headers=headers, media_type=media_type)
    digest = b64encode(bytes.fromhex(file.sha256)).decode()
    headers |= {"ETag": f'"{file.sha256}"', "Repr-Digest": f"sha-256=:{digest}:"}
    return KeptFile(path, busy, media_type, headers)


async def _compressed(path: Path, busy: Busy) -> AsyncIterator[bytes]:
    async with _kept(busy):
        packer = zlib.compressobj(level=1, wbits=GZIP_WINDOW)
        file = await asyncio.to_thread(path.open, "rb")
        with file:
            while part := await asyncio.to_thread(file.read, CHUNK):
                if packed := packer.compress(part):
                    yield packed
        yield packer.flush()


@contextlib.asynccontextmanager
async def _kept(busy: Busy) -> AsyncIterator[None]:
    """Say again and again that a file is in use."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(BUSY_S / 3)
            await busy()

    await busy()
    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)


def _accepts_gzip(accept_encoding: str) -> bool:
    for one in accept_encoding.lower().split(","):
        name, _, quality = one.partition(";")
        if name.strip() == "gzip":
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
