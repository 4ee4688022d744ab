"""Where the rows of a job go: files by type, begun anew when they are long enough."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fhir_gateway.bulk.files import JobFolder, OpenFile, Resource
from fhir_gateway.bulk.jobs import ExportFile, Job, Jobs, Role

Position = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Limits:
    """When a file is long enough."""

    rows: int
    bytes: int


class Sink:
    """Writes the files of one job and tells its row where to go on after each finished one."""

    def __init__(self, job: Job, jobs: Jobs, folder: JobFolder, limits: Limits) -> None:
        self._job = job
        self._jobs = jobs
        self._folder = folder
        self._limits = limits
        self._open: OpenFile | None = None
        self.files = list(job.files)
        self.written = sum(f.count for f in job.files if f.role in ("output", "work"))
        self._next = max((f.number for f in job.files), default=0) + 1

    async def write(
        self, rows: Sequence[Resource], role: Role, resource_type: str, position: Position
    ) -> None:
        """Append rows of one type; `position` is where to go on once they are safe."""
        if rows:
            await asyncio.to_thread(self._append, rows, role, resource_type)
            if role in ("output", "work"):
                self.written += len(rows)
        opened = self._open
        if opened is not None and (
            opened.count >= self._limits.rows or opened.rows.size >= self._limits.bytes
        ):
            await self.finish(position)

    async def finish(self, position: Position, drop: Sequence[int] = ()) -> None:
        """Make the open file whole, if there is one; `drop`: numbers of files to forget."""
        add: list[ExportFile] = []
        if self._open is not None:
            add = [await asyncio.to_thread(self._open.finish)]
            self._open = None
        await self._jobs.reach(self._job, position, self.written, add, drop)
        self.files = [f for f in self.files if f.number not in drop] + add

    def _append(self, rows: Sequence[Resource], role: Role, resource_type: str) -> None:
        if self._open is None:
            form = self._job.request.format if role == "output" else "ndjson"
            self._open = self._folder.open(self._next, self._job.attempt, role, resource_type, form)
            self._next += 1
        self._open.write(rows)
