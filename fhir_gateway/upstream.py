"""The way from the FHIR door to the FHIR store: one connection pool, few headers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
from yarl import URL

from access.grants import HEADER, Rights
from fhir_gateway.config import GatewayConfig
from fhir_gateway.outcome import FHIR_JSON, Refusal

PASSED_UP = (
    "accept",
    "content-type",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-none-exist",
    "prefer",
)
PASSED_DOWN = ("content-type", "etag", "last-modified", "location", "content-location")
_VERSION = re.compile(r"/_history/([A-Za-z0-9\-.]{1,64})\Z", re.ASCII)
CHUNK = 64 * 1024
PEEK_BYTES = 256 * 1024
RETRY_AFTER_S = "5"


class Upstream:
    """Sends requests to the store, each with a grant; the caller's token never leaves us."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self._internal = config.records_url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the pool."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def send(
        self,
        method: str,
        path: str,
        query: str,
        *,
        rights: Rights,
        headers: Mapping[str, str],
        body: bytes | AsyncIterator[bytes] | None = None,
        extra: Mapping[str, str] = {},
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request with these rights; the answer is open inside the block.

        Raises:
            Refusal: 503 when the store does not answer.
        """
        url = URL(f"{self._internal}/{path}" + (f"?{query}" if query else ""), encoded=True)
        sent = {name: headers[name] for name in PASSED_UP if name in headers}
        sent |= {"Accept-Encoding": "identity", **extra}
        sent[HEADER] = self._config.grants.sign(rights, method, path)
        try:
            answer = await self._pool().request(
                method, url, data=body, headers=sent, allow_redirects=False
            )
        except (aiohttp.ClientError, TimeoutError) as error:
            if isinstance(error.__cause__, Refusal):
                raise error.__cause__ from None  # our own refusal of the body that was being sent
            raise store_away() from error
        async with answer:
            yield answer

    def public_headers(self, answer: aiohttp.ClientResponse) -> dict[str, str]:
        """The answer's headers that a client may see, with links on our base."""
        found = {n: answer.headers[n] for n in PASSED_DOWN if n in answer.headers}
        for name in ("location", "content-location"):
            if name in found:
                found[name] = found[name].replace(self._internal, self._config.fhir_base)
        if "etag" not in found and (version := _VERSION.search(found.get("content-location", ""))):
            found["etag"] = f'W/"{version[1]}"'  # HAPI sends none after a PATCH
        return found | {"cache-control": "no-store"}

    def public_body(self, body: bytes) -> bytes:
        """A Bundle's links on our base, whatever base the store wrote."""
        return body.replace(self._internal.encode(), self._config.fhir_base.encode())

    async def read_all(self, answer: aiohttp.ClientResponse, limit: int) -> bytes:
        """The whole answer, or a 502 when it is larger than we look at."""
        content = await self.beginning(answer, limit + 1)
        if len(content) > limit:
            raise Refusal(502, "the answer is too large; ask for a smaller page")
        return content

    async def beginning(self, answer: aiohttp.ClientResponse, size: int = PEEK_BYTES) -> bytes:
        """So much of an answer, or a little more; all of it, where it is smaller.

        Raises:
            Refusal: 503 when the store breaks off.
        """
        read = bytearray()
        try:
            while len(read) < size and (part := await answer.content.readany()):
                read += part
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Refusal(503, "the FHIR store broke off its answer") from error
        return bytes(read)

    def _pool(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=50),
                timeout=aiohttp.ClientTimeout(total=self._config.upstream_timeout_s, connect=5.0),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


async def stream(
    answer: aiohttp.ClientResponse, stack: AsyncExitStack, begun: bytes = b""
) -> AsyncIterator[bytes]:
    """The answer's body in pieces; `stack` holds the connection and is closed at the end.

    Args:
        begun: what was read of it already.
    """
    async with stack:
        if begun:
            yield begun
        async for part in answer.content.iter_chunked(CHUNK):
            yield part


def store_away() -> Refusal:
    """The refusal for a store that does not answer."""
    return Refusal(503, "the FHIR store does not answer", headers={"Retry-After": RETRY_AFTER_S})


def json_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Request headers for the store, with JSON asked for whatever the client accepts beside it.

    Raises:
        Refusal: 406 when the client takes only something else.
    """
    accept = headers.get("accept", "*/*").lower()
    if not any(word in accept for word in ("json", "*/*", "application/*")):
        raise Refusal(406, "this server speaks JSON only")
    return {**{k.lower(): v for k, v in headers.items()}, "accept": FHIR_JSON}
