"""Rows of the FHIR store for an export: pages by key, histories, counts; outages are waited out.

Pages follow `_lastUpdated` and not an offset: what is written or deleted meanwhile moves no row
to another page, and any page can be asked for again after a restart. Measured against the
store's own export jobs (docs/reference/measurements.md).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import orjson
import structlog

from access import Caller
from access.grants import Rights
from access.internal_rights import EXPORT_HISTORY, EXPORTER
from access.rights import rights_of
from fhir_gateway.bulk.files import Resource
from fhir_gateway.bulk.paging import Page, Stretch, between, beyond
from fhir_gateway.bulk.parameters import written
from fhir_gateway.outcome import FHIR_JSON, Refusal
from fhir_gateway.searching import Pairs, encode_query
from fhir_gateway.upstream import Upstream

MOST_ROWS = 1000
AHEAD = 2
PAGE_BYTES = 8 * 1024 * 1024
LARGEST_ANSWER = 256 * 1024 * 1024
FORM = "application/x-www-form-urlencoded; charset=utf-8"
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
TRANSIENT = frozenset({401, 409, 429, 502, 503, 504})
BEGINNING = "1900-01-01T00:00:00.000Z"
ORDER = ("_sort", "_lastUpdated,_id")

log = structlog.get_logger(__name__)


class StoreAway(Exception):
    """The store did not answer for as long as we wait."""


class StoreRefused(Exception):
    """The store answered one question with an error that waiting does not mend."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the FHIR store answered {status}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Version:
    """One entry of a history; `resource` is None for a deletion."""

    kind: str
    id: str
    number: int
    deleted: bool
    resource: Resource | None


