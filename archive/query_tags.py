"""Extended query tags: further attributes to search by, filled in behind the change feed.

Storing does not wait for them: a new instance is found by an extended tag a moment later.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace

import psycopg
from psycopg.types.json import Jsonb

from archive.attributes import INSTANCE_NAMES, SERIES_NAMES, STUDY_NAMES
from archive.config import ArchiveConfig
from archive.dictionary import dictionary_vr
from archive.errors import ArchiveError, QueryError
from archive.feed import changes, last_sequence
from archive.keys import Change, DicomJson, InstanceKey, QueryTag
from archive.match import LevelName
from archive.metadata import JsonWriter
from archive.part10 import open_part10
from archive.query import Query, attribute_path
from archive.reading import record

_KEPT = STUDY_NAMES | SERIES_NAMES | INSTANCE_NAMES
_VR = re.compile(r"[A-Z]{2}")
# Values of these are bytes, or sequences of private items: there is nothing to compare.
_UNSEARCHABLE = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
BATCH = 200


class QueryTags:
    """The extended query tags of an archive.

    Args:
        connect: Lends a connection.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractContextManager[psycopg.Connection]],
        config: ArchiveConfig,
    ) -> None:
        self._connect = connect
        self._config = config

    def list(self) -> list[QueryTag]:
        """The extended query tags and how far each is filled in."""
        with self._connect() as connection:
            return kept_tags(connection)

    def add(self, name: str, level: LevelName, vr: str | None = None) -> QueryTag:
        """Keep a further attribute for queries. Raises QueryError if that cannot be."""
        with self._connect() as connection:
            return _add(connection, name, level, vr)

    def remove(self, name: str) -> bool:
        """Keep an attribute no longer; False if it was not. Raises QueryError."""
        with self._connect() as connection:
            deleted = connection.execute(
                "delete from archive.query_tag where tag = %s", [attribute_path(name)]
            )
            return deleted.rowcount > 0

    def index_some(self) -> bool:
        """Fill in extended tags for some more changes; True while there is more to do.

        To be called by one background task of a process that runs all the time.
        """
        with self._connect() as connection:
            return _index_some(connection, self._config)


def kept_tags(connection: psycopg.Connection) -> list[QueryTag]:
    """Every extended tag and how far it is filled in."""
    rows = connection.execute(
        "select tag, vr, level, least(reached, target), target from archive.query_tag order by tag"
    ).fetchall()
    return [QueryTag(*row) for row in rows]


def _add(connection: psycopg.Connection, name: str, level: LevelName, vr: str | None) -> QueryTag:
    """Begin to keep an attribute; what is stored already is looked through in the background.

    Raises:
        QueryError: it is kept anyway, or cannot be searched by.
    """
    tag = attribute_path(name)
    if "." in tag:
        raise QueryError("name the sequence itself: what is inside can be matched then")
    if tag in _KEPT:
        raise QueryError(f"{tag} is kept for queries already")
    vr = vr or dictionary_vr(int(tag, 16))
    if not _VR.fullmatch(vr) or vr in _UNSEARCHABLE:
        raise QueryError(f"an attribute of VR {vr} cannot be searched by; a private one needs a vr")
    connection.execute(
        "insert into archive.query_tag (tag, vr, level, target) values (%s, %s, %s, %s)"
        " on conflict (tag) do nothing",
        [tag, vr, level, last_sequence(connection)],
    )
    return next(one for one in kept_tags(connection) if one.tag == tag)


def concerns(query: Query) -> bool:
    """Whether the query asks for something that only an extended tag could answer."""
    named = [path for path, value in query.match if value] + list(query.include)
    return any(path[:8] not in _KEPT for path in named)


def prepared(connection: psycopg.Connection, query: Query) -> Query:
    """The query with its extended keys told apart from those of the index.

    Raises:
        QueryError: an extended tag is not filled in yet.
    """
    if not concerns(query):
        return query
    tags = {one.tag: one for one in kept_tags(connection)}
    keys = tuple((tags[p[:8]], p[9:], v) for p, v in query.match if v and p[:8] in tags)
    for tag, _, _ in keys:
        if tag.done < tag.total:
            raise QueryError(f"{tag.tag} is still being indexed, {tag.done} of {tag.total} changes")
    wanted = [path[:8] for path in query.include]
    include = [one for one in tags.values() if "all" in wanted or one.tag in wanted]
    return replace(
        query,
        match=tuple((path, value) for path, value in query.match if path[:8] not in tags),
        extended=keys,
        extended_include=tuple(include),
    )


def _index_some(connection: psycopg.Connection, config: ArchiveConfig) -> bool:
    """Fill in the values of the next changes of each tag; True while there is more to do."""
    more = False
    for tag in kept_tags(connection):
        with connection.transaction():
            # One process fills in a tag at a time; the others pass it by.
            row = connection.execute(
                "select reached from archive.query_tag where tag = %s for update skip locked",
                [tag.tag],
            ).fetchone()
            batch = changes(connection, row[0], BATCH) if row else []
            if not batch:
                continue
            _fill(connection, config, tag.tag, batch)
            connection.execute(
                "update archive.query_tag set reached = %s where tag = %s",
                [batch[-1].sequence, tag.tag],
            )
            more |= len(batch) == BATCH
    return more


def _fill(
    connection: psycopg.Connection, config: ArchiveConfig, tag: str, batch: list[Change]
) -> None:
    """As the instances are now: a change may be followed by another one of the same instance."""
    keys = {one.key.instance: one.key for one in batch}
    connection.execute(
        "delete from archive.query_tag_value where tag = %s and sop_uid = any(%s)",
        [tag, list(keys)],
    )
    rows = [
        [tag, key.instance, key.study, key.series, Jsonb(document)]
        for key, document in _values(connection, config, tag, list(keys.values()))
    ]
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into archive.query_tag_value (tag, sop_uid, study_uid, series_uid, document)"
            " values (%s, %s, %s, %s, %s) on conflict do nothing",
            rows,
        )


def _values(
    connection: psycopg.Connection, config: ArchiveConfig, tag: str, keys: list[InstanceKey]
) -> Iterator[tuple[InstanceKey, DicomJson]]:
    number = int(tag, 16)
    for key in keys:
        try:
            found = record(connection, config, key)
            with open_part10(found.path, config) as part10:
                document = JsonWriter(part10.buffer, lambda _: "").data_set(
                    part10.elements, [number]
                )
        except (ArchiveError, OSError):
            continue  # deleted meanwhile, or damaged: it cannot be found by this tag
        if document:
            yield key, document
