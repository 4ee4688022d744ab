"""From performed procedure steps (MPPS) to FHIR: Procedure, and the order that was carried out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import structlog

from archive import ArchiveError
from archive.procedure import SCHEDULED_STEPS, PerformedStep, PerformedSteps
from archive.worklist import Worklist
from fhir_gateway import dicom_values as dicom
from fhir_gateway.following import rest
from fhir_gateway.identity.merging import surviving
from fhir_gateway.identity.subjects import patients_of
from fhir_gateway.names import display_names
from fhir_gateway.orders.table import ImagingOrders, KnownOrder
from fhir_gateway.patient import IssuerRules, identity_of
from fhir_gateway.pending import PendingStudies
from fhir_gateway.schema import Pool
from fhir_gateway.study import without_empty
from records import (
    Denied,
    NotFound,
    Records,
    RecordsError,
    RecordsUnavailable,
    Rejected,
    VersionConflict,
    identifiers,
)

Resource = dict[str, Any]

PROFILE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-procedure"
STATUSES = {"IN PROGRESS": "in-progress", "COMPLETED": "completed", "DISCONTINUED": "stopped"}
TASK_STATUSES = {"IN PROGRESS": "in-progress", "COMPLETED": "completed"}
WAITING_TASKS = ("requested", "received", "accepted", "ready", "in-progress")
LOOK_S = 5.0
STORE_AWAY_S = 5.0
PAGE = 100
TRIES = 20  # of a step at which the store fails while it is there
ATTEMPTS = 3

log = structlog.get_logger(__name__)


class PerformedFollower:
    """Tells the FHIR store what modalities report; one runs per installation."""

    def __init__(
        self,
        steps: PerformedSteps,
        worklist: Worklist,
        records: Records,
        pool: Pool,
        rules: IssuerRules,
        zone: str | None,
    ) -> None:
        self._steps = steps
        self._worklist = worklist
        self._records = records
        self._pool = pool
        self._rules = rules
        self._zone = zone
        self._orders = ImagingOrders(pool)
        self._studies = PendingStudies(pool)
        self._failed: dict[str, int] = {}

    async def run(self, stop: asyncio.Event, woken: asyncio.Event) -> None:
        """Follow until told to stop; survives an outage of either store."""
        while not stop.is_set():
            woken.clear()
            pause = LOOK_S
            try:
                await self.round()
            except (RecordsError, ArchiveError) as error:
                pause = STORE_AWAY_S
                log.warning("performed.put_off", kind=type(error).__name__, reason=str(error))
            await rest(pause, stop, woken)

    async def round(self) -> None:
        """Tell every change that has not been told.

        The cursor stops before a step that is to be told again; those behind it are told too.
        Then what was done in studies that have been published since: a study says whose it is.
        """
        after = await self._cursor()
        whole = True
        while changes := await asyncio.to_thread(self._steps.changes, after, PAGE):
            for step in changes:
                whole = await self._tell_alone(step, self.tell) and whole
                if whole:
                    await self._move(step.change)
            after = changes[-1].change
        await self._look_at_published()

    async def _look_at_published(self) -> None:
        last = ""
        while studies := await self._studies.untold(last, PAGE):
            failed: set[str] = set()
            for step in await asyncio.to_thread(self._steps.of_studies, list(studies)):
                if not await self._tell_alone(step, self.show):
                    failed.update(step.study_uids)
            told = {uid: again for uid, again in studies.items() if uid not in failed}
            await self._studies.told(told)
            last = list(studies)[-1]

    async def _tell_alone(
        self, step: PerformedStep, tell: Callable[[PerformedStep], Awaitable[object]]
    ) -> bool:
        """Tell one step; False where the store failed at it and it is to be told again."""
        try:
            await tell(step)
        except (RecordsUnavailable, Denied):
            raise
        except RecordsError as error:
            tries = self._failed[step.sop_uid] = self._failed.get(step.sop_uid, 0) + 1
            given_up = tries >= TRIES or isinstance(error, Rejected)
            log.error(
                "performed.refused",
                step=step.sop_uid,
                kind=type(error).__name__,
                given_up=given_up,
            )
            if not given_up:
                return False
        self._failed.pop(step.sop_uid, None)
        return True

    async def tell(self, step: PerformedStep) -> None:
        """Bring Procedure, order and its Tasks in line with one step. Safe to repeat."""
        orders = await self.show(step)
        if orders is None:
            log.warning("performed.patient_unknown", step=step.sop_uid)
            return
        for order in orders:
            await self._move_tasks(order, step)
            if step.status == "COMPLETED":
                await self._complete(order)
        log.info("performed.told", step=step.sop_uid, status=step.status, orders=len(orders))

    async def show(self, step: PerformedStep) -> list[KnownOrder] | None:
        """Bring the Procedure of one step in line; returns its orders.

        None where nobody knows whose it is; the study, once it is published, will say.
        """
        orders = await self._orders_of(step)
        subject = await self._subject(step, orders)
        if subject is None:
            return None
        await self._write(to_procedure(step, subject, orders, self._zone))
        return orders

    async def _orders_of(self, step: PerformedStep) -> list[KnownOrder]:
        found: dict[str, KnownOrder] = {}
        for reference in dicom.items(step.attributes, SCHEDULED_STEPS):
            uid = dicom.text(reference, "0020000D")
            accession = dicom.text(reference, "00080050")
            orders = await self._orders.of_study(uid) if uid else []
            if not orders and accession:
                patient_id = dicom.text(step.attributes, "00100020")
                same = await self._orders.of_accession(accession)
                same = [one for one in same if one.patient_id == patient_id]
                # Two issuers may have given the same numbers to two people.
                orders = same if len({one.patient for one in same}) == 1 else []
            found |= {order.service_request: order for order in orders}
        return [found[name] for name in sorted(found)]

    async def _subject(self, step: PerformedStep, orders: list[KnownOrder]) -> str | None:
        if orders:
            return await self._survivor(orders[0].patient)
        for uid in step.study_uids:
            published = await self._studies.published(uid)
            with contextlib.suppress(NotFound):
                if published is not None:
                    name = published.imaging_study_id
                    study = await self._records.read("ImagingStudy", name)
                    return await self._survivor(study["subject"]["reference"])
        identity = identity_of(step.attributes, step.sop_uid, [step.calling_ae], self._rules)
        if not identity.known:
            return None
        found = await patients_of(self._records, identity)
        return f"Patient/{found[0]['id']}" if len(found) == 1 else None

    async def _survivor(self, reference: str) -> str:
        return f"Patient/{(await surviving(self._records, reference))['id']}"

    async def _write(self, procedure: Resource) -> None:
        """Create the Procedure of a step, or bring it up to date; others' additions stay."""
        own = procedure["identifier"][0]
        token = identifiers.token(own["system"], own["value"])
        for _ in range(ATTEMPTS):
            known = await self._records.first("Procedure", {"identifier": token})
            if known is None:
                condition = identifiers.by_identifier(own["system"], own["value"])
                known = await self._records.create(procedure, if_none_exist=condition)
            if all(known.get(name) == value for name, value in procedure.items() if name != "meta"):
                return
            with contextlib.suppress(VersionConflict):
                await self._records.update({**known, **procedure, "meta": known["meta"]})
                return
        raise VersionConflict("a Procedure changes faster than it can be read")

    async def _complete(self, order: KnownOrder) -> None:
        """The order is completed once no step of it is left to be done."""
        statuses = await asyncio.to_thread(self._worklist.statuses, order.reference)
        if any(status not in ("COMPLETED", "DISCONTINUED") for status in statuses):
            return
        try:
            request = await self._records.read("ServiceRequest", order.service_request)
        except NotFound:
            return
        if await self._bring_to("completed", request, ("active",)):
            log.info("performed.order_completed", order=order.service_request)

    async def _move_tasks(self, order: KnownOrder, step: PerformedStep) -> None:
        """Tasks that somebody has made to have the order carried out go with it."""
        status = TASK_STATUSES.get(step.status)
        if status is None:
            return
        params = {"focus": order.reference, "status": ",".join(WAITING_TASKS)}
        for task in await self._records.search("Task", params):
            await self._bring_to(status, task, WAITING_TASKS)

    async def _bring_to(self, status: str, resource: Resource, waiting: Collection[str]) -> bool:
        """Give an order or a Task its new status, unless it is no longer waiting for it."""
        for _ in range(ATTEMPTS):
            if resource["status"] == status or resource["status"] not in waiting:
                return False
            with contextlib.suppress(VersionConflict):
                await self._records.update({**resource, "status": status})
                return True
            resource = await self._records.read(resource["resourceType"], resource["id"])
        raise VersionConflict("an order or a Task changes faster than it can be read")

    async def _cursor(self) -> int:
        async with self._pool.connection() as connection:
            found = await connection.execute("select change from gateway.procedure_cursor")
            row = await found.fetchone()
            return int(row["change"]) if row else 0

    async def _move(self, change: int) -> None:
        async with self._pool.connection() as connection:
            await connection.execute("update gateway.procedure_cursor set change = %s", [change])


