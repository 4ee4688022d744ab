"""Rows of the index: a group of instances becomes visible in one transaction."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import orjson
import psycopg

from archive.keys import InstanceKey
from archive.rows import (
    Batch,
    Entry,
    Outcome,
    Row,
    WholeStudy,
    instance_row,
    series_row,
    study_row,
)

CHANNEL = "hilum_change"
_FEED_LOCK = "archive:feed"
_REMEMBERED = 64


def lock_feed(connection: psycopg.Connection) -> None:
    """Hold the feed until the transaction ends: numbers are given in the order of the commits."""
    connection.execute("select pg_advisory_xact_lock(hashtext(%s))", [_FEED_LOCK])


class Memory:
    """Studies as one writer left them, so that its next group need not read them again.

    Whether they still are so is checked by the database, by the number of their last change.
    """

    def __init__(self) -> None:
        self._studies: OrderedDict[str, tuple[int, WholeStudy]] = OrderedDict()

    def take(self, uids: set[str]) -> tuple[dict[str, int], Batch] | None:
        """Last changes and a batch to go on with, if all are known; they are forgotten here."""
        found = {uid: self._studies.pop(uid, None) for uid in uids}
        known, batch = {}, Batch([], [], [])
        for uid, one in found.items():
            if one is None:
                return None
            known[uid] = one[0]
            batch.go_on_with(one[1])
        return known, batch

    def keep(self, batch: Batch, last: dict[str, int]) -> None:
        """What a group left behind, once it is committed."""
        for uid, number in last.items():
            self._studies[uid] = (number, batch.only(uid))
        while len(self._studies) > _REMEMBERED:
            self._studies.popitem(last=False)


def enter(connection: psycopg.Connection, entries: list[Entry], memory: Memory) -> list[Outcome]:
    """Write a group in one transaction; an instance that is refused does not stop the others.

    The feed's lock serialises writers, which also keeps the counts right without row locks.
    One statement when the studies are as this writer left them and all instances are new.
    """
    remembered = memory.take({entry.header.key.study for entry in entries})
    if remembered is not None:
        known, batch = remembered
        outcomes = [batch.add(entry) for entry in entries]
        if _write(connection, batch, known, memory):
            return outcomes
    with connection.transaction():
        batch, known = _read(connection, entries)
        outcomes = [batch.add(entry) for entry in entries]
        _write(connection, batch, known, memory)
    return outcomes


def _read(connection: psycopg.Connection, entries: list[Entry]) -> tuple[Batch, dict[str, int]]:
    """The state before the group; nothing of it changes while the lock is held."""
    studies = sorted({entry.header.key.study for entry in entries})
    with connection.pipeline():
        lock_feed(connection)
        there = connection.execute(_PRESENT, [[e.header.key.instance for e in entries]])
        study_rows = connection.execute(_STUDIES, [studies])
        series_rows = connection.execute(_SERIES, [studies])
        found = study_rows.fetchall()
        batch = Batch(there.fetchall(), [row[1:] for row in found], series_rows.fetchall())
    return batch, {row[1]: row[0] for row in found}


def _write(
    connection: psycopg.Connection, batch: Batch, known: dict[str, int], memory: Memory
) -> bool:
    """Enter what was accepted; False, and nothing done, if the state was not as it was known."""
    if not batch.accepted:
        return True
    instances = [instance_row(entry, n) for n, entry in enumerate(batch.accepted, 1)]
    last = {row["study_uid"]: row["change"] for row in instances}
    places = {(row["study_uid"], row["series_uid"]): row["change"] for row in instances}
    parameters = [
        _json({uid: known[uid] for uid in last if uid in known}),
        _json([study_row(uid, batch.studies[uid], last[uid]) for uid in sorted(last)]),
        _json([series_row(p, batch.series[p], n) for p, n in sorted(places.items())]),
        _json(instances),
    ]
    row = connection.execute(_ENTER, parameters, prepare=True).fetchone()
    if row is None or row[0] is None:
        return False
    memory.keep(batch, {uid: row[0] + number for uid, number in last.items()})
    return True


def write_states(connection: psycopg.Connection, batch: Batch, last_change: int) -> None:
    """Write only the study and series rows of a batch, after a deletion in the study."""
    studies = [study_row(uid, state, last_change) for uid, state in batch.studies.items()]
    series = [series_row(place, state, last_change) for place, state in batch.series.items()]
    connection.execute("select archive.put_studies(%s, 0)", [_json(studies)])
    connection.execute("select archive.put_series(%s, 0)", [_json(series)])


def _json(rows: list[dict[str, Any]] | dict[str, int]) -> str:
    return orjson.dumps(rows).decode()


def instance_key(row: Row) -> InstanceKey:
    """The key from the columns study_uid, series_uid, sop_uid."""
    return InstanceKey(row[0], row[1], row[2])


_ENTER = "select archive.enter(%s, %s, %s, %s)"
_PRESENT = (
    "select sop_uid, study_uid, series_uid, sha256, transfer_syntax, path"
    " from archive.instance where sop_uid = any(%s)"
)
_STUDIES = (
    "select last_change, study_uid, attributes, patient_id, modalities, sop_classes, series_count,"
    " instance_count, sources, patient_mismatch from archive.study where study_uid = any(%s)"
)
_SERIES = (
    "select study_uid, series_uid, attributes, modality, number, instance_count"
    " from archive.series where study_uid = any(%s)"
)
