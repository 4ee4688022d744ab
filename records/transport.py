"""fhirpy's asynchronous client on one shared connection pool, with retries and typed errors."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
import structlog
from fhirpy import AsyncFHIRClient
from fhirpy.base.utils import AttrDict

from records.errors import (
    Denied,
    NotFound,
    PreconditionFailed,
    RecordsError,
    RecordsUnavailable,
    Rejected,
    StoreFailed,
    VersionConflict,
)

FHIR_JSON = "application/fhir+json"
Credentials = Callable[[str, str], Mapping[str, str]]
"""From method and path below the base to the headers that let a request in."""
# A delete meets the store's own work on a resource that was made a moment ago; with this it tries
# again by itself instead of answering 409.
RETRY_CONFLICT = {"X-Retry-On-Version-Conflict": "retry; max-retries=5"}
RETRIED_STATUS = frozenset({429, 502, 503, 504})
FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 5.0

log = structlog.get_logger(__name__)


class FhirTransport(AsyncFHIRClient):
    """A fhirpy client whose every request goes through one aiohttp session.

    fhirpy opens a session for each request, which costs a TCP connection each time; its
    extension point is `_do_request`. GET is repeated after any connection error; a write is
    repeated only where it is safe: when the connection was never made, when the server said
    that it did not take the request, or when the caller says the request is idempotent.
    """

    def __init__(
        self, url: str, credentials: Credentials | None, *, timeout_s: float, attempts: int
    ) -> None:
        super().__init__(url.rstrip("/"))
        self._credentials = credentials
        self._base_path = urlsplit(url).path.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=min(5.0, timeout_s))
        self._attempts = attempts
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the pool; the next request opens a new one."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _do_request(
        self,
        method: str,
        path: str,
        data: Any = None,
        params: dict[str, Any] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        *,
        returning_status: bool = False,
    ) -> Any:
        status, _, body = await self.request(
            method, path, data=data, params=params, headers=extra_headers
        )
        # Only here: each AttrDict is a cycle of its own, which waits for a full collection.
        body = json.loads(json.dumps(body), object_hook=AttrDict)
        return (body, status) if returning_status else body

    async def request(
        self,
        method: str,
        path: str,
        *,
        data: Any = None,
        params: dict[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        idempotent: bool | None = None,
    ) -> tuple[int, Mapping[str, str], Any]:
        """Send one request and return status, headers and parsed body.

        Args:
            idempotent: whether the request may be sent again after it may have been carried
                out. Default: GET, HEAD, PUT and DELETE may.
        """
        if idempotent is None:
            idempotent = method.upper() in ("GET", "HEAD", "PUT", "DELETE")
        url = self._build_request_url(path, params)
        sent = {**self._build_request_headers(), **(headers or {})}
        body = None if data is None else _encode(data)
        if body is not None:
            sent.setdefault("Content-Type", FHIR_JSON)
        delay = FIRST_DELAY_S
        for attempt in range(1, self._attempts + 1):
            try:
                return await self._once(method, url, body, {**sent, **self._shown(method, url)})
            except RecordsUnavailable as error:
                refused = error.status in RETRIED_STATUS or isinstance(
                    error.__cause__, aiohttp.ClientConnectorError
                )
                if attempt == self._attempts or not (idempotent or refused):
                    raise
            # Full jitter: several processes must not come back in step after an outage.
            await asyncio.sleep(delay * (0.5 + random.random() / 2))  # noqa: S311
            delay = min(delay * 2, LONGEST_DELAY_S)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _shown(self, method: str, url: str) -> Mapping[str, str]:
        """What lets this very request in; made for each attempt, as it lives a minute."""
        if self._credentials is None:
            return {}
        return self._credentials(method, urlsplit(url).path.removeprefix(self._base_path))

    async def _once(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], Any]:
        try:
            async with self._pool().request(method, url, data=body, headers=headers) as answer:
                text = await answer.text()
                if answer.status >= 400:
                    raise error_for(answer.status, text, "If-Match" in headers)
                return answer.status, answer.headers, json.loads(text) if text else None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise RecordsUnavailable(f"no answer: {type(error).__name__}") from error

    def _pool(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            connector = aiohttp.TCPConnector(limit=20, keepalive_timeout=20)
            self._session = aiohttp.ClientSession(connector=connector, timeout=self._timeout)
        return self._session


def _encode(data: Any) -> bytes:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


def error_for(status: int, text: str, conditional: bool) -> RecordsError:
    """The error that an HTTP status of the store stands for."""
    issues = _issues(text)
    if status in RETRIED_STATUS:
        return RecordsUnavailable(f"HTTP {status}", status=status, issues=issues)
    if status == 409 or (status == 412 and conditional):
        return VersionConflict(f"HTTP {status}", status=status, issues=issues)
    kinds: dict[int, type[RecordsError]] = {
        401: Denied,
        403: Denied,
        404: NotFound,
        410: NotFound,
        412: PreconditionFailed,
    }
    kind = kinds.get(status, StoreFailed if status >= 500 else Rejected)
    return kind(f"HTTP {status}", status=status, issues=issues)


def _issues(text: str) -> list[dict[str, Any]]:
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError:
        return []
    issues = parsed.get("issue", []) if isinstance(parsed, dict) else []
    return [issue for issue in issues if isinstance(issue, dict)]
