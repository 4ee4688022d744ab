"""Probes of what the CapabilityStatement declares, many in one request where that can be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlencode

import httpx

Json = dict[str, Any]
IN_A_BATCH = 50
AT_ONCE = 5  # parameters in one search
VALUES = {
    "token": "x",
    "date": "2020-01-01",
    "string": "x",
    "reference": "x",
    "uri": "https://example.org/x",
    "number": "1",
    "quantity": "1",
}
SPECIAL = {"near": "1.0|1.0|1|km"}
COMPOSITES = {"quantity": "x$1", "date": "x$2020-01-01"}  # by the end of the name
# What the store wants to see in a resource of these types, beside the type.
BODIES: dict[str, Json] = {
    "Bundle": {"type": "collection"},
    "ConceptMap": {"url": "https://example.org/map", "status": "draft"},
    "CodeSystem": {"url": "https://example.org/s", "status": "draft", "content": "not-present"},
    "SearchParameter": {
        "url": "https://example.org/parameter",
        "status": "draft",
        "code": "probe",
        "base": ["Basic"],
        "type": "string",
        "expression": "Basic.id",
    },
}


def body_of(kind: str) -> Json:
    """The least that the store takes for a resource of this type."""
    return {"resourceType": kind, **BODIES.get(kind, {})}


class Prober:
    """Asks the door, with a token that may do everything."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def refused(self, urls: Iterable[str]) -> list[str]:
        """The GET requests, below the base, that are not answered with 200."""
        asked = list(urls)
        answers = zip(asked, self.batch([("GET", url, None) for url in asked]), strict=True)
        return [
            f"{url}: {one['response']['status']}"
            for url, one in answers
            if not one["response"]["status"].startswith("200")
        ]

    def batch(self, requests: list[tuple[str, str, Json | None]]) -> list[Json]:
        """The entries that answer these requests: method, URL, resource."""
        answers: list[Json] = []
        for begin in range(0, len(requests), IN_A_BATCH):
            answers += self._batch(requests[begin : begin + IN_A_BATCH])
        return answers

    def _batch(self, requests: list[tuple[str, str, Json | None]]) -> list[Json]:
        entries = [
            {"request": {"method": method, "url": url}} | ({"resource": one} if one else {})
            for method, url, one in requests
        ]
        bundle = {"resourceType": "Bundle", "type": "batch", "entry": entries}
        answer = self._client.post("/fhir", json=bundle, timeout=300)
        assert answer.status_code == 200, answer.text
        return answer.json()["entry"]


def search_urls(resource: Json) -> Iterator[str]:
    """Searches by every parameter that a type declares, some in one."""
    pairs = [(one["name"], value_of(one)) for one in resource.get("searchParam", [])]
    for begin in range(0, len(pairs), AT_ONCE):
        some = pairs[begin : begin + AT_ONCE]
        yield f"{resource['type']}?" + urlencode([*some, ("_count", "1")])


def value_of(parameter: Json) -> str:
    """A value that the type of the parameter allows."""
    name = parameter["name"]
    if parameter["type"] == "composite" and name not in SPECIAL:
        return next((v for end, v in COMPOSITES.items() if name.endswith(end)), "x$x")
    return SPECIAL.get(name) or VALUES[parameter["type"]]


def include_urls(resource: Json, at_once: int = 60) -> Iterator[str]:
    """Searches that name every include that a type declares, many in one."""
    for name, declared in (
        ("_include", resource.get("searchInclude", [])),
        ("_revinclude", resource.get("searchRevInclude", [])),
    ):
        for begin in range(0, len(declared), at_once):
            pairs = [(name, one) for one in declared[begin : begin + at_once]]
            yield f"{resource['type']}?" + urlencode([("_id", "none-such"), *pairs])
