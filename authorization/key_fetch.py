"""Key sets that clients publish by URL: fetched, kept as long as they allow, and no longer.

A URL is fetched only over TLS and only from public addresses, whatever its name resolves to: a
client must not have us look at our own network. Hosts that the settings name are exempt.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
import structlog

from authorization.client_keys import MOST_KEYS
from authorization.errors import AuthorizationError

DEFAULT_S, SHORTEST_S, LONGEST_S = 300, 1, 24 * 3600
# A key that we do not know, or a failure, makes us look again; not more often than this.
AGAIN_S = 2.0
MAX_BYTES = 256 * 1024
TIMEOUT_S, LONGEST_FETCH_S = 5.0, 10.0
# One slow host must not hold up the clients of others.
MOST_AT_ONCE = 3
_MEMORY = 1_000
_MAX_AGE = re.compile(r"(?:^|[,\s])max-age\s*=\s*\"?(\d{1,9})", re.IGNORECASE | re.ASCII)
_NO_STORE = re.compile(r"(?:^|[,\s])no-(?:store|cache)\b", re.IGNORECASE | re.ASCII)

log = structlog.get_logger(__name__)


class KeysAway(AuthorizationError):
    """The client's key set cannot be had now, and our copy is too old."""

    def __init__(self) -> None:
        super().__init__("the client's key set cannot be fetched")


@dataclass(frozen=True, slots=True)
class _Copy:
    keys: Mapping[str, Any]
    fetched: float
    until: float


class KeySets:
    """Copies of key sets, by URL; safe to share between threads."""

    def __init__(self, hosts: tuple[str, ...] = ()) -> None:
        self._hosts = frozenset(hosts)
        self._copies: dict[str, _Copy] = {}
        self._failed: dict[str, float] = {}
        self._busy: Counter[str] = Counter()
        self._lock = threading.Lock()

    def of(self, url: str, *, fresh: bool = False) -> Mapping[str, Any]:
        """The key set at a URL: our copy while it may be kept, else fetched.

        Args:
            url: as it is registered.
            fresh: look again although our copy may still be kept, if it is not very new.

        Raises:
            KeysAway: it cannot be fetched, and there is no copy that may still be kept.
        """
        now = time.monotonic()
        with self._lock:
            copy, failed = self._copies.get(url), self._failed.get(url)
        kept = copy.keys if copy is not None and now < copy.until else None
        is_new = copy is not None and now - copy.fetched < AGAIN_S
        if kept is not None and (is_new or not fresh):
            return kept
        if failed is None or now - failed >= AGAIN_S:
            kept = self._looked(url) or kept
        if kept is None:
            raise KeysAway
        return kept

    def _looked(self, url: str) -> Mapping[str, Any] | None:
        """The key set, fetched now; None if that fails, or others are waiting for it already."""
        with self._lock:
            if self._busy[url] >= MOST_AT_ONCE:
                return None
            self._busy[url] += 1
        try:
            return self._keep(url, self._fetch(url))
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            log.warning("client keys not fetched", error=type(error).__name__)
            with self._lock:
                self._failed[url] = time.monotonic()
            return None
        finally:
            with self._lock:
                self._busy[url] -= 1

    def _keep(self, url: str, copy: _Copy) -> Mapping[str, Any]:
        with self._lock:
            if len(self._copies) >= _MEMORY or len(self._failed) >= _MEMORY:
                self._copies.clear()
                self._failed.clear()
            self._copies[url] = copy
            self._failed.pop(url, None)
        return copy.keys

    def _fetch(self, url: str) -> _Copy:
        parts = httpx.URL(url)
        address = self._address(parts)
        request = httpx.Request(
            "GET",
            parts.copy_with(host=address),
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "Host": parts.netloc.decode(),
            },
            # The certificate is that of the name, whatever address we chose for it.
            extensions={
                "sni_hostname": parts.host,
                "timeout": httpx.Timeout(TIMEOUT_S).as_dict(),
            },
        )
        body, end = b"", time.monotonic() + LONGEST_FETCH_S
        with (
            httpx.Client(trust_env=False, follow_redirects=False) as client,
            contextlib.closing(client.send(request, stream=True)) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise ValueError("another status than 200")
            # Raw: a few compressed bytes could be made into very many.
            for chunk in answer.iter_raw():
                body += chunk
                if len(body) > MAX_BYTES or time.monotonic() > end:
                    raise ValueError("a key set is not so large, and not so slow")
            lifetime_s = _lifetime_s(answer.headers.get("cache-control", ""))
        now = time.monotonic()
        return _Copy(_parsed(body), now, now + lifetime_s)

    def _address(self, url: httpx.URL) -> str:
        """The address to connect to; looked up once, so that it cannot change after the check."""
        found = socket.getaddrinfo(url.host, url.port or 443, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
        if url.host not in self._hosts:
            if url.scheme != "https":
                raise ValueError("not over TLS")
            if not all(ipaddress.ip_address(one).is_global for one in addresses):
                raise ValueError("not a public address")
        return addresses[0]


def _parsed(body: bytes) -> Mapping[str, Any]:
    keys = orjson.loads(body)
    listed = keys.get("keys") if isinstance(keys, dict) else None
    if not isinstance(listed, list) or len(listed) > MOST_KEYS:
        raise ValueError("not a key set")
    if not all(isinstance(one, dict) for one in listed):
        raise ValueError("not a key set")
    return dict(keys)


def _lifetime_s(cache_control: str) -> float:
    """How long a copy may be kept (RFC 9111 5.2.2), within our own bounds."""
    if _NO_STORE.search(cache_control):
        return SHORTEST_S
    found = _MAX_AGE.search(cache_control)
    return min(max(int(found[1]), SHORTEST_S), LONGEST_S) if found else DEFAULT_S
