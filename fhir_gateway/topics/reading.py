"""What a subscription's client may read now: each question goes to the FHIR store in its name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import orjson

from access import Caller, Scopes
from access.rights import rights_of
from fhir_gateway.outcome import FHIR_JSON
from fhir_gateway.topics.config import Standing
from fhir_gateway.topics.store import Subscription
from fhir_gateway.upstream import Upstream
from records import RecordsUnavailable

LIMIT_BYTES = 16 * 1024 * 1024
IDS_AT_ONCE = 50


class NotUnderstood(Exception):
    """The store does not understand the question, and will not when it is asked again."""


class Reading:
    """Reads in the name of the clients that have subscribed."""

    def __init__(self, upstream: Upstream, standing: Standing | None = None) -> None:
        self._upstream = upstream
        self._standing = standing

    async def caller_of(self, held: Subscription) -> Caller:
        """The client with the rights that it has now: never more than when it subscribed."""
        scopes = held.scopes
        if self._standing is not None:
            left = await asyncio.to_thread(self._standing, held.client, scopes)
            scopes = scopes if left is None else left
        return Caller(held.subject, "system", Scopes.parse(scopes), client=held.client)

    async def readable(
        self, caller: Caller, resource_type: str, ids: Iterable[str], criteria: str = ""
    ) -> set[str]:
        """Which of these resources the client may find, and match the criteria.

        Raises:
            RecordsUnavailable: the store does not answer.
            NotUnderstood: the criteria are none.
        """
        found: set[str] = set()
        if not (caller.may(resource_type, "s") and caller.may(resource_type, "r")):
            return found
        wanted = list(dict.fromkeys(ids))
        for start in range(0, len(wanted), IDS_AT_ONCE):
            some = wanted[start : start + IDS_AT_ONCE]
            query = f"_id={'%2C'.join(some)}&_count={len(some)}&_elements=id"
            if criteria:
                query += f"&{criteria}"
            bundle = await self._get(caller, resource_type, query)
            if bundle is None:
                raise NotUnderstood
            for entry in bundle.get("entry", []):
                if entry.get("search", {}).get("mode") == "match":
                    found.add(str(entry["resource"]["id"]))
        return found

    async def read(self, caller: Caller, resource_type: str, identity: str) -> Any:
        """A resource as the client may see it now; None when it may not, or it is gone.

        Raises:
            RecordsUnavailable: the store does not answer.
        """
        if not caller.may(resource_type, "r"):
            return None
        return await self._get(caller, f"{resource_type}/{identity}", "")

    async def store_time(self, caller: Caller, resource_type: str) -> datetime:
        """The FHIR store's own time, by which it dates what happens from now on.

        Raises:
            RecordsUnavailable: the store does not answer.
        """
        bundle = await self._get(caller, resource_type, "_count=1&_elements=id")
        if bundle is None:
            raise RecordsUnavailable("the store does not tell its time")
        return datetime.fromisoformat(bundle["meta"]["lastUpdated"])

    async def _get(self, caller: Caller, path: str, query: str) -> Any:
        async with self._upstream.send(
            "GET", path, query, rights=rights_of(caller), headers={"accept": FHIR_JSON}
        ) as answer:
            content = await self._upstream.read_all(answer, LIMIT_BYTES)
            # Our grant was not taken: a clock or a key is wrong, which is no answer about this.
            if answer.status >= 500 or answer.status in (401, 429):
                raise RecordsUnavailable(f"HTTP {answer.status}", status=answer.status)
            return orjson.loads(content) if answer.status == 200 else None
