"""Deciding about a kick-off: what the caller may have, what we can do, what is left aside."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import get_args

from access import Caller
from fhir_gateway.bulk.compartment import COMPARTMENT_TYPES, patient_id
from fhir_gateway.bulk.parameters import KNOWN, ONCE, instant, listed, single, type_filters
from fhir_gateway.bulk.request import (
    NDJSON,
    PARQUET,
    Associated,
    ExportRequest,
    Format,
    Level,
)
from fhir_gateway.bulk.rules import may_export
from fhir_gateway.grammar import Judge
from fhir_gateway.model import HIDDEN_TYPES, ServerModel
from fhir_gateway.outcome import Refusal
from fhir_gateway.searching import INCLUDES, Pairs, parse_query

# Binary has no compartment, and what is hidden at the door is hidden here.
NEVER_EXPORTED = HIDDEN_TYPES | {"Binary"}
MAX_PATIENTS = 10_000
_FORMATS: dict[str, Format] = {
    NDJSON: "ndjson",
    "application/ndjson": "ndjson",
    "ndjson": "ndjson",
    PARQUET: "parquet",
    "parquet": "parquet",
}
_ASSOCIATED: dict[str, Associated] = {
    "LatestProvenanceResources": "latest",
    "RelevantProvenanceResources": "relevant",
}
_ELEMENT = re.compile(r"(?:([A-Z][A-Za-z]{1,63})\.)?[a-z][A-Za-z]{0,63}\Z", re.ASCII)
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}\Z", re.ASCII)


@dataclass(slots=True)
class KickOff:
    """One kick-off being judged. With `lenient`, what we cannot do is noted and left aside."""

    caller: Caller
    model: ServerModel
    level: Level
    group: str | None
    url: str
    pairs: Pairs
    lenient: bool
    _notes: list[str] = field(default_factory=list)

    def judged(self) -> ExportRequest:
        """The request that can be worked on.

        Raises:
            Refusal: 400 not understood or not supported, 403 not granted.
        """
        for name in sorted({n for n, _ in self.pairs} - KNOWN):
            shown = name[:40] if name.isascii() and name.isprintable() else "a parameter"
            self._leave(f"the parameter {shown} is not supported")
        once = {name: single(self.pairs, name) for name in ONCE}
        since, until = once["_since"], once["_until"]
        types, filters = self._types(), {}
        associated = self._associated()
        if types:
            filters = self._filters(types)
        return ExportRequest(
            url=self.url,
            level=self.level,
            group=self.group,
            types=types,
            filters=filters,
            since=None if since is None else instant("_since", since),
            until=None if until is None else instant("_until", until, upper=True),
            elements=self._elements(),
            patients=self._patients(),
            associated=associated,
            format=self._format(once["_outputFormat"], once["organizeOutputBy"]),
            organized=self._organized(once["organizeOutputBy"]),
            partial=once["allowPartialManifests"] == "true",
            notes=tuple(self._notes),
        )

    def _leave(self, what: str) -> None:
        """Refuse, or with lenient handling note that it is left aside."""
        if not self.lenient:
            raise Refusal(400, what, code="not-supported")
        self._notes.append(what)

    def _types(self) -> tuple[str, ...]:
        possible = frozenset(self.model.parameters) - NEVER_EXPORTED
        if self.level != "system":
            possible &= COMPARTMENT_TYPES
        granted = frozenset(kind for kind in possible if may_export(self.caller, kind))
        if not granted:
            raise Refusal(403, "the token does not grant read and search of what is to be exported")
        asked = listed(self.pairs, "_type")
        if not asked:
            return tuple(sorted(granted))
        for kind in asked:
            if kind not in possible:
                self._leave(f"cannot be exported here: {_shown(kind)}")
            elif kind not in granted:
                if not self.lenient:
                    raise Refusal(403, f"the token does not grant {kind}.rs")
                self._notes.append(f"not granted: {kind}")
        return tuple(kind for kind in asked if kind in granted)

    def _filters(self, types: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        judge = Judge(self.caller, self.model)
        found: dict[str, list[str]] = {}
        for one in type_filters(self.pairs):
            kind, _, query = one.partition("?")
            if kind not in types:
                self._leave(f"_typeFilter names a type that is not exported: {_shown(kind)}")
                continue
            try:
                if any(name.split(":")[0] in INCLUDES for name, _ in parse_query(query)):
                    raise Refusal(400, "it brings nothing of another type")
                found.setdefault(kind, []).append(judge.condition(kind, query))
            except Refusal as refusal:
                if refusal.status == 403:
                    raise
                self._leave(f"_typeFilter of {kind}: {refusal}")
        return {kind: tuple(queries) for kind, queries in found.items() if queries}

    def _elements(self) -> tuple[str, ...]:
        found = []
        for one in listed(self.pairs, "_elements"):
            if match := _ELEMENT.match(one):
                if match[1] and not self.model.knows(match[1]):
                    self._leave("_elements names an unknown type")
                    continue
                found.append(one)
            else:
                self._leave("_elements takes root elements only")
        return tuple(found)

    def _patients(self) -> tuple[str, ...] | None:
        asked = listed(self.pairs, "patient")
        if not asked:
            return None
        if self.level == "system":
            # Leaving it aside would export everyone, so lenient handling does not reach here.
            raise Refusal(400, "patient is for exports of Patient and Group")
        ids = [patient_id(one) or one for one in asked]
        if len(ids) > MAX_PATIENTS or not all(_ID.match(one) for one in ids):
            raise Refusal(400, f"patient takes references to Patient, at most {MAX_PATIENTS}")
        return tuple(dict.fromkeys(ids))

    def _associated(self) -> Associated:
        found: set[Associated] = set()
        for one in listed(self.pairs, "includeAssociatedData"):
            if one not in _ASSOCIATED:
                self._leave("includeAssociatedData has a value that is not supported")
            else:
                found.add(_ASSOCIATED[one])
        if found and not may_export(self.caller, "Provenance"):
            raise Refusal(403, "the token does not grant Provenance.rs")
        # The larger one where both are asked for.
        return next((one for one in reversed(get_args(Associated)) if one in found), "")

    def _format(self, asked: str | None, organize_by: str | None) -> Format:
        chosen = _FORMATS.get((asked or NDJSON).split(";")[0].strip().replace(" ", "+"))
        if chosen is None:
            raise Refusal(400, f"the output formats are {NDJSON} and {PARQUET}")
        if chosen == "parquet" and organize_by:
            raise Refusal(400, "Parquet files are organized by type only", code="not-supported")
        return chosen

    def _organized(self, by: str | None) -> bool:
        if by not in (None, "", "Patient"):
            self._leave("organizeOutputBy takes Patient only")
            return False
        return by == "Patient"


def _shown(kind: str) -> str:
    return kind[:64] if kind.isascii() and kind.isalnum() else "what is no resource type"