def to_procedure(
    step: PerformedStep, subject: str, orders: list[KnownOrder], zone: str | None
) -> Resource:
    """The Procedure of a performed step."""
    data = step.attributes
    encounters = {order.encounter for order in orders if order.encounter}
    return without_empty(
        {
            "resourceType": "Procedure",
            "meta": {"profile": [PROFILE]},
            "identifier": [
                {"system": identifiers.DICOM_UID, "value": identifiers.oid(step.sop_uid)}
            ],
            "basedOn": [{"reference": order.reference} for order in orders],
            "status": STATUSES[step.status],
            "statusReason": next(iter(dicom.coded(data, "00400281")), None),
            "code": _code(data),
            "subject": {"reference": subject},
            "encounter": {"reference": encounters.pop()} if len(encounters) == 1 else None,
            "performedPeriod": _period(data, zone),
            "performer": [
                {"actor": {"type": "Practitioner", "display": name}} for name in _performers(data)
            ],
            "note": [{"text": text}] if (text := dicom.text(data, "00400280")) else None,
        }
    )


def _code(data: dicom.DicomJson) -> Resource:
    concepts = dicom.coded(data, "00081032") or dicom.coded(data, "00400260")
    text = dicom.text(data, "00400254") or f"Imaging procedure, {dicom.text(data, '00080060')}"
    return ({"text": text} | concepts[0]) if concepts else {"text": text}


def _period(data: dicom.DicomJson, zone: str | None) -> Resource:
    offset = dicom.text(data, "00080201")
    start = dicom.fhir_datetime(data, "00400244", "00400245", offset=offset, zone=zone)
    end = dicom.fhir_datetime(data, "00400250", "00400251", offset=offset, zone=zone)
    return without_empty({"start": start, "end": end})


def _performers(data: dicom.DicomJson) -> list[str]:
    series = [data, *dicom.items(data, "00400340")]
    names = [name for one in series for name in display_names(one, "00081050", "00081070")]
    return list(dict.fromkeys(names))
