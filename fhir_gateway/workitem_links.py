"""Which work item stands for which Task, and how far the Tasks have been followed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from fhir_gateway.schema import Pool


@dataclass(frozen=True, slots=True)
class Link:
    """A work item and the Task whose states it shows; ended ones are history."""

    uid: str
    task_id: str
    ended: bool


class WorkitemLinks:
    """The links in PostgreSQL."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, uid: str, task_id: str) -> None:
        """Link a work item; one that is linked already stays as it is."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "insert into gateway.workitem_link (uid, task_id) values (%s, %s)"
                " on conflict do nothing",
                [uid, task_id],
            )

    async def end(self, uid: str) -> None:
        """The work item is finished: nothing more is to be brought to it."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "update gateway.workitem_link set ended = true where uid = %s", [uid]
            )

    async def among(self, uids: Iterable[str]) -> set[str]:
        """Those of the work items that are linked."""
        async with self._pool.connection() as connection:
            found = await connection.execute(
                "select uid from gateway.workitem_link where uid = any(%s)", [sorted(set(uids))]
            )
            return {row["uid"] async for row in found}

    async def of_task(self, task_id: str) -> list[Link]:
        """All links of a Task, ended ones too."""
        return await self._select("task_id = %s", task_id)

    async def open(self) -> list[Link]:
        """Links of work that goes on."""
        return await self._select("not ended and %s = ''", "")

    async def _select(self, where: str, parameter: str) -> list[Link]:
        async with self._pool.connection() as connection:
            found = await connection.execute(
                f"select uid, task_id, ended from gateway.workitem_link"  # noqa: S608 - our own text
                f" where {where} order by uid".encode(),
                [parameter],
            )
            return [Link(row["uid"], row["task_id"], row["ended"]) async for row in found]

    async def cursor(self) -> datetime:
        """Up to when changed Tasks have been followed."""
        async with self._pool.connection() as connection:
            found = await connection.execute("select at from gateway.workitem_cursor")
            row = await found.fetchone()
            assert row is not None  # noqa: S101 - the migration writes it
            at: datetime = row["at"]
            return at

    async def move(self, at: datetime) -> None:
        """Move the cursor forward."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "update gateway.workitem_cursor set at = greatest(at, %s)", [at]
            )
