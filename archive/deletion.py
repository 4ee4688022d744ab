"""Taking instances out of the archive: a tombstone for each, and what remains told anew.

Rows go in one transaction; files go after its commit. A crash between the two leaves files that no
row names, which the sweep removes. A reader that has a file open reads it to its end.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
import structlog
from psycopg.types.json import Jsonb

from archive.config import ArchiveConfig
from archive.errors import ArchiveError, InstanceNotFound
from archive.header import Header, read_levels
from archive.index import CHANNEL, lock_feed, write_states
from archive.keys import DicomJson, InstanceKey, Source
from archive.part10 import open_part10
from archive.rows import Batch, Entry

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """A study, a series of it or an instance of that."""

    study: str
    series: str | None = None
    instance: str | None = None

    def parameters(self) -> dict[str, Any]:
        """For the statements of this module."""
        return dataclasses.asdict(self)


def delete(
    connection: psycopg.Connection,
    config: ArchiveConfig,
    target: Target,
    source: Source,
    reason: str,
) -> list[str]:
    """Delete from the index; returns the places of the files that are to be removed now.

    The attributes of study and series are filled from the instances that remain, as if only
    those had been received. Their files are read before the feed is locked, so that a large
    study holds up no sender.

    Raises:
        InstanceNotFound: nothing of the kind is stored.
    """
    entries: dict[str, Entry] = {}
    while True:
        for row in _remaining(connection, target):
            if row[0] not in entries:
                entries[row[0]] = _entry(config, target.study, row)
        with connection.transaction():
            lock_feed(connection)
            remaining = _remaining(connection, target)
            if all(row[0] in entries for row in remaining):
                kept = [entries[row[0]] for row in remaining]
                return _delete(connection, target, kept, source, reason)
        # An instance joined the study in the meantime: read that one too.


def _delete(
    connection: psycopg.Connection,
    target: Target,
    kept: list[Entry],
    source: Source,
    reason: str,
) -> list[str]:
    parameters = target.parameters() | {
        "source": Jsonb(dataclasses.asdict(source)),
        "reason": reason,
    }
    gone = connection.execute(_DELETE, parameters).fetchall()
    if not gone:
        raise InstanceNotFound("no such study, series or instance is stored")
    batch = Batch([], [], [])
    for entry in kept:
        batch.add(entry)
    series = sorted({row[1] for row in gone})
    connection.execute(
        "delete from archive.series_metadata where study_uid = %s and series_uid = any(%s)",
        [target.study, series],
    )
    connection.execute(
        "delete from archive.series where study_uid = %s and not (series_uid = any(%s))",
        [target.study, [place[1] for place in batch.series]],
    )
    if kept:
        batch.series = {place: state for place, state in batch.series.items() if place[1] in series}
        write_states(connection, batch, max(row[2] for row in gone))
    else:
        connection.execute("delete from archive.study where study_uid = %s", [target.study])
    connection.execute(f"notify {CHANNEL}")
    return [row[0] for row in gone]


def _remaining(connection: psycopg.Connection, target: Target) -> list[tuple[Any, ...]]:
    return connection.execute(_REMAINING, target.parameters()).fetchall()


def _entry(config: ArchiveConfig, study: str, row: tuple[Any, ...]) -> Entry:
    """An instance as it was when it arrived; one whose file cannot be read says nothing."""
    sop_uid, series, sop_class, place, source = row
    levels: tuple[DicomJson, DicomJson, DicomJson] = ({}, {}, {})
    try:
        with open_part10(config.root / place, config) as part10:
            levels = read_levels(part10)
    except (ArchiveError, OSError) as error:
        log.error("stored file cannot be read", instance=sop_uid, error=type(error).__name__)
    key = InstanceKey(study, series, sop_uid)
    header = Header(
        key=key,
        sop_class=sop_class,
        transfer_syntax="",
        size=0,
        sha256="",
        frames=0,
        frame_table=None,
        study=levels[0],
        series=levels[1],
        instance=levels[2],
        head_length=0,
        head_sha256="",
    )
    return Entry(header, Source(**source), place)


_IS_TARGET: LiteralString = """
    (%(series)s::text is null or i.series_uid = %(series)s)
    and (%(instance)s::text is null or i.sop_uid = %(instance)s)
"""
# In the order of arrival: the first instance that says an attribute counts.
_REMAINING = f"""
select i.sop_uid, i.series_uid, i.sop_class, i.path, c.source
from archive.instance i join archive.change c on c.sequence = i.change
where i.study_uid = %(study)s and not ({_IS_TARGET}) order by i.change
"""  # noqa: S608
_DELETE = f"""
with gone as (
    delete from archive.instance i where i.study_uid = %(study)s and {_IS_TARGET}
    returning i.series_uid, i.sop_uid, i.path
), told as (
    insert into archive.change (kind, study_uid, series_uid, sop_uid, source, reason)
    select 'instance_deleted', %(study)s, series_uid, sop_uid, %(source)s, %(reason)s from gone
    returning sequence, sop_uid
)
select gone.path, gone.series_uid, told.sequence from gone join told using (sop_uid)
"""  # noqa: S608
