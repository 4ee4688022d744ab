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

    Both may be in use meanwhile. What is not shipped yet is not missed. Events from before the
    first record that is still in the spool are not judged, nor are those of other machines.
    """
    known: set[str] = set()
    missing: list[SpooledRecord] = []
    for page in _pages(records(folder)):
        known |= {one.id for one in page}
        found = await _stored(store, page)
        for one in page:
            if one.id not in found:
                missing.append(one)
            elif not _same(found[one.id], one):
                yield _finding(one, "changed in the store")
    async for finding in _missing(folder, store, missing):
        yield finding
    async for finding in _unknown(folder, store, known):
        yield finding


async def _missing(
    folder: Path, store: Records, missing: list[SpooledRecord]
) -> AsyncIterator[Finding]:
    # What is not waiting now was shipped before now, so that a second look must find it.
    excused = {one.id for one in SpoolReader(folder).next_batch(1_000_000).records}
    excused |= _refused(folder)
    for page in _pages(one for one in missing if one.id not in excused):
        found = await _stored(store, page)
        for one in page:
            if one.id not in found:
                yield _finding(one, "missing in the store")


async def _unknown(folder: Path, store: Records, known: set[str]) -> AsyncIterator[Finding]:
    since = _since(folder)
    if since is None:
        return
    strange = []
    async for event in store.pages("AuditEvent", {"date": f"gt{since}", "_count": PAGE}):
        if _is_of_this_machine(event) and event["id"] not in known:
            strange.append(str(event["id"]))
    # Some may have been written since we read the spool.
    written = {one.id for one in records(folder)} if strange else set()
    for one in strange:
        if one not in written:
            text = f"AuditEvent/{one} in the store is of no record in the spool"
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


async def _stored(store: Records, page: list[SpooledRecord]) -> dict[str, dict[str, Any]]:
    ids = ",".join(one.id for one in page)
    found = await store.search("AuditEvent", {"_id": ids, "_count": PAGE})
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
