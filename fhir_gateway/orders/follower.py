"""From orders in the FHIR store to the worklist: what is to be done, where and when."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable

import structlog

from archive import ArchiveError
from archive.worklist import Worklist, WorklistError
from fhir_gateway.following import Follower, rest
from fhir_gateway.identity.locks import locks
from fhir_gateway.orders import item, reading
from fhir_gateway.orders.reading import Order, Resource
from fhir_gateway.orders.table import ImagingOrders, KnownOrder
from fhir_gateway.schema import Pool
from records import Denied, NotFound, Records, RecordsError, RecordsUnavailable, identifiers

LOOK_S = 5.0  # a lost wake-up costs no more than this
STORE_AWAY_S = 5.0
CHECK_S = 300.0  # everything that is open is read again: what was deleted leaves no change
# Of the types that come in numbers only what is needed is asked for.
FOLLOWED: dict[str, dict[str, str]] = {
    "ServiceRequest": {},
    "Appointment": {},
    "Patient": {"_elements": "active"},
    "Encounter": {"_elements": "status"},
}
NOT_BOOKED = "no appointment of the order is booked"

log = structlog.get_logger(__name__)


class OrderFollower:
    """Keeps the worklist in line with ServiceRequests; one runs per installation."""

    def __init__(self, worklist: Worklist, records: Records, pool: Pool, zone: str | None) -> None:
        self._worklist = worklist
        self._records = records
        self._zone = zone
        self._orders = ImagingOrders(pool)
        self._dsn = str(pool.conninfo)
        self._followers = {
            kind: Follower(records, pool, f"orders {kind}", kind, params)
            for kind, params in FOLLOWED.items()
        }
        self._checked = -CHECK_S

    async def run(self, stop: asyncio.Event, woken: asyncio.Event) -> None:
        """Follow until told to stop; survives an outage of either store."""
        while not stop.is_set():
            woken.clear()
            pause = LOOK_S
            try:
                await self.round()
            except (RecordsError, ArchiveError) as error:
                pause = STORE_AWAY_S
                log.warning("orders.put_off", kind=type(error).__name__, reason=str(error))
            if not any(one.more for one in self._followers.values()):
                await rest(pause, stop, woken)

    async def round(self) -> None:
        """One look at everything that has changed."""
        if time.monotonic() - self._checked > CHECK_S:
            await self._check_open()
            self._checked = time.monotonic()
        async for request in self._followers["ServiceRequest"].changes():
            await self._follow_alone(request)
        async for appointment in self._followers["Appointment"].changes():
            await self._follow_each(_ordered_by(appointment))
        for kind, ordered in (await self._orders.of_each()).items():
            async for changed in self._followers[kind].changes():
                await self._follow_each(ordered.get(f"{kind}/{changed['id']}", []))

    async def _check_open(self) -> None:
        await self._follow_each([one.service_request for one in await self._orders.still_open()])

    async def _follow_each(self, request_ids: Iterable[str]) -> None:
        for request_id in dict.fromkeys(request_ids):
            try:
                request = await self._records.read("ServiceRequest", request_id)
            except NotFound:
                await self._gone(request_id)
                continue
            await self._follow_alone(request)

    async def _follow_alone(self, request: Resource) -> None:
        """Follow one order; an odd one does not hold up the others, and is looked at again."""
        try:
            await self.follow(request)
        except (RecordsUnavailable, Denied, ArchiveError):
            raise
        except (RecordsError, KeyError, TypeError, ValueError, AttributeError) as error:
            kind = type(error).__name__
            log.error("orders.not_followed", order=request["id"], kind=kind)
            await self._orders.put_off(request["id"], f"could not be followed: {kind}")

    async def follow(self, request: Resource) -> None:
        """Bring worklist and links in line with one ServiceRequest. Safe to repeat."""
        if not reading.is_imaging(request) or request.get("status") == "entered-in-error":
            if await self._orders.get(request["id"]) is not None:
                await self._gone(request["id"])
            return
        try:
            order = await reading.read_order(self._records, request)
        except NotFound:
            log.warning("orders.without_patient", order=request["id"])
            await self._gone(request["id"])
            return
        problem = await asyncio.to_thread(self._bring, order)
        known, before = _known(order, problem), await self._orders.get(request["id"])
        if problem and (before is None or before.problem != problem):
            log.warning("orders.not_offered", order=request["id"], reason=problem)
        if before is not None and _links(before) == _links(known):
            await self._orders.put(known)
            return
        async with self._studies_of(known, *([before] if before else [])) as uids:
            await self._orders.put(known, uids)

    def _bring(self, order: Order) -> str | None:
        """Put an order on the worklist or take it off; returns why it cannot be offered."""
        source = f"ServiceRequest/{order.request['id']}"
        problem = None
        if reading.is_open(order.request):
            try:
                if order.visits:
                    self._worklist.upsert(source, item.to_item(order, self._zone))
                    return None
                problem = NOT_BOOKED
            except (item.NotSchedulable, WorklistError) as error:
                problem = str(error)
        if self._worklist.withdraw(source):
            log.info("orders.withdrawn", order=order.request["id"])
        return problem

    async def _gone(self, request_id: str) -> None:
        known = await self._orders.get(request_id)
        await asyncio.to_thread(self._worklist.withdraw, f"ServiceRequest/{request_id}")
        async with self._studies_of(*([known] if known else [])) as uids:
            await self._orders.forget(request_id, uids)

    @contextlib.asynccontextmanager
    async def _studies_of(self, *orders: KnownOrder) -> AsyncIterator[list[str]]:
        """Studies that an order, as it was or is, belongs to.

        Meanwhile none with its accession number is published: such a one either is found here, or
        finds the order as the block leaves it.
        """
        uids = [order.study_uid for order in orders]
        async with locks(self._dsn) as held:
            for accession in sorted({order.accession for order in orders if order.accession}):
                await held.take("accession", accession)
                params = {"identifier": identifiers.value_token(accession)}
                params |= {"_elements": "identifier"}
                found = await self._records.search("ImagingStudy", params)
                uids += [uid for one in found if (uid := identifiers.study_uid_of(one))]
            yield uids


def _ordered_by(appointment: Resource) -> list[str]:
    """Ids of the ServiceRequests that an Appointment is based on."""
    parts = [str(one.get("reference", "")).split("/") for one in appointment.get("basedOn", [])]
    return [part[-1] for part in parts if part[-2:-1] == ["ServiceRequest"]]


def _known(order: Order, problem: str | None) -> KnownOrder:
    request = order.request
    accession = reading.accession_of(request) or {}
    encounter = request.get("encounter", {}).get("reference")
    try:
        patient_id = item.sent_patient(order.patient).value
    except item.NotSchedulable:
        patient_id = ""
    return KnownOrder(
        service_request=request["id"],
        study_uid=reading.study_uid_of(request),
        patient=f"Patient/{order.patient['id']}",
        patient_id=patient_id,
        encounter=str(encounter) if encounter else None,
        accession_system=accession.get("system"),
        accession=accession.get("value"),
        open=reading.is_open(request),
        problem=problem,
    )


def _links(order: KnownOrder) -> tuple[object, ...]:
    """What a study shows of its order."""
    return (
        order.study_uid,
        order.patient,
        order.patient_id,
        order.encounter,
        order.accession_system,
        order.accession,
    )
