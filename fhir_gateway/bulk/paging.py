"""Pages of rows between two instants, some of them fetched before they are used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from fhir_gateway.bulk.files import Resource
from fhir_gateway.searching import Pairs


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, and the instant from which the next page goes on; None after the last one."""

    rows: list[Resource]
    onward: str | None


class Stretch:
    """Pages between two instants; the first of them is being fetched already."""

    def __init__(self, walk: AsyncIterator[Page], end: str | None) -> None:
        self._walk = walk
        self._end = end
        self.first = asyncio.ensure_future(anext(walk))

    async def pages(self) -> AsyncIterator[Page]:
        """All of them; the last one goes on where the next stretch begins."""
        page = await self.first
        while page.onward is not None:
            yield page
            page = await anext(self._walk)
        yield Page(page.rows, self._end)


def between(since: str, upper: tuple[str, str]) -> Pairs:
    """Parameters that limit rows to those changed from an instant on, up to the bound."""
    return [("_lastUpdated", f"ge{since}"), ("_lastUpdated", "".join(upper))]


def beyond(instant: str, upper: tuple[str, str]) -> bool:
    """Whether an instant is past a bound, which is a prefix (le, lt) and an instant."""
    prefix, last = upper
    return instant > last or (prefix == "lt" and instant == last)