class Store:
    """The store as a caller sees it; with None, as we see it for questions of our own."""

    def __init__(
        self,
        upstream: Upstream,
        caller: Caller | None,
        *,
        patience_s: float,
        meanwhile: Callable[[], Awaitable[None]],
    ) -> None:
        self._upstream = upstream
        self._caller = caller
        self._limited = caller is not None and caller.limited
        # Totals stay inside: they tell which types have rows, and how far an export is.
        self._rights = EXPORTER if caller is None else replace(rights_of(caller), counts=True)
        self._patience_s = patience_s
        self._meanwhile = meanwhile
        self._rows = MOST_ROWS

    async def now(self) -> str:
        """The store's own time: its clock writes `lastUpdated`, so no other may set the bound."""
        bundle = await self._ask("GET", "Group", [("_summary", "count")])
        return written(datetime.fromisoformat(bundle["meta"]["lastUpdated"]))

    async def count(self, kind: str, pairs: Pairs) -> int:
        """How many resources match."""
        bundle = await self._ask("POST", f"{kind}/_search", [*pairs, ("_summary", "count")])
        return int(bundle.get("total", 0))

    async def read(self, kind: str, resource_id: str) -> Resource | None:
        """One resource; None when there is none (any more), or none for this client."""
        return await self._one(f"{kind}/{resource_id}", [])

    async def version(self, kind: str, resource_id: str, number: int) -> Resource | None:
        """One version of a resource; None as in `read`."""
        return await self.read(kind, f"{resource_id}/_history/{number}")

    async def as_of(self, kind: str, resource_id: str, moment: str) -> Version | None:
        """The version that was the newest at a moment; None when there was none."""
        pairs = [("_at", f"le{moment}"), ("_count", "1")]
        bundle = await self._one(f"{kind}/{resource_id}/_history", pairs)
        return next(iter(_versions(bundle)), None) if bundle else None

    async def history(self, kind: str, pairs: Pairs) -> AsyncIterator[list[Version]]:
        """Versions of all resources of a type, newest first.

        New versions push older ones to later pages, so one may come twice; none is left out. To a
        client that may see a part of the type only, ids and numbers are told, and no resource.
        """
        offset, size = 0, 500
        rights = self._rights if self.sees_all(kind) else EXPORT_HISTORY
        while True:
            paged = [*pairs, ("_count", str(size)), ("_offset", str(offset))]
            try:
                content = await self._bytes("GET", f"{kind}/_history", paged, rights=rights)
            except _TooLarge:
                if size == 1:
                    raise
                size = max(1, size // 8)
                continue
            found = list(_versions(orjson.loads(content)))
            yield found
            if len(found) < size:
                return
            offset += len(found)

    def sees_all(self, kind: str) -> bool:
        """Whether the client may see all of a type."""
        return self._caller is None or self._caller.may_on_all(kind, "s")

    async def search(self, kind: str, pairs: Pairs) -> list[Resource]:
        """All matches of a search that has few."""
        asked = [*pairs, ("_count", str(MOST_ROWS))]
        return _rows(await self._ask("POST", f"{kind}/_search", asked, held=MOST_ROWS))

    async def pages(
        self, kind: str, pairs: Pairs, since: str, upper: tuple[str, str]
    ) -> AsyncGenerator[Page]:
        """Matches in the order of their last change, from `since` on (this instant included).

        Args:
            upper: prefix and instant of the upper bound, such as ("le", "2026-...Z").

        While a page is used, the next ones are fetched: `AHEAD` at a time, so that no more than
        these and the one in use are in memory. A row may come again with a later page.
        """
        first = await anext(self._walk(kind, pairs, since, upper))
        yield first
        begin, coming = first.onward, deque[Stretch]()
        try:
            while begin is not None or coming:
                while begin is not None and len(coming) < AHEAD:
                    end = await self._edge(kind, pairs, begin, upper)
                    bound = upper if end is None else ("lt", end)
                    coming.append(Stretch(self._walk(kind, pairs, begin, bound), end))
                    begin = end
                stretch = coming.popleft()
                async for page in stretch.pages():
                    yield page
        finally:
            for one in coming:
                one.first.cancel()
            await asyncio.gather(*(one.first for one in coming), return_exceptions=True)

    async def _edge(
        self, kind: str, pairs: Pairs, since: str, upper: tuple[str, str]
    ) -> str | None:
        """The instant up to which matches fill a page and do not overfill it; None: none do."""
        asked = [*pairs, *between(since, upper), ORDER, ("_count", "1")]
        asked.append(("_offset", str(self._rows - 1)))
        rows = _rows(await self._ask("POST", f"{kind}/_search", asked, held=self._rows))
        if not rows or beyond(reached := updated(rows[0]), upper):
            return None
        return later(since, 0.001) if reached == since else reached

    async def _walk(
        self, kind: str, pairs: Pairs, since: str, upper: tuple[str, str]
    ) -> AsyncIterator[Page]:
        """The pages one after another; rows of the instant at which one ends come again."""
        while not beyond(since, upper):
            size, found = await self._page(kind, pairs + between(since, upper))
            # One that was changed after the store had found it is another version now.
            rows = [row for row in found if not beyond(updated(row), upper)]
            reached = updated(rows[-1]) if rows else since
            if not self._more(found, size, reached, since):
                yield Page(rows, None)
                return
            if reached == since:  # a whole page of one instant: a large transaction
                async for tied in self._tied(kind, pairs, since):
                    yield Page([row for row in tied if updated(row) == since], since)
                since = later(since, 0.001)
            else:
                yield Page(rows, reached)
                since = reached
        yield Page([], None)

    def _more(self, rows: list[Resource], size: int, reached: str, since: str) -> bool:
        if len(rows) >= size:
            return True
        # The store takes rows out of a page that a limited grant does not reach, so that a page
        # may be short before the end: then the end is where nothing new comes.
        return self._limited and bool(rows) and reached != since

    async def _page(self, kind: str, pairs: Pairs) -> tuple[int, list[Resource]]:
        """One page, of as many rows as fit into what we hold in memory, and that number."""
        while True:
            size = self._rows
            asked = [*pairs, ORDER, ("_count", str(size))]
            try:
                content = await self._bytes("POST", f"{kind}/_search", asked, held=size)
            except _TooLarge:
                if size == 1:
                    raise
                self._rows = max(1, size // 8)
                continue
            rows = _rows(orjson.loads(content))
            if rows:
                fitting = PAGE_BYTES * len(rows) // max(1, len(content))
                self._rows = max(1, min(MOST_ROWS, fitting, size * 4))
            return size, rows

    async def _tied(self, kind: str, pairs: Pairs, instant: str) -> AsyncIterator[list[Resource]]:
        """Matches of one instant, by pages of a search that the store keeps."""
        asked = [*pairs, *between(instant, ("le", instant)), ("_sort", "_id")]
        asked.append(("_count", str(min(self._rows, 500))))
        bundle = await self._ask("POST", f"{kind}/_search", asked)
        while True:
            yield _rows(bundle)
            following = [x["url"] for x in bundle.get("link", []) if x["relation"] == "next"]
            if not following:
                return
            query = str(following[0]).partition("?")[2]
            bundle = await self._following(query)

    async def _one(self, path: str, pairs: Pairs) -> dict[str, Any] | None:
        """What is there at a path; None when nothing is, or nothing for this client."""
        try:
            return await self._ask("GET", path, pairs)
        except StoreRefused as refused:
            if refused.status in (403, 404, 410):
                return None
            raise

    async def _following(self, query: str) -> dict[str, Any]:
        """A further page of a search that the store keeps."""
        asked = _Question("GET", "", query, None, None, self._rights)
        content = await self._patiently(lambda: self._once(asked))
        parsed: dict[str, Any] = orjson.loads(content)
        return parsed

    async def _ask(
        self, method: str, path: str, pairs: Pairs, *, held: int | None = None
    ) -> dict[str, Any]:
        content = await self._bytes(method, path, pairs, held=held)
        parsed: dict[str, Any] = orjson.loads(content)
        return parsed

    async def _bytes(
        self,
        method: str,
        path: str,
        pairs: Pairs,
        *,
        held: int | None = None,
        rights: Rights | None = None,
    ) -> bytes:
        query, body = encode_query(pairs), None
        if method == "POST":
            query, body = "", query.replace("%20", "+").encode()
        asked = _Question(method, path, query, body, held, rights or self._rights)
        return await self._patiently(lambda: self._once(asked))

    async def _patiently(self, ask: Callable[[], Awaitable[bytes]]) -> bytes:
        """Ask until the store answers. Raises StoreAway, StoreRefused."""
        end, pause = time.monotonic() + self._patience_s, FIRST_PAUSE_S
        while True:
            await self._meanwhile()
            try:
                return await ask()
            except StoreRefused as refused:
                if refused.status not in TRANSIENT:
                    raise
                status = refused.status
            if time.monotonic() > end:
                raise StoreAway
            log.info("bulk.store_away", status=status, pause_s=pause)
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE_S, pause * 2)

    async def _once(self, asked: _Question) -> bytes:
        headers = {"accept": FHIR_JSON} | ({"content-type": FORM} if asked.body is not None else {})
        extra: Mapping[str, str] = {}
        if asked.held is not None:  # one statement, and nothing of it kept in the store
            extra = {"Cache-Control": f"no-store, max-results={asked.held}"}
        try:
            async with self._upstream.send(
                asked.method,
                asked.path,
                asked.query,
                rights=asked.rights,
                headers=headers,
                body=asked.body,
                extra=extra,
            ) as answer:
                if answer.status != 200:
                    raise StoreRefused(answer.status)
                if (answer.content_length or 0) > LARGEST_ANSWER:
                    raise _TooLarge
                return await self._upstream.read_all(answer, LARGEST_ANSWER)
        except Refusal as refusal:
            if refusal.status == 502:
                raise _TooLarge from refusal
            raise StoreRefused(refusal.status) from refusal


@dataclass(frozen=True, slots=True)
class _Question:
    """One request to the store; `held`: the most rows, where the store is to keep no search."""

    method: str
    path: str
    query: str
    body: bytes | None
    held: int | None
    rights: Rights


class _TooLarge(StoreRefused):
    """The answer is larger than we hold in memory."""

    def __init__(self) -> None:
        super().__init__(413)


def _rows(bundle: Mapping[str, Any]) -> list[Resource]:
    return [
        entry["resource"]
        for entry in bundle.get("entry", [])
        if entry.get("search", {}).get("mode", "match") == "match"
    ]


def _versions(bundle: Mapping[str, Any]) -> list[Version]:
    found = []
    for entry in bundle.get("entry", []):
        parts = str(entry["request"]["url"]).split("/")
        kind, resource_id, number = parts[0], parts[1], int(parts[-1])
        deleted = entry["request"]["method"] == "DELETE"
        found.append(Version(kind, resource_id, number, deleted, entry.get("resource")))
    return found


def updated(resource: Resource) -> str:
    """When a resource was last changed, as we compare it."""
    return written(datetime.fromisoformat(resource["meta"]["lastUpdated"]))


def later(instant: str, seconds: float) -> str:
    """An instant some seconds after (before, when negative) another."""
    return written(datetime.fromisoformat(instant) + timedelta(seconds=seconds))
