"""Facts at rest: the few things that Hilum asks of its FHIR store."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from records.errors import NotFound, RecordsError, VersionConflict
from records.transport import FHIR_JSON, RETRY_CONFLICT, Credentials, FhirTransport

Resource = dict[str, Any]
CREATE_ATTEMPTS, CREATE_DELAY_S = 4, 0.1
Params = Mapping[str, Any] | Iterable[tuple[str, Any]]


class Records:
    """Asynchronous access to the FHIR store with what lets each request in.

    Every write that may be repeated by a retry is one that FHIR makes idempotent: a
    conditional create, an update, or a transaction that the caller has built from these.
    """

    def __init__(
        self,
        base_url: str,
        credentials: Credentials | None,
        *,
        timeout_s: float = 30.0,
        attempts: int = 5,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._transport = FhirTransport(
            self.base_url, credentials, timeout_s=timeout_s, attempts=attempts
        )

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
        """Close the connections."""
        await self._transport.close()

    @property
    def fhirpy(self) -> FhirTransport:
        """The fhirpy client on the same pool, for its search and resource API."""
        return self._transport

    async def read(self, resource_type: str, resource_id: str) -> Resource:
        """The current version of a resource. Raises NotFound when there is none."""
        _, _, body = await self._transport.request("GET", f"{resource_type}/{resource_id}")
        return _resource(body)

    async def read_binary(self, resource_id: str) -> tuple[str, bytes]:
        """Media type and bytes of a Binary."""

        binary = await self.read("Binary", resource_id)
        return str(binary.get("contentType", "")), b64decode(binary.get("data", ""))

    async def search(self, resource_type: str, params: Params = ()) -> list[Resource]:
        """Every match, and what it includes, over all pages."""
        return [found async for found in self.pages(resource_type, params)]

    async def pages(self, resource_type: str, params: Params = ()) -> AsyncIterator[Resource]:
        """Matches and included resources one by one; the next page is fetched when needed."""
        path: str = resource_type
        sent: dict[str, Any] | None = _as_lists(params)
        while True:
            _, _, bundle = await self._transport.request("GET", path, params=sent)
            for entry in bundle.get("entry", []):
                if "resource" in entry:
                    yield _resource(entry["resource"])
            following = _next_link(bundle)
            if following is None:
                return
            path, sent = self._on_our_base(following), None

    async def first(self, resource_type: str, params: Params = ()) -> Resource | None:
        """One match, or None."""
        sent = {**_as_lists(params), "_count": ["1"]}
        _, _, bundle = await self._transport.request("GET", resource_type, params=sent)
        matches = [e["resource"] for e in bundle.get("entry", []) if _is_match(e)]
        return _resource(matches[0]) if matches else None

    async def count(self, resource_type: str, params: Params = ()) -> int:
        """Number of matches."""
        sent = {**_as_lists(params), "_summary": ["count"]}
        _, _, bundle = await self._transport.request("GET", resource_type, params=sent)
        return int(bundle["total"])

    async def create(self, resource: Resource, *, if_none_exist: str | None = None) -> Resource:
        """Create a resource, or return the one that the condition already matches.

        Args:
            resource: with resourceType, without id.
            if_none_exist: search query such as `identifier=system|value`, percent-encoded.
        """
        headers = {"Prefer": "return=representation"}
        if if_none_exist is not None:
            headers["If-None-Exist"] = if_none_exist
        path, attempts = resource["resourceType"], 1 if if_none_exist is None else CREATE_ATTEMPTS
        while True:
            attempts -= 1
            try:
                _, answer, body = await self._transport.request(
                    "POST",
                    path,
                    data=resource,
                    headers=headers,
                    idempotent=if_none_exist is not None,
                )
                break
            except VersionConflict:
                # Of two at once the store takes one and gives the other a 409; it finds it now.
                if not attempts:
                    raise
                await asyncio.sleep(CREATE_DELAY_S)
        if body is not None and body.get("resourceType") == path:
            return _resource(body)
        return await self._at(answer)

    async def update(self, resource: Resource, *, if_match: bool = True) -> Resource:
        """Replace a resource by id, by default only if it is still the version that was read.

        Raises:
            VersionConflict: it has changed since.
        """
        headers = {"Prefer": "return=representation"}
        version = resource.get("meta", {}).get("versionId")
        if if_match and version is None:
            raise ValueError("an update with If-Match needs meta.versionId")
        if if_match:
            headers["If-Match"] = f'W/"{version}"'
        path = f"{resource['resourceType']}/{resource['id']}"
        # With If-Match a repeat after a lost answer would look like somebody else's change.
        _, _, body = await self._transport.request(
            "PUT", path, data=resource, headers=headers, idempotent=not if_match
        )
        return _resource(body)

    async def delete(self, resource_type: str, resource_id: str) -> None:
        """Delete a resource; one that is gone already is no error."""
        try:
            await self._transport.request(
                "DELETE", f"{resource_type}/{resource_id}", headers=RETRY_CONFLICT
            )
        except NotFound:
            return

    async def transaction(
        self, entries: list[dict[str, Any]], *, idempotent: bool = False
    ) -> list[dict[str, Any]]:
        """Carry out all entries or none; returns the response entries in the same order.

        Args:
            entries: Bundle.entry with fullUrl, resource, request.
            idempotent: every entry may be carried out twice, so a lost answer is retried.
        """
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        headers = {"Prefer": "return=representation"}
        _, _, body = await self._transport.request(
            "POST", "", data=bundle, headers=headers, idempotent=idempotent
        )
        answers = body.get("entry", [])
        if len(answers) != len(entries):
            raise RecordsError("the transaction's answer has another number of entries")
        return [dict(answer) for answer in answers]

    async def validate(self, resource: Resource, *, profile: str | None = None) -> list[Resource]:
        """Issues of the store's validator, those of severity information included."""
        params = {"profile": [profile]} if profile else None
        path = f"{resource['resourceType']}/$validate"
        try:
            _, _, outcome = await self._transport.request(
                "POST", path, data=resource, params=params, idempotent=True
            )
        except RecordsError as error:
            if error.issues:
                return error.issues
            raise
        return [dict(issue) for issue in outcome.get("issue", [])]

    async def operation(
        self,
        method: str,
        path: str,
        *,
        params: Params = (),
        data: Resource | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Mapping[str, str], Any]:
        """Any other request under the base; returns status, headers and parsed body."""
        sent = _as_lists(params) or None
        return await self._transport.request(
            method, path, params=sent, data=data, headers={"Accept": FHIR_JSON, **(headers or {})}
        )

    async def _at(self, headers: Mapping[str, str]) -> Resource:
        """Read what a create's Location header points to."""
        location = headers.get("Location") or headers.get("Content-Location")
        if not location:
            raise RecordsError("the store created a resource and did not say where")
        parts = urlsplit(location).path.split("/_history/", 1)[0].split("/")
        return await self.read(parts[-2], parts[-1])

    def _on_our_base(self, link: str) -> str:
        """A paging link on the internal base, whatever public base the store put in it."""
        parts = urlsplit(link)
        path = parts.path
        resource_path = path.rsplit("/fhir", 1)[-1].lstrip("/")
        return f"{self.base_url}/{resource_path}?{parts.query}"


def _as_lists(params: Params) -> dict[str, Any]:
    pairs = params.items() if isinstance(params, Mapping) else params
    result: dict[str, Any] = {}
    for name, value in pairs:
        values = value if isinstance(value, list | tuple) else [value]
        result.setdefault(name, []).extend(str(one) for one in values)
    return result


def _next_link(bundle: Resource) -> str | None:
    for link in bundle.get("link", []):
        if link.get("relation") == "next":
            return str(link["url"])
    return None


def _is_match(entry: Resource) -> bool:
    return entry.get("search", {}).get("mode", "match") == "match" and "resource" in entry


def _resource(value: Any) -> Resource:
    if not isinstance(value, dict) or "resourceType" not in value:
        raise RecordsError("the answer is not a FHIR resource")
    return value
