"""Which studies wait to be published: the feed cursor and the waiting list, in one place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from psycopg import AsyncConnection
from psycopg.rows import DictRow

from archive.keys import Change
from fhir_gateway.schema import Pool

CHANNEL = "hilum_change"  # the archive notifies it of every commit
FIRST_RETRY_S = 5
LONGEST_RETRY_S = 3600


@dataclass(frozen=True, slots=True)
class Waiting:
    """A study that is due, and how often it failed before."""

    study_uid: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Mark:
    """How a study stood on the list: its newest change, and how often it was asked for again."""

    sequence: int = 0
    again: int = 0


@dataclass(frozen=True, slots=True)
class Published:
    """What was last written for a study."""

    imaging_study_id: str
    content_hash: str


class PendingStudies:
    """The waiting list in PostgreSQL. All times are the database's, so clocks cannot disagree."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def cursor(self) -> int:
        """Sequence number of the last change taken from the archive's feed."""
        async with self._pool.connection() as connection:
            found = await connection.execute("select sequence from gateway.feed_cursor")
            row = await found.fetchone()
            return int(row["sequence"]) if row else 0

    async def take(self, changes: Iterable[Change], quiet_s: float) -> None:
        """Put changed studies on the list and move the cursor, both or neither.

        A study is due `quiet_s` after its newest change. A new change also gives a study that
        failed before a new chance at once.
        """
        first: dict[str, int] = {}
        newest: dict[str, Change] = {}
        for change in changes:
            first.setdefault(change.key.study, change.sequence)
            newest[change.key.study] = change
        if not newest:
            return
        rows = [
            {
                "uid": uid,
                "first": first[uid],
                "last": change.sequence,
                "at": change.at,
                "quiet": quiet_s,
            }
            for uid, change in newest.items()
        ]
        last = max(change.sequence for change in newest.values())
        async with self._pool.connection() as connection, connection.cursor() as cursor:
            await cursor.executemany(
                "insert into gateway.pending_study (study_uid, first_sequence, last_sequence,"
                " due_at) values (%(uid)s, %(first)s, %(last)s,"
                " %(at)s + make_interval(secs => %(quiet)s))"
                " on conflict (study_uid) do update set last_sequence = excluded.last_sequence,"
                " due_at = excluded.due_at",
                rows,
            )
            await cursor.execute(
                "update gateway.feed_cursor set sequence = greatest(sequence, %s)", [last]
            )

    async def due(self, limit: int) -> list[Waiting]:
        """Studies that are quiet long enough, in the order in which they began to arrive."""
        async with self._pool.connection() as connection:
            found = await connection.execute(
                "select study_uid, attempts from gateway.pending_study where due_at <= now()"
                " order by (attempts > 0), first_sequence limit %s",
                [limit],
            )
            return [Waiting(row["study_uid"], row["attempts"]) async for row in found]

    async def seconds_to_next(self) -> float | None:
        """Seconds until the next study is due (0 or less: now); None when none waits."""
        async with self._pool.connection() as connection:
            found = await connection.execute(
                "select extract(epoch from min(due_at) - now()) s from gateway.pending_study"
            )
            row = await found.fetchone()
            return None if row is None or row["s"] is None else float(row["s"])

    async def published(self, study_uid: str) -> Published | None:
        """What was written for the study before, if anything."""
        async with self._pool.connection() as connection:
            found = await connection.execute(
                "select imaging_study_id, content_hash from gateway.published_study"
                " where study_uid = %s",
                [study_uid],
            )
            row = await found.fetchone()
            return Published(row["imaging_study_id"], row["content_hash"]) if row else None

    async def ask_again(self, study_uids: Iterable[str]) -> None:
        """Have studies published again although the archive has nothing new of them."""
        async with self._pool.connection() as connection, connection.transaction():
            await ask_again(connection, study_uids)

    async def finish(
        self, study_uid: str, mark: Mark, imaging_study_id: str, content_hash: str
    ) -> None:
        """Record what was written; the study stays on the list if it has changed meanwhile.

        What modalities reported of it is to be told again.

        Args:
            mark: the state of the archive that was written, and of the list before it was read.
        """
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute(
                "insert into gateway.published_study"
                " (study_uid, imaging_study_id, content_hash, last_change) values (%s,%s,%s,%s)"
                " on conflict (study_uid) do update set imaging_study_id ="
                " excluded.imaging_study_id, content_hash = excluded.content_hash,"
                " last_change = excluded.last_change, published_at = now()",
                [study_uid, imaging_study_id, content_hash, mark.sequence],
            )
            await connection.execute(
                "insert into gateway.untold_study (study_uid) values (%s)"
                " on conflict (study_uid) do update set again = untold_study.again + 1",
                [study_uid],
            )
            await _take_off(connection, study_uid, mark)

    async def mark(self, study_uid: str) -> Mark:
        """How the study stands on the list now; zeros if it does not."""
        async with self._pool.connection() as connection:
            found = await connection.execute(
                "select last_sequence, again from gateway.pending_study where study_uid = %s",
                [study_uid],
            )
            row = await found.fetchone()
            return Mark(int(row["last_sequence"]), int(row["again"])) if row else Mark()

    async def forget(self, study_uid: str, mark: Mark) -> None:
        """Take a study off the list that the archive does not have (any more).

        It stays on the list if it was stored again, behind the change of `mark`. What was written
        for it is forgotten too, so that a study that comes back is written anew.
        """
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute(
                "delete from gateway.published_study where study_uid = %s", [study_uid]
            )
            await _take_off(connection, study_uid, mark)

    async def untold(self, after: str, limit: int) -> dict[str, int]:
        """Studies published since `told`, behind a UID, with how often they were."""
        async with self._pool.connection() as connection:
            found = await connection.execute(
                "select study_uid, again from gateway.untold_study where study_uid > %s"
                " order by study_uid limit %s",
                [after, limit],
            )
            return {row["study_uid"]: row["again"] async for row in found}

    async def told(self, studies: Mapping[str, int]) -> None:
        """Take studies off that list, but not those that were published again meanwhile."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "delete from gateway.untold_study u using"
                " unnest(%s::text[], %s::bigint[]) as done (uid, again)"
                " where u.study_uid = done.uid and u.again <= done.again",
                [list(studies), list(studies.values())],
            )

    async def postpone(self, study_uid: str, reason: str) -> float:
        """Try a study again later, each time later; returns the delay in seconds."""
        async with self._pool.connection() as connection:
            found = await connection.execute(
                "update gateway.pending_study set attempts = attempts + 1, reason = %(reason)s,"
                " due_at = now() + make_interval(secs => least(%(longest)s,"
                " %(first)s * power(2, least(attempts, 20)))) where study_uid = %(uid)s"
                " returning extract(epoch from due_at - now()) s",
                {
                    "reason": reason[:500],
                    "longest": LONGEST_RETRY_S,
                    "first": FIRST_RETRY_S,
                    "uid": study_uid,
                },
            )
            row = await found.fetchone()
            return float(row["s"]) if row else 0.0


async def ask_again(connection: AsyncConnection[DictRow], study_uids: Iterable[str]) -> None:
    """`PendingStudies.ask_again` inside a transaction with what it is about."""
    uids = sorted(set(study_uids))
    # One that is being written just now was perhaps read before: it stays on the list.
    await connection.execute(
        "update gateway.pending_study set again = again + 1,"
        " due_at = case when attempts > 0 then now() else due_at end"
        " where study_uid = any(%s)",
        [uids],
    )
    await connection.execute(
        "insert into gateway.pending_study (study_uid, first_sequence, last_sequence,"
        " due_at, again) select study_uid, last_change, last_change, now(), 1"
        " from gateway.published_study where study_uid = any(%s)"
        " on conflict (study_uid) do nothing",
        [uids],
    )
    await connection.execute(f"notify {CHANNEL}".encode())


async def _take_off(connection: AsyncConnection[DictRow], study_uid: str, mark: Mark) -> None:
    await connection.execute(
        "delete from gateway.pending_study where study_uid = %s and last_sequence <= %s"
        " and again <= %s",
        [study_uid, mark.sequence, mark.again],
    )
