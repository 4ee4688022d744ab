"""Answering a query with one SELECT: matching, order and paging in the database."""

# The texts of SQL are made of this package's own pieces and of checked tags; every value travels
# as a parameter.
# ruff: noqa: S608

from __future__ import annotations

from typing import Any

import psycopg

from archive.extended_match import extended_condition, extended_values
from archive.keys import JsonPage, Page
from archive.match import LEVELS, LevelName, conditions
from archive.query import Query
from archive.values import Condition

_FROM = {
    "study": "archive.study study",
    "series": "archive.series series join archive.study study using (study_uid)",
    "instance": "archive.instance instance"
    " join archive.series series using (study_uid, series_uid)"
    " join archive.study study using (study_uid)",
}
# Every order is that of an index and ends with a UID: pages neither overlap nor leave a gap, and
# the next page can begin behind the last row of this one.
_ORDER: dict[LevelName, tuple[str, ...]] = {
    "study": ("study.study_date", "study.study_time", "study.study_uid"),
    "series": ("series.study_uid", "series.number", "series.series_uid"),
    "instance": (
        "instance.study_uid",
        "instance.series_uid",
        "instance.number",
        "instance.sop_uid",
    ),
}
_UNIQUE: dict[LevelName, str] = {
    "study": "study.study_uid",
    "series": "series.study_uid, series.series_uid",
    "instance": "instance.sop_uid",
}
# The path of a row's resource below the service root, as pieces of SQL.
_URL_PARTS = {
    "study": (("/studies/", "study.study_uid"),),
    "series": (("/studies/", "series.study_uid"), ("/series/", "series.series_uid")),
    "instance": (
        ("/studies/", "instance.study_uid"),
        ("/series/", "instance.series_uid"),
        ("/instances/", "instance.sop_uid"),
    ),
}
# What names the row itself in every answer, whichever levels are returned.
_KEYS: dict[LevelName, str] = {
    "study": "",
    "series": " || jsonb_build_object('0020000D',"
    " jsonb_build_object('vr', 'UI', 'Value', jsonb_build_array(series.study_uid)))",
    "instance": " || jsonb_build_object('0020000D',"
    " jsonb_build_object('vr', 'UI', 'Value', jsonb_build_array(instance.study_uid)),"
    " '0020000E', jsonb_build_object('vr', 'UI', 'Value', jsonb_build_array(instance.series_uid)))",
}


def search(connection: psycopg.Connection, level: LevelName, query: Query) -> Page:
    """The page of matches at `level`; raises QueryError for what cannot be matched."""
    rows, has_more, total = _page(connection, Search(level, query), query)
    return Page([row[0] for row in rows], has_more, total)


def search_json(
    connection: psycopg.Connection, level: LevelName, query: Query, base_url: str
) -> JsonPage:
    """The same page as text that is never parsed here, each item with its RetrieveURL.

    jsonb keeps keys of one length in the order of their bytes, which is the order that PS3.18
    F.2.2 asks for.
    """
    rows, has_more, total = _page(connection, Search(level, query, base_url), query)
    return JsonPage([row[0] for row in rows], has_more, total)


def _page(
    connection: psycopg.Connection, found: Search, query: Query
) -> tuple[list[tuple[Any, ...]], bool, int | None]:
    """Rows of one page, whether more match, and how many in all where that is known."""
    limit = None if query.limit is None else max(0, query.limit) + 1
    rows = found.rows(connection, limit, query.offset)
    has_more = query.limit is not None and len(rows) > query.limit
    rows = rows[: query.limit]
    total: int | None = None
    if not has_more and (rows or query.offset == 0):
        total = query.offset + len(rows)
    elif query.count:
        total = found.count(connection)
    return rows, has_more, total


class Search:
    """One query at one level, ready to be asked; raises QueryError when it is made.

    Args:
        base_url: Gives each document as text, with its RetrieveURL below this service root.
    """

    def __init__(self, level: LevelName, query: Query, base_url: str | None = None) -> None:
        wanted = conditions(level, query)
        wanted += [extended_condition(level, *key) for key in query.extended]
        if query.studies is not None:
            wanted.append(Condition(f"{level}.study_uid = any(%s)", (sorted(query.studies),)))
        self._level = level
        self._where = " and ".join(f"({condition.sql})" for condition in wanted) or "true"
        self._parameters: list[Any] = [p for condition in wanted for p in condition.parameters]
        self._document = _document(level, query)
        self._before: tuple[str, ...] = ()
        if base_url is not None:
            self._document, self._before = _with_url(level, self._document), (base_url,)
        self._columns = ", ".join(_ORDER[level])
        self._direction = " desc" if level == "study" else ""

    def rows(
        self,
        connection: psycopg.Connection,
        limit: int | None,
        offset: int = 0,
        after: tuple[Any, ...] | None = None,
    ) -> list[tuple[Any, ...]]:
        """Document and order columns of the matches in order, behind the row `after`."""
        where, parameters = self._where, [*self._before, *self._parameters]
        if after is not None:
            marks = ", ".join(["%s"] * len(after))
            where += f" and ({self._columns}) {'<' if self._direction else '>'} ({marks})"
            parameters.extend(after)
        order = ", ".join(column + self._direction for column in _ORDER[self._level])
        source, unique = _FROM[self._level], _UNIQUE[self._level]
        page = f"select {unique} from {source} where {where} order by {order} limit %s offset %s"
        # No document is made of a row that only matches, or that is stepped over.
        statement = (
            f"select {self._document}, {self._columns} from {source}"
            f" where ({unique}) in ({page}) order by {order}"
        )
        return connection.execute(statement, [*parameters, limit, offset]).fetchall()

    def count(self, connection: psycopg.Connection) -> int:
        """Number of all matches."""
        statement = f"select count(*) from {_FROM[self._level]} where {self._where}"
        row = connection.execute(statement, self._parameters).fetchone()
        return int(row[0]) if row else 0


def _with_url(level: LevelName, document: str) -> str:
    where_to = " || ".join(f"'{word}' || {column}" for word, column in _URL_PARTS[level])
    return (
        f"({document} || jsonb_build_object('00081190', jsonb_build_object("
        f"'vr', 'UR', 'Value', jsonb_build_array(%s || {where_to}))))::text"
    )


def _document(level: LevelName, query: Query) -> str:
    """Attributes of the level, and of the levels above unless the query is inside one of them."""
    fixed = {path for path, value in query.match if value and "*" not in value}
    parts = []
    for upper, key in zip(LEVELS[: LEVELS.index(level)], ("0020000D", "0020000E"), strict=False):
        if key not in fixed:
            parts.append(f"{upper}.attributes")
        elif query.include:
            parts.append(_included(upper, query.include))
    parts.append(f"{level}.attributes")
    return " || ".join(parts) + extended_values(level, query.extended_include) + _KEYS[level]


def _included(level: str, include: tuple[str, ...]) -> str:
    """Only the attributes of an upper level that were asked for."""
    if "all" in include:
        return f"{level}.attributes"
    names = ", ".join(f"'{path[:8]}'" for path in include if path[:8].isalnum())
    return (
        "coalesce((select jsonb_object_agg(key, value)"
        f" from jsonb_each({level}.attributes) where key in ({names})), '{{}}')"
    )
