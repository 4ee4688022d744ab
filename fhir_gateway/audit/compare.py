"""Holds the AuditEvents of the FHIR store against the spool they came from."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from access.audit import SpooledRecord, SpoolReader
from access.audit.chain import chains
from access.audit.record import decode
from access.audit.verify import Finding, records
from fhir_gateway.audit.event import to_audit_event
from fhir_gateway.audit.shipper import REJECTED
from records import Records

PAGE = 100
OURS = "Hilum "  # how AuditEvent.source.observer of our own begins


async def compare(folder: Path, store: Records) -> AsyncIterator[Finding]:
    """Records that the store lacks or has otherwise, and events of ours that no record stands for.

    What is not shipped yet is not missed. Events from before the first record that is still in
    the spool are not judged, nor are those of other machines.
    """
    waiting = {one.id for one in SpoolReader(folder).next_batch(1_000_000).records}
    refused = _refused(folder)
    known: set[str] = set()
    for page in _pages(records(folder)):
        wanted = [one for one in page if one.id not in waiting]
        known |= {one.id for one in page}
        found = await _stored(store, [one.id for one in wanted])
        for one in wanted:
            if one.id not in found and one.id not in refused:
                yield _finding(one, "missing in the store")
            elif one.id in found and not _same(found[one.id], one):
                yield _finding(one, "changed in the store")
    since = _since(folder)
    if since is not None:
        async for event in store.pages("AuditEvent", {"date": f"gt{since}", "_count": PAGE}):
            if _is_of_this_machine(event) and event["id"] not in known:
                text = f"AuditEvent/{event['id']} in the store is of no record in the spool"
                yield Finding("store", "unknown", 0, 0, text)


def _since(folder: Path) -> str | None:
    """The time from which every chain is still in the spool."""
    firsts = []
    for files in chains(folder).values():
        with files[0].open("rb") as file:
            line = file.readline()
        with contextlib.suppress(ValueError):
            firsts.append(decode(line).record.at.isoformat(timespec="milliseconds"))
    return max(firsts, default=None)


def _is_of_this_machine(event: dict[str, Any]) -> bool:
    ours = str(event["source"]["observer"].get("display", "")).startswith(OURS)
    hosts = {agent.get("network", {}).get("address") for agent in event["agent"]}
    return ours and socket.gethostname() in hosts


async def _stored(store: Records, ids: list[str]) -> dict[str, dict[str, Any]]:
    if not ids:
        return {}
    found = await store.search("AuditEvent", {"_id": ",".join(ids), "_count": PAGE})
    return {one["id"]: one for one in found}


def _same(stored: dict[str, Any], spooled: SpooledRecord) -> bool:
    content = {name: value for name, value in stored.items() if name != "meta"}
    plain = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return any(
        plain == orjson.dumps(to_audit_event(spooled, literal=literal), option=orjson.OPT_SORT_KEYS)
        for literal in (True, False)
    )


def _finding(one: SpooledRecord, kind: str) -> Finding:
    return Finding(one.source, kind, one.sequence, one.sequence, f"AuditEvent/{one.id}")


def _refused(folder: Path) -> set[str]:
    path = folder / REJECTED
    lines = path.read_bytes().splitlines() if path.exists() else []
    return {str(orjson.loads(line)["id"]) for line in lines}


def _pages(found: Iterable[SpooledRecord]) -> Iterator[list[SpooledRecord]]:
    rows = iter(found)
    while page := list(islice(rows, PAGE)):
        yield page
