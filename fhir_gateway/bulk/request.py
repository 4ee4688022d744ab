"""What an export is asked for, once it has been judged; and as JSON in the job's row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

Level = Literal["system", "patient", "group"]
Format = Literal["ndjson", "parquet"]
# Which Provenance an export holds: the types' own; the newest or all of each exported resource.
Associated = Literal["", "latest", "relevant"]

NDJSON = "application/fhir+ndjson"
PARQUET = "application/vnd.apache.parquet"
MEDIA_TYPES: Mapping[Format, str] = {"ndjson": NDJSON, "parquet": PARQUET}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """One export.

    Attributes:
        url: as the client asked, on our base; a POST's parameters are not in it.
        types: what is written, in this order.
        filters: type -> searches; a resource needs one of them. Checked and encoded.
        since: only what changed after this instant (RFC 3339, UTC, milliseconds).
        until: only what changed before this instant.
        elements: `[type.]element` names to keep; empty: all.
        patients: ids that it is limited to; None: no limit beyond the level's.
        organized: one block of lines for each patient instead of one type for each file.
        partial: files may be listed before all are there.
        notes: what was left aside, for the error file.
    """

    url: str
    level: Level
    group: str | None = None
    types: tuple[str, ...] = ()
    filters: Mapping[str, tuple[str, ...]]
    since: str | None = None
    until: str | None = None
    elements: tuple[str, ...] = ()
    patients: tuple[str, ...] | None = None
    associated: Associated = ""
    format: Format = "ndjson"
    organized: bool = False
    partial: bool = False
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For the job's row."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """From the job's row."""
        lists = {name: tuple(value) for name, value in stored.items() if isinstance(value, list)}
        filters = {kind: tuple(searches) for kind, searches in stored["filters"].items()}
        return cls(**{**stored, **lists, "filters": filters})
