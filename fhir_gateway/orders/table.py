"""Imaging orders as the gateway remembers them: by study, accession number and patient."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from psycopg.rows import DictRow

from fhir_gateway.pending import ask_again
from fhir_gateway.schema import Pool

_COLUMNS = (
    "service_request, study_uid, patient, patient_id, encounter, accession_system, accession, open,"
    " problem"
)


@dataclass(frozen=True, slots=True)
class KnownOrder:
    """What links an order to studies.

    Attributes:
        service_request: its id.
        patient: `Patient/ID` that it is for, after merges.
        patient_id: PatientID that modalities were given; empty where none was.
        open: whether it is still to be done.
        problem: why it is not on the worklist, for a person.
    """

    service_request: str
    study_uid: str
    patient: str
    patient_id: str
    encounter: str | None
    accession_system: str | None
    accession: str | None
    open: bool
    problem: str | None = None

    @property
    def reference(self) -> str:
        """As FHIR writes it; also the worklist's name for the order."""
        return f"ServiceRequest/{self.service_request}"


class ImagingOrders:
    """The table `gateway.imaging_order`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def put(self, order: KnownOrder, study_uids: Collection[str] = ()) -> None:
        """Keep an order and have these studies published again, both or neither."""
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute(
                f"insert into gateway.imaging_order ({_COLUMNS})"  # noqa: S608
                " values (%s,%s,%s,%s,%s,%s,%s,%s,%s)"
                " on conflict (service_request) do update set (study_uid, patient, patient_id,"
                " encounter, accession_system, accession, open, problem, updated_at) ="
                " (excluded.study_uid, excluded.patient, excluded.patient_id, excluded.encounter,"
                " excluded.accession_system, excluded.accession, excluded.open, excluded.problem,"
                " now())".encode(),
                [
                    order.service_request,
                    order.study_uid,
                    order.patient,
                    order.patient_id,
                    order.encounter,
                    order.accession_system,
                    order.accession,
                    order.open,
                    order.problem,
                ],
            )
            await ask_again(connection, study_uids)

    async def put_off(self, service_request: str, problem: str) -> None:
        """Have an order looked at again with those that are open, whatever is known of it."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "insert into gateway.imaging_order (service_request, study_uid, patient, open,"
                " problem) values (%s, '', '', true, %s)"
                " on conflict (service_request) do update set open = true,"
                " problem = excluded.problem",
                [service_request, problem],
            )

    async def forget(self, service_request: str, study_uids: Collection[str]) -> None:
        """Drop an order that is gone and have these studies published again, both or neither."""
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute(
                "delete from gateway.imaging_order where service_request = %s", [service_request]
            )
            await ask_again(connection, study_uids)

    async def get(self, service_request: str) -> KnownOrder | None:
        """One order by the id of its ServiceRequest."""
        return next(iter(await self._where("service_request = %s", service_request)), None)

    async def of_study(self, study_uid: str) -> list[KnownOrder]:
        """Orders that a study was begun for, by the UID that modalities were given."""
        return await self._where("study_uid = %s", study_uid)

    async def of_accession(self, accession: str) -> list[KnownOrder]:
        """Orders with this accession number, whoever issued it."""
        return await self._where("accession = %s", accession)

    async def of_each(self) -> dict[str, dict[str, list[str]]]:
        """Ids of open orders by Patient and by Encounter: type, then reference."""
        found: dict[str, dict[str, list[str]]] = {"Patient": {}, "Encounter": {}}
        for order in await self.still_open():
            found["Patient"].setdefault(order.patient, []).append(order.service_request)
            if order.encounter:
                found["Encounter"].setdefault(order.encounter, []).append(order.service_request)
        return found

    async def still_open(self) -> list[KnownOrder]:
        """Every order that is still to be done."""
        return await self._where("open and %s <> ''", "any")

    async def _where(self, condition: str, value: str) -> list[KnownOrder]:
        statement = f"select {_COLUMNS} from gateway.imaging_order where {condition}"  # noqa: S608
        async with self._pool.connection() as connection:
            found = await connection.execute(
                f"{statement} order by service_request".encode(), [value]
            )
            return [_order(row) async for row in found]


def _order(row: DictRow) -> KnownOrder:
    return KnownOrder(**row)
