"""Walking through many rows in batches: bounded memory, no connection held between batches.

Each batch begins behind the last row of the one before (keyset), so that a walk costs the same at
its end as at its beginning, and what is stored or deleted meanwhile neither repeats nor hides the
others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import psycopg

from archive.config import ArchiveConfig
from archive.errors import QueryError
from archive.keys import DicomJson, InstanceRecord
from archive.match import LevelName
from archive.patients import PatientSearch
from archive.query import Query
from archive.reading import RECORD, record_of
from archive.search import Search

RowLevel = LevelName | Literal["patient"]
Connect = Callable[[], AbstractContextManager[psycopg.Connection]]


def iterate(connect: Connect, level: RowLevel, query: Query, batch: int) -> Iterator[DicomJson]:
    """Every match at `level`, the query's offset and limit observed; raises QueryError at once."""
    found = PatientSearch(query) if level == "patient" else Search(level, query)
    return _matches(connect, found, query, batch)


def _matches(
    connect: Connect, found: Search | PatientSearch, query: Query, batch: int
) -> Iterator[DicomJson]:
    left, last, offset = query.limit, None, query.offset
    while left is None or left > 0:
        size = batch if left is None else min(batch, left)
        with connect() as connection:
            rows = found.rows(connection, size, offset, last)
        offset = 0
        for row in rows:
            yield row[0]
        if len(rows) < size:
            return
        last = rows[-1][1:]
        left = None if left is None else left - len(rows)


def records_of(
    connect: Connect, config: ArchiveConfig, asked: Sequence[tuple[str, Sequence[str]]], batch: int
) -> Iterator[InstanceRecord]:
    """Instances that meet every condition of `asked` (column, any of these values).

    Raises:
        QueryError: no condition at all; that would be the whole archive.
    """
    given = [(column, list(values)) for column, values in asked if values]
    if not given:
        raise QueryError("no study, series, instance or patient is named")
    return _records(connect, config, given, batch)


def _records(
    connect: Connect, config: ArchiveConfig, given: list[tuple[str, list[str]]], batch: int
) -> Iterator[InstanceRecord]:
    conditions = [f"{column} = any(%s)" for column, _ in given]
    values: list[Any] = [list(dict.fromkeys(values)) for _, values in given]
    last: tuple[Any, ...] | None = None
    while True:
        after = [] if last is None else [f"({', '.join(_ORDER)}) > (%s, %s, %s, %s)"]
        statement = (
            f"{RECORD} instance join archive.study using (study_uid)"
            f" where {' and '.join(conditions + after)} order by {', '.join(_ORDER)} limit %s"
        )
        with connect() as connection:
            rows = connection.execute(statement, [*values, *(last or ()), batch]).fetchall()
        for row in rows:
            yield record_of(config, row)
        if len(rows) < batch:
            return
        last = (rows[-1][0], rows[-1][1], rows[-1][-1], rows[-1][2])


_ORDER = ("instance.study_uid", "instance.series_uid", "instance.number", "instance.sop_uid")
