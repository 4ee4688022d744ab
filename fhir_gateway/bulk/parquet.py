"""The Parquet form of an export: columns that every type has, and the whole resource as JSON.

Columns are the same in every file, so that files of one type can be read as one table.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from fhir_gateway.bulk.compartment import patients_of

_MOMENT = pa.timestamp("ms", tz="UTC")
SCHEMA = pa.schema(
    [
        pa.field("resource_type", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("version_id", pa.string()),
        pa.field("last_updated", _MOMENT),
        pa.field("patient_id", pa.string()),
        pa.field("status", pa.string()),
        pa.field("date", pa.string()),
        pa.field("code_system", pa.string()),
        pa.field("code", pa.string()),
        pa.field("code_display", pa.string()),
        pa.field("value_number", pa.float64()),
        pa.field("value_unit", pa.string()),
        pa.field("value_code", pa.string()),
        pa.field("value_text", pa.string()),
        pa.field("resource", pa.string(), nullable=False),
    ]
)
# The time that a resource is about, by its first element that is there.
_DATES = (
    "effectiveDateTime",
    "started",
    "performedDateTime",
    "onsetDateTime",
    "authoredOn",
    "occurrenceDateTime",
    "recordedDate",
    "date",
    "recorded",
    "issued",
    "birthDate",
)
_PERIODS = ("effectivePeriod", "performedPeriod", "period", "occurrencePeriod")


class ParquetRows:
    """One file being written; each call of `write` is a row group."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = pq.ParquetWriter(path, SCHEMA, compression="zstd")
        self.size = 0

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append resources."""
        if not rows:
            return
        table = pa.Table.from_pylist([_row(one) for one in rows], schema=SCHEMA)
        self._writer.write_table(table)
        self.size = self._path.stat().st_size

    def close(self) -> None:
        """Finish and make durable."""
        self._writer.close()
        handle = os.open(self._path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    @staticmethod
    def ids(path: Path) -> Iterator[str]:
        """Ids in a finished file."""
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["id"]):
                yield from batch.column(0).to_pylist()


def _row(resource: Mapping[str, Any]) -> dict[str, Any]:
    meta = resource.get("meta", {})
    patients = patients_of(resource)
    coding = _coding(resource.get("code") or resource.get("type"))
    value_coding = _coding(resource.get("valueCodeableConcept"))
    quantity = resource.get("valueQuantity", {})
    number = quantity.get("value", resource.get("valueInteger"))
    updated = meta.get("lastUpdated")
    return {
        "resource_type": resource["resourceType"],
        "id": resource["id"],
        "version_id": meta.get("versionId"),
        "last_updated": datetime.fromisoformat(updated) if updated else None,
        "patient_id": next(iter(patients)) if len(patients) == 1 else None,
        "status": resource.get("status"),
        "date": _date(resource),
        "code_system": coding.get("system"),
        "code": coding.get("code"),
        "code_display": coding.get("display"),
        "value_number": float(number) if isinstance(number, int | float) else None,
        "value_unit": quantity.get("code") or quantity.get("unit"),
        "value_code": value_coding.get("code"),
        "value_text": resource.get("valueString") or value_coding.get("display"),
        "resource": orjson.dumps(resource).decode(),
    }


def _coding(concept: Any) -> Mapping[str, Any]:
    """The first coding of a CodeableConcept, or of the first of several."""
    if isinstance(concept, list):
        concept = concept[0] if concept else None
    if not isinstance(concept, Mapping):
        return {}
    codings = concept.get("coding")
    if isinstance(codings, list) and codings and isinstance(codings[0], Mapping):
        return codings[0]
    return {"display": concept.get("text")} if isinstance(concept.get("text"), str) else {}


def _date(resource: Mapping[str, Any]) -> str | None:
    for name in _DATES:
        if isinstance(resource.get(name), str):
            return str(resource[name])
    for name in _PERIODS:
        period = resource.get(name)
        if isinstance(period, Mapping) and isinstance(period.get("start"), str):
            return str(period["start"])
    return None
