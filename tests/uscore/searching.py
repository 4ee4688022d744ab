"""Runs one search of the bar in every form that it must be answered in, and says what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import httpx

from tests.uscore.bar import Group, Search, group
from tests.uscore.matcher import ADDRESS, HUMAN_NAME, range_of, satisfies, texts, tokens, values

Json = dict[str, Any]
Criteria = dict[str, str]
SEEDS = 4  # distinct value sets that are tried for each search
CODE_SYSTEMS = {
    ("Patient", "gender"): "http://hl7.org/fhir/administrative-gender",
    ("Encounter", "status"): "http://hl7.org/fhir/encounter-status",
    ("DiagnosticReport", "status"): "http://hl7.org/fhir/diagnostic-report-status",
    ("DocumentReference", "status"): "http://hl7.org/fhir/document-reference-status",
    ("ServiceRequest", "status"): "http://hl7.org/fhir/request-status",
    ("Observation", "status"): "http://hl7.org/fhir/observation-status",
}
TIMES = frozenset({"date", "dateTime", "instant", "Period"})


@dataclass(frozen=True)
class Answer:
    """All pages of one search."""

    status: int
    kind: str
    resources: tuple[Json, ...]
    others: tuple[Json, ...] = ()

    @property
    def ids(self) -> set[str]:
        return {one["id"] for one in self.resources}


class Searcher:
    """Searches through the gateway and judges the answers by what is stored."""

    def __init__(self, client: httpx.Client, stored: dict[str, list[Json]]) -> None:
        self._client = client
        self._stored = stored
        self._known: dict[str, list[str]] = {}

    def get(self, kind: str, criteria: Criteria, **more: str) -> Answer:
        """GET, with every further page."""
        return self._pages(self._client.get(f"/fhir/{kind}", params=criteria | more))

    def post(self, kind: str, criteria: Criteria) -> Answer:
        """POST _search, with every further page."""
        return self._pages(self._client.post(f"/fhir/{kind}/_search", data=criteria))

    def _pages(self, answer: httpx.Response) -> Answer:
        status, kind, entries = answer.status_code, "", []
        while answer.status_code == 200:
            bundle = answer.json()
            kind = bundle["type"]
            entries += bundle.get("entry", [])
            following = [x["url"] for x in bundle.get("link", []) if x["relation"] == "next"]
            if not following:
                break
            answer = self._client.get(following[0])
            status = answer.status_code
        matches = tuple(e["resource"] for e in entries if e["search"]["mode"] == "match")
        others = tuple(e["resource"] for e in entries if e["search"]["mode"] != "match")
        return Answer(status, kind, matches, others)

    def problems(self, search: Search) -> list[str]:
        """Everything that is wrong with the answers to one search of the bar.

        Most searches are the same in all versions; those are made once.
        """
        ours = group(search.version, search.group)
        same = repr((ours.profile, [(n, ours.parameter(n)) for n in search.names]))
        if same not in self._known:
            self._known[same] = self._problems(ours, search)
        return self._known[same]

    def _problems(self, ours: Group, search: Search) -> list[str]:
        seeds = list(islice(self.seeds(ours, search), SEEDS))
        if not seeds:
            return ["no stored resource has values for it"]
        found = [problem for seed in seeds for problem in self._both_ways(ours, seed)]
        found += self._other_forms(ours, seeds[0])
        found += self._alternatives(ours, seeds)
        found += self._paging(ours, seeds[0])
        return found

    def stored(self, kind: str) -> list[Json]:
        """The example data."""
        return self._stored.get(kind, [])

    def seeds(self, ours: Group, search: Search) -> Iterator[Criteria]:
        """Values of resources that the profile is about."""
        seen: set[tuple[str, ...]] = set()
        for one in self.stored(search.resource):
            profiles = [p.partition("|")[0] for p in one.get("meta", {}).get("profile", [])]
            if ours.profile not in profiles:
                continue
            criteria = {name: first_value(one, ours.parameter(name)) for name in search.names}
            if None in criteria.values() or tuple(criteria.values()) in seen:
                continue
            seen.add(tuple(criteria.values()))
            yield criteria

    def expected(self, ours: Group, criteria: Criteria, *, doubtful: bool) -> set[str]:
        """Ids of what is stored and satisfies all criteria."""
        return {
            one["id"]
            for one in self.stored(ours.resource)
            if all(
                satisfies(one, ours.parameter(name), value, doubtful=doubtful)
                for name, value in criteria.items()
            )
        }

    def _judged(self, ours: Group, criteria: Criteria, answer: Answer, how: str) -> list[str]:
        """Status, kind, precision and recall of one answer."""
        said = f"{how} {criteria}"
        if answer.status != 200 or answer.kind != "searchset":
            return [f"{said}: {answer.status} {answer.kind}"]
        wrong = [
            one["id"]
            for one in answer.resources
            for name, value in criteria.items()
            if not satisfies(one, ours.parameter(name), value, doubtful=True)
        ]
        lost = self.expected(ours, criteria, doubtful=False) - answer.ids
        problems = [f"{said}: {one} does not satisfy it" for one in wrong]
        problems += [f"{said}: {one} is not found" for one in lost]
        if len(answer.ids) != len(answer.resources):
            problems.append(f"{said}: a resource comes twice")
        return problems

    def _both_ways(self, ours: Group, criteria: Criteria) -> list[str]:
        by_get = self.get(ours.resource, criteria)
        by_post = self.post(ours.resource, criteria)
        problems = self._judged(ours, criteria, by_get, "GET")
        problems += self._judged(ours, criteria, by_post, "POST")
        if by_get.ids != by_post.ids:
            problems.append(f"{criteria}: GET and POST differ")
        return problems + ([] if by_get.ids else [f"{criteria}: nothing is found"])

    def _other_forms(self, ours: Group, criteria: Criteria) -> list[str]:
        """Patient/ID, token with its system, comparators of dates."""
        problems = []
        for name, value in criteria.items():
            parameter = ours.parameter(name)
            for other, same in forms(ours.resource, name, value, parameter, self.stored):
                changed = criteria | {name: other}
                answer = self.get(ours.resource, changed)
                problems += self._judged(ours, changed, answer, "GET")
                if same and answer.ids != self.get(ours.resource, criteria).ids:
                    problems.append(f"{changed}: not the same as {criteria}")
        return problems

    def _alternatives(self, ours: Group, seeds: list[Criteria]) -> list[str]:
        problems = []
        for name in seeds[0]:
            if ours.parameter(name).get("multiple_or") == "MAY":
                continue
            every = {first_value(one, ours.parameter(name)) for one in self.stored(ours.resource)}
            joined = seeds[0] | {name: ",".join(sorted(filter(None, every)))}
            problems += self._judged(ours, joined, self.get(ours.resource, joined), "GET")
        return problems

    def _paging(self, ours: Group, criteria: Criteria) -> list[str]:
        whole = self.get(ours.resource, criteria)
        paged = self.get(ours.resource, criteria, _count="2")
        if paged.ids != whole.ids or len(paged.resources) != len(whole.resources):
            return [f"{criteria}: pages of 2 give {len(paged.ids)}, not {len(whole.ids)}"]
        return []


def first_value(resource: Json, parameter: Json) -> str | None:
    """A value of this resource to search by, in the short form."""
    for path in parameter["paths"]:
        for one in values(resource, path):
            if (value := as_value(one, parameter["type"])) is not None:
                return value
    return None


def as_value(found: Any, kind: str) -> str | None:
    """A search value that meets this element."""
    if kind == "Reference":
        return found.get("reference", "").rpartition("/")[2] or None
    if kind in ("CodeableConcept", "Coding", "Identifier"):
        return next((code for _, code in tokens(found) if code), None)
    if kind in ("HumanName", "Address"):
        parts = HUMAN_NAME if kind == "HumanName" else ADDRESS
        return next(iter(texts(found, parts)), None)
    if kind == "Period":
        return f"ge{found['start'][:10]}" if "start" in found else None
    return found if isinstance(found, str) else None


def forms(
    resource: str, name: str, value: str, parameter: Json, stored: Any
) -> Iterable[tuple[str, bool]]:
    """Other values for the same parameter, and whether they must find exactly the same."""
    kind = parameter["type"]
    if kind == "Reference" and name == "patient":
        yield f"Patient/{value}", True
    if kind == "code" and (system := CODE_SYSTEMS.get((resource, name))):
        yield f"{system}|{value}", True
    if kind in ("CodeableConcept", "Coding", "Identifier"):
        pairs = (
            pair
            for one in stored(resource)
            for path in parameter["paths"]
            for found in values(one, path)
            for pair in tokens(found)
        )
        yield next(f"{system}|{code}" for system, code in pairs if code == value), False
    if kind in TIMES:
        plain = value.removeprefix("ge")
        start = range_of(plain)[0]
        written = (f"{start:%Y-%m-%d}", f"{start:%Y-%m}", f"{start:%Y}", plain)
        for comparator in parameter["comparators"]:
            yield from ((f"{comparator}{one}", False) for one in written)
    if kind == "string" or kind == "HumanName":
        yield value[:3].upper(), False
