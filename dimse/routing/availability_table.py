"""Which studies are still to be announced, and to whom; kept in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from archive import Archive
from archive.connection import connected
from database import migrate
from dimse.peers import MIGRATIONS, SCHEMA

_PAGE = 2_000


@dataclass(frozen=True, slots=True)
class Announcement:
    """A study that a peer is to be told of.

    Attributes:
        lease: Until when it is ours; a change of the study ends that.
    """

    peer: str
    study_uid: str
    attempts: int
    lease: datetime


class AvailabilityTable:
    """The table; safe to share between processes."""

    def __init__(self, dsn: str) -> None:
        migrate(dsn, SCHEMA, MIGRATIONS)
        self._dsn = dsn

    def follow(self, archive: Archive, peers: Sequence[str], quiet_s: float) -> int:
        """Take new changes of the archive; a study is due when it has been quiet for a while.

        The first time only what comes from then on counts: nobody wants to be told of the whole
        archive. Returns the number of changes taken.
        """
        with connected(self._dsn) as connection, connection.transaction():
            newest = archive.last_change()
            connection.execute(
                "insert into dimse.availability_cursor (sequence) values (%s)"
                " on conflict do nothing",
                [newest],
            )
            row = connection.execute(
                "select sequence from dimse.availability_cursor for update"
            ).fetchone()
            changes = archive.changes(row[0] if row else newest, _PAGE)
            if not changes:
                return 0
            studies = sorted(
                {change.key.study for change in changes if change.kind == "instance_stored"}
            )
            connection.execute(
                "insert into dimse.availability (peer, study_uid, due_at)"
                " select peer, study, now() + %s from unnest(%s::text[]) peer,"
                " unnest(%s::text[]) study on conflict (peer, study_uid)"
                " do update set due_at = excluded.due_at, attempts = 0, note = ''",
                [timedelta(seconds=quiet_s), list(peers), studies],
            )
            connection.execute(
                "update dimse.availability_cursor set sequence = %s", [changes[-1].sequence]
            )
            return len(changes)

    def take(self, lease_s: float) -> Announcement | None:
        """One that is due, for the caller to send within `lease_s` seconds."""
        with connected(self._dsn) as connection:
            row = connection.execute(
                "update dimse.availability set due_at = now() + %s"
                " where (peer, study_uid) = (select peer, study_uid from dimse.availability"
                " where due_at <= now() order by due_at limit 1 for update skip locked)"
                " returning peer, study_uid, attempts, due_at",
                [timedelta(seconds=lease_s)],
            ).fetchone()
        return Announcement(*row) if row else None

    def done(self, one: Announcement) -> None:
        """It was told, or there is nothing to tell; unless the study has changed meanwhile."""
        with connected(self._dsn) as connection:
            connection.execute(
                "delete from dimse.availability where peer = %s and study_uid = %s and due_at = %s",
                [one.peer, one.study_uid, one.lease],
            )

    def later(self, one: Announcement, delay_s: float, note: str) -> None:
        """It could not be told; try again."""
        with connected(self._dsn) as connection:
            connection.execute(
                "update dimse.availability set attempts = attempts + 1, due_at = now() + %s,"
                " note = %s where peer = %s and study_uid = %s and due_at = %s",
                [timedelta(seconds=delay_s), note[:500], one.peer, one.study_uid, one.lease],
            )
