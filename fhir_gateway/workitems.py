"""Work items and Tasks, each shown as the other: IHE AIW-I on the same runs as the automatic ones.

A SCHEDULED work item that names one of our models orders a run; every run shows as a work item.
All that is done may be done again: a restart at any point ends with one Task and one state.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import structlog

from archive import Archive, ArchiveError, Query
from archive.workitem_document import (
    FINAL,
    PROGRESS,
    READINESS,
    START,
    codes_of,
    first,
    input_studies,
)
from archive.workitem_errors import WorkitemError, WorkitemExists
from archive.workitem_rows import Workitem
from archive.workitems import Workitems
from fhir_gateway import workitem_map as mapping
from fhir_gateway.config import GatewayConfig
from fhir_gateway.schema import Pool
from fhir_gateway.workitem_links import Link, WorkitemLinks
from records import NotFound, Records, RecordsError, RecordsUnavailable, identifiers

Resource = dict[str, Any]

POLL_S = 2.0
STORE_AWAY_S = 5.0
OVERLAP = timedelta(seconds=15)  # a version may become visible a little after its time
PAGE = 100
RETRY_FIRST_S, RETRY_LONGEST_S = 2.0, 60.0
HOUSEKEEPING_S = 3600.0
KEPT = timedelta(days=90)  # finished work items without a deletion lock
WAITING = frozenset({"draft", "requested", "received", "accepted", "ready", "on-hold"})
ENDED = frozenset({"completed", "failed", "rejected", "cancelled", "entered-in-error"})
BAD_ORDER = ("110514", "DCM", "Incorrect worklist entry selected")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ordering:
    """What can be ordered, and how; the root makes it of the inference package.

    Attributes:
        models: description by `name@version`.
        place: the Task for an ImagingStudy, a model and the order's identifier; None where the
            study has nothing to run on.
        start: wake a worker for a Task id.
        cancel: end a Task by id, with a reason, unless it has ended.
    """

    models: Mapping[str, str]
    place: Callable[[Records, Resource, str, Resource], Awaitable[Resource | None]]
    start: Callable[[str], Awaitable[None]]
    cancel: Callable[[Records, str, str], Awaitable[Resource]]


class WorkitemBridge:
    """Follows both sides; one runs per installation."""

    def __init__(
        self,
        config: GatewayConfig,
        workitems: Workitems,
        archive: Archive,
        records: Records,
        pool: Pool,
    ) -> None:
        self._config = config
        self._items = workitems
        self._archive = archive
        self._records = records
        self._links = WorkitemLinks(pool)
        self._seen: dict[str, str] = {}  # Task id to the version that was followed
        self._later: dict[str, tuple[float, float]] = {}  # order to when it is tried again
        self._settled = False
        self._cleaned = -HOUSEKEEPING_S

    async def run(self, stop: asyncio.Event, ordering: Ordering | None) -> None:
        """Follow until told to stop; survives an outage of either store."""
        while not stop.is_set():
            pause = POLL_S
            try:
                await self.round(ordering)
            except (RecordsError, ArchiveError) as error:
                self._settled = False
                pause = STORE_AWAY_S
                log.warning("workitems.put_off", kind=type(error).__name__, reason=str(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)

    async def round(self, ordering: Ordering | None) -> None:
        """One look at both sides."""
        if not self._settled:
            await self._settle()
        if ordering is not None:
            await self._place_orders(ordering)
        await self._follow_tasks()
        await self._pass_on_cancellations(ordering)
        if time.monotonic() - self._cleaned > HOUSEKEEPING_S:
            self._cleaned = time.monotonic()
            await asyncio.to_thread(self._items.forget_finished, KEPT)

    async def _settle(self) -> None:
        """After a start or an outage: bring every open item up to its Task."""
        for task_id in sorted({link.task_id for link in await self._links.open()}):
            with contextlib.suppress(NotFound):
                await self._follow_alone(await self._records.read("Task", task_id))
        self._settled = True

    # Orders -------------------------------------------------------------------------------------

    async def _place_orders(self, ordering: Ordering) -> None:
        found = await asyncio.to_thread(self._items.scheduled, mapping.SCHEME)
        linked = await self._links.among(item.uid for item in found)
        waiting = [item for item in found if item.uid not in linked]
        for item in waiting:
            if first(item.attributes, READINESS) == "READY" and self._is_due(item):
                placed = await self._place_alone(item, ordering)
                self._wait_longer(item.uid, again=not placed)
        self._later = {uid: self._later[uid] for uid in self._later if uid not in linked}

    def _is_due(self, item: Workitem) -> bool:
        start = mapping.starts_at(str(first(item.attributes, START)), self._config.timezone)
        if start is not None and start > datetime.now(UTC):
            return False
        return time.monotonic() >= self._later.get(item.uid, (0.0, 0.0))[0]

    def _wait_longer(self, uid: str, *, again: bool) -> None:
        """An order whose study has not come yet is asked for less and less often."""
        if not again:
            self._later.pop(uid, None)
            return
        wait_s = min(max(self._later.get(uid, (0.0, 0.0))[1] * 2, RETRY_FIRST_S), RETRY_LONGEST_S)
        self._later[uid] = (time.monotonic() + wait_s, wait_s)

    async def _place_alone(self, item: Workitem, ordering: Ordering) -> bool:
        """Place an order; one that the FHIR store refuses does not hold up the others."""
        try:
            return await self._place(item, ordering)
        except RecordsUnavailable:
            raise
        except RecordsError as error:
            log.error("workitems.order_failed", workitem=item.uid, kind=type(error).__name__)
            return False

    async def _place(self, item: Workitem, ordering: Ordering) -> bool:
        """Make a Task of an order; False where its study is not there yet."""
        label = codes_of(item.attributes)[0].partition("|")[2]
        studies = input_studies(item.attributes)
        if label not in ordering.models:
            known = ", ".join(sorted(ordering.models))
            await self._refuse(item, f"there is no model {label}; there is {known}")
            return True
        if len(studies) != 1:
            await self._refuse(item, f"the input names {len(studies)} studies; one is needed")
            return True
        token = identifiers.token(identifiers.DICOM_UID, identifiers.oid(studies[0]))
        study = await self._records.first("ImagingStudy", {"identifier": token})
        if study is None:
            return False
        order = mapping.order_identifier(item.uid)
        task = await ordering.place(self._records, study, label, order)
        if task is None:
            await self._refuse(item, "the study has no acquired images")
            return True
        await self._links.add(item.uid, task["id"])
        log.info("workitems.ordered", workitem=item.uid, task=task["id"])
        if task["status"] == "requested":
            await ordering.start(task["id"])
        await self._follow(task)
        return True

    async def _refuse(self, item: Workitem, reason: str) -> None:
        log.info("workitems.refused", workitem=item.uid, reason=reason)
        await self._bring(item.uid, "CANCELED", mapping.canceled(reason, BAD_ORDER))

    # Tasks --------------------------------------------------------------------------------------

    async def _follow_tasks(self) -> None:
        """Look at every Task that has changed since the last time."""
        since = (await self._links.cursor()) - OVERLAP
        newest: datetime | None = None
        params = {
            "identifier": f"{identifiers.INFERENCE_RUN}|",
            "_lastUpdated": f"ge{since.astimezone(UTC).isoformat(timespec='milliseconds')[:-6]}Z",
            "_sort": "_lastUpdated",
            "_count": PAGE,
        }
        async for task in self._records.pages("Task", params):
            version = str(task["meta"]["versionId"])
            newest = datetime.fromisoformat(task["meta"]["lastUpdated"])
            if self._seen.get(task["id"]) != version:
                await self._follow_alone(task)
                self._seen[task["id"]] = version
        if newest is not None and newest - OVERLAP > since:
            await self._links.move(newest)
        if len(self._seen) > 10 * PAGE:
            self._seen.clear()  # only saves work: what is seen again changes nothing

    async def _follow_alone(self, task: Resource) -> None:
        """Follow a Task; an odd one, written by somebody else, does not hold up the others."""
        try:
            await self._follow(task)
        except (KeyError, ValueError, WorkitemError) as error:
            log.error("workitems.task_not_shown", task=task["id"], kind=type(error).__name__)

    async def _follow(self, task: Resource) -> None:
        """Bring every open work item of a Task to the Task's state; make one where none is."""
        links = await self._links.of_task(task["id"])
        if not links:
            links = [Link(uid, task["id"], ended=False) for uid in await self._adopt(task)]
        for link in links:
            if not link.ended:
                await self._bring_to(link.uid, task)

    async def _adopt(self, task: Resource) -> list[str]:
        """Link the orders that a Task names, or else a new work item that shows it."""
        ordered = await asyncio.to_thread(self._items.several, mapping.orders_of(task))
        uids = sorted(ordered) or await self._mirror(task)
        for uid in uids:
            await self._links.add(uid, task["id"])
        return uids

    async def _mirror(self, task: Resource) -> list[str]:
        if mapping.orders_of(task):
            return []  # its work items have been forgotten
        try:
            imaging = await self._records.read(*str(task["focus"]["reference"]).split("/")[-2:])
        except (NotFound, KeyError):
            return []
        study_uid = identifiers.study_uid_of(imaging)
        query = Query.of([("StudyInstanceUID", study_uid or "")], limit=1)
        page = await asyncio.to_thread(self._archive.studies, query)
        if not study_uid or not page.items:
            return []
        uid = mapping.mirror_uid(task)
        document = mapping.mirrored(task, imaging, page.items[0])
        with contextlib.suppress(WorkitemExists):
            await asyncio.to_thread(self._items.create, uid, document)
        return [uid]

    async def _bring_to(self, uid: str, task: Resource) -> None:
        status = str(task["status"])
        if status in WAITING:
            return
        if status == "completed":
            await self._complete(uid, task)
        elif status in ENDED:
            await self._bring(uid, "CANCELED", mapping.ended(task))
        else:
            await self._bring(uid, "IN PROGRESS", mapping.running(task))

    async def _complete(self, uid: str, task: Resource) -> None:
        made = await asyncio.to_thread(self._made, task)
        if not made:  # a work item may not be COMPLETED without its output
            gone = mapping.canceled("the results have been deleted", mapping.UNSPECIFIED)
            await self._bring(uid, "CANCELED", gone)
            return
        changes = mapping.performed(task, made, self._config.dicomweb_base)
        await self._bring(uid, "COMPLETED", changes)

    def _made(self, task: Resource) -> list[dict[str, Any]]:
        uids = mapping.output_uids(task)
        if not uids:
            return []
        return self._archive.instances(Query.of([("SOPInstanceUID", "\\".join(uids))])).items

    async def _bring(self, uid: str, state: str, changes: dict[str, Any]) -> None:
        """Bring a work item forward, as its performer; what is finished or another's stays."""
        item = (await asyncio.to_thread(self._items.several, [uid])).get(uid)
        if item is not None and item.state not in FINAL:
            if item.state == "IN PROGRESS" and not item.own:
                return  # somebody else has claimed it: the run is then nobody's
            try:
                await asyncio.to_thread(self._carry_out, item, state, changes)
            except WorkitemError as error:
                log.warning("workitems.not_brought", workitem=uid, state=state, reason=str(error))
                return
        if item is None or state in FINAL:
            await self._links.end(uid)

    def _carry_out(self, item: Workitem, state: str, changes: dict[str, Any]) -> None:
        lock = self._lock(item.uid)
        if item.state == "SCHEDULED":
            self._items.change_state(item.uid, "IN PROGRESS", lock, own=True)
        if item.attributes.get(PROGRESS) != changes.get(PROGRESS) or state in FINAL:
            self._items.update(item.uid, changes, lock)
        if state in FINAL:
            self._items.change_state(item.uid, state, lock)

    def _lock(self, uid: str) -> str:
        """Our Transaction UID for an item: the same after a restart, and for nobody to guess."""
        secret = hmac.new(self._config.hook_secret.encode(), uid.encode(), hashlib.sha256).digest()
        return f"2.25.{UUID(bytes=secret[:16]).int}"

    # Cancellations ------------------------------------------------------------------------------

    async def _pass_on_cancellations(self, ordering: Ordering | None) -> None:
        links = await self._links.open()
        items = await asyncio.to_thread(self._items.several, [link.uid for link in links])
        for link in links:
            item = items.get(link.uid)
            if item is None or item.state == "COMPLETED":
                await self._links.end(link.uid)
            elif item.state == "CANCELED" or (item.own and item.cancel_request is not None):
                await self._cancel(link, item, ordering)

    async def _cancel(self, link: Link, item: Workitem, ordering: Ordering | None) -> None:
        """End the run, unless another work item shows it too; the item ends in any case."""
        others = {
            other.uid
            for other in await self._links.of_task(link.task_id)
            if not other.ended and other.uid != link.uid
        }
        wanted = await asyncio.to_thread(self._items.several, others)
        alone = all(one.state in FINAL or one.cancel_request is not None for one in wanted.values())
        with contextlib.suppress(NotFound):
            if alone and ordering is not None:
                reason = "cancellation was requested over UPS-RS"
                task = await ordering.cancel(self._records, link.task_id, reason)
                await self._bring_to(link.uid, task)
        if item.state not in FINAL:
            changes = mapping.canceled("cancellation was requested", mapping.UNSPECIFIED)
            await self._bring(link.uid, "CANCELED", changes)
        await self._links.end(link.uid)
