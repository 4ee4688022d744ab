"""Who is told of work items, and what still waits to be told (PS3.4 CC.2.3)."""

# The texts of SQL are made of this package's own pieces; every value travels as a parameter.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg.types.json import Jsonb

from archive import workitem_events as events
from archive import workitem_rows as rows
from archive.keys import DicomJson
from archive.workitem_errors import SubscriptionNotFound
from archive.workitem_rows import Connect, Workitem

GLOBAL = "1.2.840.10008.5.1.4.34.5"
FILTERED = "1.2.840.10008.5.1.4.34.5.1"

Filter = Sequence[tuple[str, str]]
Studies = frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Event:
    """One message that waits for a subscriber."""

    sequence: int
    message: DicomJson


class Subscriptions:
    """Subscriptions by AE title: to one item, to all, or to all that match a filter."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect

    def subscribe(self, ae: str, uid: str, studies: Studies, *, locked: bool) -> None:
        """Subscribe to one item; its present state is the first event. Raises WorkitemNotFound."""
        with rows.writing(self._connect) as connection:
            item = rows.load(connection, uid, studies)
            connection.execute(
                "insert into archive.workitem_subscription (ae, uid, locked) values (%s, %s, %s)"
                " on conflict (ae, uid) do update set locked = excluded.locked",
                [ae, uid, locked],
            )
            rows.tell_one(connection, ae, item, [events.state_report(uid, item.attributes)])

    def subscribe_all(self, ae: str, wanted: Filter, studies: Studies, *, locked: bool) -> None:
        """Subscribe to every item, present and future, that matches the filter.

        With a lock the present state of each item is an event. Raises QueryError.
        """
        rows.matching(wanted, fuzzy=False)
        with rows.writing(self._connect) as connection:
            connection.execute(
                "insert into archive.workitem_global (ae, filter, locked, studies)"
                " values (%s, %s, %s, %s) on conflict (ae, filter) do update"
                " set locked = excluded.locked, studies = excluded.studies",
                [ae, Jsonb([list(key) for key in wanted]), locked, _sorted(studies)],
            )
            joined = self._join_present(connection, ae, wanted, studies, locked)
            if locked:
                for uid in joined:
                    item = rows.load(connection, uid)
                    rows.tell_one(connection, ae, item, [events.state_report(uid, item.attributes)])

    def _join_present(
        self,
        connection: psycopg.Connection,
        ae: str,
        wanted: Filter,
        studies: Studies,
        locked: bool,
    ) -> list[str]:
        """Subscribe to the items that are there; one subscribed to before stays as it is."""
        condition = rows.matching(wanted, fuzzy=False)
        found = connection.execute(
            "insert into archive.workitem_subscription (ae, uid, locked)"
            f" select %s, uid, %s from archive.workitem workitem where ({condition.sql})"
            " and (%s::text[] is null or (studies <> '{}' and studies <@ %s::text[]))"
            " order by uid on conflict do nothing returning uid",
            [
                ae,
                locked,
                *condition.parameters,
                _sorted(studies),
                _sorted(studies),
            ],
        )
        return sorted(row[0] for row in found.fetchall())

    def unsubscribe(self, ae: str, uid: str) -> None:
        """End the subscription to one item. Raises SubscriptionNotFound."""
        with rows.writing(self._connect) as connection:
            done = connection.execute(
                "delete from archive.workitem_subscription where ae = %s and uid = %s", [ae, uid]
            )
            _must_have_been(done.rowcount)

    def unsubscribe_all(self, ae: str, *, filtered: bool) -> None:
        """End the global (or the filtered) subscription and those to every single item."""
        with rows.writing(self._connect) as connection:
            gone = self._end_global(connection, ae, filtered)
            gone += connection.execute(
                "delete from archive.workitem_subscription where ae = %s", [ae]
            ).rowcount
            _must_have_been(gone)

    def suspend(self, ae: str, *, filtered: bool) -> None:
        """No longer subscribe to new items; those subscribed to stay. SubscriptionNotFound."""
        with rows.writing(self._connect) as connection:
            _must_have_been(self._end_global(connection, ae, filtered))

    def _end_global(self, connection: psycopg.Connection, ae: str, filtered: bool) -> int:
        return connection.execute(
            "delete from archive.workitem_global where ae = %s and (filter <> '[]') = %s",
            [ae, filtered],
        ).rowcount

    def join(self, connection: psycopg.Connection, item: Workitem) -> None:
        """Subscribe those who want every item to a new one."""
        found = connection.execute(
            "select ae, filter, locked, studies from archive.workitem_global"
        ).fetchall()
        for ae, wanted, locked, studies in found:
            allowed = None if studies is None else frozenset(studies)
            if not rows.is_visible(item.studies, allowed):
                continue
            condition = rows.matching([(path, value) for path, value in wanted], fuzzy=False)
            connection.execute(
                "insert into archive.workitem_subscription (ae, uid, locked)"
                f" select %s, uid, %s from archive.workitem workitem where ({condition.sql})"
                " and uid = %s"
                " on conflict (ae, uid) do update"
                " set locked = archive.workitem_subscription.locked or excluded.locked",
                [ae, locked, *condition.parameters, item.uid],
            )

    def are_there(self, connection: psycopg.Connection, uid: str) -> bool:
        """Whether anybody is subscribed to an item."""
        found = connection.execute(
            "select 1 from archive.workitem_subscription where uid = %s limit 1", [uid]
        )
        return found.fetchone() is not None

    def newest(self) -> int:
        """The number of the newest event of all; it changes whenever there is something new."""
        with self._connect() as connection:
            row = connection.execute(
                "select coalesce(max(sequence), 0) from archive.workitem_event"
            ).fetchone()
            return int(row[0]) if row else 0

    def events(self, ae: str, after: int, studies: Studies, limit: int = 100) -> list[Event]:
        """What waits for a subscriber behind a number, in order."""
        with self._connect() as connection:
            found = connection.execute(
                "select sequence, message from archive.workitem_event where ae = %s"
                " and sequence > %s and (%s::text[] is null"
                " or (studies <> '{}' and studies <@ %s::text[])) order by sequence limit %s",
                [ae, after, _sorted(studies), _sorted(studies), limit],
            ).fetchall()
        return [Event(row[0], events.numbered(row[1], row[0])) for row in found]

    def acknowledge(self, ae: str, sequences: Sequence[int]) -> None:
        """Forget events that have arrived."""
        with self._connect() as connection:
            connection.execute(
                "delete from archive.workitem_event where ae = %s and sequence = any(%s)",
                [ae, list(sequences)],
            )


def _sorted(studies: Studies) -> list[str] | None:
    return None if studies is None else sorted(studies)


def _must_have_been(count: int) -> None:
    if count == 0:
        raise SubscriptionNotFound("there is no such subscription")
