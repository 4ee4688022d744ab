"""What the FHIR store knows: resource types, search parameters and what references point to.

Read from the store's own CapabilityStatement, so a new SearchParameter is known here as well.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from records import Records

REFRESH_S = 300.0
# A Subscription holds the secret of the hook it calls, so the FHIR door does not know the type.
HIDDEN_TYPES = frozenset({"Subscription"})
# Parameters of every type. HAPI lists not all of them in its CapabilityStatement.
COMMON_PARAMETERS = {
    "_id": "token",
    "_lastUpdated": "date",
    "_tag": "token",
    "_profile": "uri",
    "_security": "token",
    "_source": "uri",
}
# What HAPI 8.8 lists and cannot do: it answers with 500 or 400 (HAPI-1204).
BROKEN_PARAMETERS = frozenset(
    {
        ("DocumentReference", "relationship"),
        ("MolecularSequence", "chromosome-variant-coordinate"),
        ("MolecularSequence", "chromosome-window-coordinate"),
        ("MolecularSequence", "referenceseqid-variant-coordinate"),
        ("MolecularSequence", "referenceseqid-window-coordinate"),
    }
)


@dataclass(frozen=True, slots=True)
class ServerModel:
    """Types, parameters (type -> name -> kind) and targets ((type, name) -> types)."""

    parameters: Mapping[str, Mapping[str, str]]
    targets: Mapping[tuple[str, str], frozenset[str]]

    @classmethod
    def of(cls, capability: Mapping[str, Any]) -> ServerModel:
        """From a CapabilityStatement of HAPI."""
        parameters: dict[str, dict[str, str]] = {}
        targets: dict[tuple[str, str], set[str]] = {}
        for resource in capability["rest"][0]["resource"]:
            kind = resource["type"]
            if kind in HIDDEN_TYPES:
                continue
            listed = {p["name"]: p["type"] for p in resource.get("searchParam", [])}
            own = {
                name: type_
                for name, type_ in listed.items()
                if not name.startswith("_") and (kind, name) not in BROKEN_PARAMETERS
            }
            parameters[kind] = own | COMMON_PARAMETERS
            # "Source:param" here means that this parameter of Source may point to this type.
            for pair in resource.get("searchRevInclude", []):
                source, _, name = pair.partition(":")
                targets.setdefault((source, name), set()).add(kind)
        return cls(parameters, {key: frozenset(types) for key, types in targets.items()})

    def knows(self, resource_type: str) -> bool:
        """Whether the store has this resource type."""
        return resource_type in self.parameters

    def about_patients(self) -> frozenset[str]:
        """Patient, and the types that name one: what Patient and Group exports hold."""
        named = {
            source
            for (source, name), types in self.targets.items()
            if name in ("patient", "subject") and "Patient" in types
        }
        return frozenset(named | {"Patient"})

    def kind(self, resource_type: str, parameter: str) -> str | None:
        """token, date, reference, ... of a parameter; None when the type has no such one."""
        return self.parameters.get(resource_type, {}).get(parameter)

    def targets_of(self, resource_type: str, parameter: str) -> frozenset[str]:
        """Types that a reference parameter may lead to."""
        return self.targets.get((resource_type, parameter), frozenset())


class ModelSource:
    """The store's CapabilityStatement and the model in it, fetched when needed and kept."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._lock = asyncio.Lock()
        self._read_at: float | None = None
        self._capability: dict[str, Any] = {}
        self._model = ServerModel({}, {})

    async def model(self) -> ServerModel:
        """The current model."""
        await self._refresh()
        return self._model

    async def capability(self) -> dict[str, Any]:
        """The store's CapabilityStatement; not to be changed in place."""
        await self._refresh()
        return self._capability

    async def _refresh(self) -> None:
        if self._read_at is not None and time.monotonic() - self._read_at < REFRESH_S:
            return
        async with self._lock:
            if self._read_at is not None and time.monotonic() - self._read_at < REFRESH_S:
                return
            _, _, capability = await self._records.operation("GET", "metadata")
            self._capability = capability
            self._model = ServerModel.of(capability)
            self._read_at = time.monotonic()
