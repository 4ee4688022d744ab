"""The first stage of an export: the rows of each type."""

from __future__ import annotations

from contextlib import aclosing

from fhir_gateway.bulk.compartment import belongs, patients_of
from fhir_gateway.bulk.files import Resource
from fhir_gateway.bulk.plan import Pass, filters_of, passes, upper_bound
from fhir_gateway.bulk.provenance import in_compartments
from fhir_gateway.bulk.seen import SeenIds
from fhir_gateway.bulk.sink import Position
from fhir_gateway.bulk.snapshot import missed
from fhir_gateway.bulk.store import StoreRefused
from fhir_gateway.bulk.work import Work

STAGE = "types"


class Incomplete(Exception):
    """Not one of the types could be read."""


class TypeRows:
    """Writes the types of a job one after another."""

    def __init__(self, work: Work) -> None:
        self._work = work
        members = work.plan.members
        self._members = None if members is None else frozenset(members)

    async def write(self, begin: Position) -> None:
        """Write all types from a position on. Raises Incomplete."""
        work, refused = self._work, 0
        for number, kind in enumerate(work.plan.types):
            if number < begin["at"]:
                continue
            work.doing = kind
            try:
                await self._type(kind, number, begin)
            except StoreRefused as error:
                refused += 1
                await work.note(f"{kind} is incomplete: {error}")
            await work.sink.finish({"stage": STAGE, "at": number + 1})
        if refused and refused == len(work.plan.types):
            raise Incomplete

    async def _type(self, kind: str, number: int, begin: Position) -> None:
        work = self._work
        questions = passes(kind, work.request, work.plan, work.job.caller)
        seen = await work.seen(kind)
        first, since = 0, None
        if number == begin["at"] and "pass" in begin:
            first, since = begin["pass"], begin["since"]
        here = {"stage": STAGE, "at": number}
        for index in range(first, len(questions)):
            await self._pass(kind, here | {"pass": index}, questions[index], since, seen)
            since = None
        filters = filters_of(kind, work.request, work.job.caller)
        ended = {**here, "pass": len(questions), "since": None}
        late = missed(kind, filters, work.request, work.plan, work.store, seen)
        async for resource in late:
            await work.write(kind, [resource], seen, ended)

    async def _pass(
        self, kind: str, here: Position, question: Pass, since: str | None, seen: SeenIds
    ) -> None:
        """Write what one question brings, from an instant on where an earlier claim stopped."""
        work = self._work
        upper = upper_bound(work.request, work.plan)
        begin = since or question.since
        async with aclosing(work.store.pages(kind, question.pairs, begin, upper)) as pages:
            async for page in pages:
                rows = await self._allowed(kind, page.rows)
                onward = {**here, "since": page.onward}
                if page.onward is None:
                    onward = {**here, "pass": here["pass"] + 1, "since": None}
                await work.write(kind, rows, seen, onward)

    async def _allowed(self, kind: str, rows: list[Resource]) -> list[Resource]:
        """The rows of a page that belong into this export, whatever the store answered."""
        if self._work.request.level == "system":
            return rows
        members = self._members
        if kind == "Provenance":  # its questions name what it is about
            return rows if members is not None else await in_compartments(rows, self._work.store)
        if members is None:
            return [row for row in rows if patients_of(row)]
        return [row for row in rows if belongs(row, members)]
