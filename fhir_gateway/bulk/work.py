"""What the stages of one job's work share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from fhir_gateway.bulk.files import JobFolder, Resource
from fhir_gateway.bulk.jobs import Job, Jobs, Role
from fhir_gateway.bulk.plan import Plan
from fhir_gateway.bulk.request import ExportRequest
from fhir_gateway.bulk.seen import SeenIds
from fhir_gateway.bulk.shaping import Shape
from fhir_gateway.bulk.sink import Position, Sink
from fhir_gateway.bulk.store import Store


@dataclass(slots=True)
class Work:
    """One claim of one job, with its plan.

    Attributes:
        store: the FHIR store as the job's client may see it.
        doing: what is being written, for the client that waits.
    """

    job: Job
    jobs: Jobs
    folder: JobFolder
    sink: Sink
    store: Store
    shape: Shape
    plan: Plan
    doing: str = ""
    issues: list[str] = field(default_factory=list)

    @property
    def request(self) -> ExportRequest:
        """What was asked for."""
        return self.job.request

    @property
    def role(self) -> Role:
        """Of the files by type: what the client gets, or what is arranged anew."""
        return "work" if self.request.organized else "output"

    async def seen(self, kind: str) -> SeenIds:
        """Ids of a type that are in finished files. Those of a file that was not are forgotten."""
        return await asyncio.to_thread(self._read_ids, kind)

    def _read_ids(self, kind: str) -> SeenIds:
        seen = SeenIds()
        for file in self.sink.files:
            if file.resource_type == kind and file.role == self.role:
                seen.add(self.folder.ids(file))
        return seen

    async def write(
        self, kind: str, rows: Sequence[Resource], seen: SeenIds, position: Position
    ) -> None:
        """Write those rows that are new; `position` is the place to go on after them."""
        new = seen.add(str(row["id"]) for row in rows)
        fresh = [row for row, is_new in zip(rows, new, strict=True) if is_new]
        shaped = await asyncio.to_thread(self.shape.rows, fresh)
        await self.sink.write(shaped, self.role, kind, position)

    async def note(self, issue: str) -> None:
        """Remember what the error file will say."""
        self.issues.append(issue)
        await self.jobs.note(self.job, issue)

    async def drop(self, role: Role, position: Position) -> None:
        """Forget files that an earlier claim wrote and that are written anew."""
        if old := [file.number for file in self.sink.files if file.role == role]:
            await self.sink.finish(position, drop=old)
