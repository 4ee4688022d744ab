"""How a resource of the store becomes a row of an export."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import orjson

from fhir_gateway.bulk.elements import CHOICES, MANDATORY
from fhir_gateway.bulk.files import Resource

_BINARY = re.compile(r"Binary/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?\Z", re.ASCII)
_MARK = b'"Binary/'
SUBSETTED = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "SUBSETTED",
}
ALWAYS = frozenset({"resourceType", "id", "meta"})


class Shape:
    """Makes rows: attachments by absolute URL, and, where asked for, some elements only."""

    def __init__(self, fhir_base: str, elements: Iterable[str]) -> None:
        self._base = fhir_base
        self._elements = frozenset(elements)

    def rows(self, resources: Iterable[Resource]) -> list[Resource]:
        """The rows of some resources."""
        return [self._row(one) for one in resources]

    def _row(self, resource: Resource) -> Resource:
        if _MARK in orjson.dumps(resource):
            resource = self._absolute(resource)
        return self._subset(resource) if self._elements else resource

    def _absolute(self, node: Any) -> Any:
        """The same with each `url` that leads to one of our Binaries made absolute.

        A file is read far from here, where a relative URL leads nowhere.
        """
        if isinstance(node, list):
            return [self._absolute(item) for item in node]
        if not isinstance(node, dict):
            return node
        found = {name: self._absolute(value) for name, value in node.items()}
        url = found.get("url")
        if isinstance(url, str) and _BINARY.match(url):
            found["url"] = f"{self._base}/{url}"
        return found

    def _subset(self, resource: Resource) -> Resource:
        kind = resource["resourceType"]
        wanted = {
            one.rpartition(".")[2]
            for one in self._elements
            if "." not in one or one.startswith(f"{kind}.")
        }
        if not wanted and all("." in one for one in self._elements):
            return resource  # nothing was said about this type
        wanted |= MANDATORY.get(kind, frozenset())
        kept = {name: value for name, value in resource.items() if _kept(name, wanted)}
        meta = dict(kept.get("meta", {}))
        meta["tag"] = [*meta.get("tag", []), SUBSETTED]
        kept["meta"] = meta
        return kept


def _kept(name: str, wanted: set[str]) -> bool:
    plain = name.removeprefix("_")
    if plain in ALWAYS or plain in wanted:
        return True
    # value, or value[x], stands for valueQuantity and the like.
    return any(
        plain.startswith(choice := one.removesuffix("[x]")) and plain[len(choice) :][:1].isupper()
        for one in wanted
        if one.endswith("[x]") or one in CHOICES
    )
