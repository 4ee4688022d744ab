"""Follows merges of patients: studies are published again for whoever survives."""

from __future__ import annotations

import asyncio
import contextlib
import time

import structlog

from fhir_gateway.following import Follower, rest
from fhir_gateway.identity import moving
from fhir_gateway.identity.merging import Resource, replacement_of, surviving
from fhir_gateway.pending import PendingStudies
from fhir_gateway.schema import Pool
from fhir_gateway.study_access import note_change
from records import (
    Denied,
    NotFound,
    Records,
    RecordsError,
    RecordsUnavailable,
    codes,
    identifiers,
)

LOOK_S = 5.0  # a lost wake-up costs no more than this
STORE_AWAY_S = 5.0
CHECK_S = 600.0
DOUBLED = identifiers.token(codes.PATIENTS_DOUBLED.system, codes.PATIENTS_DOUBLED.code)

log = structlog.get_logger(__name__)


class MergeFollower:
    """Has the studies of merged, and of separated, patients published again; one runs at a time.

    So are those whose number several patients have, whenever a patient with it changes.
    """

    def __init__(self, records: Records, pool: Pool) -> None:
        self._records = records
        self._pool = pool
        self._pending = PendingStudies(pool)
        elements = {"_elements": "active,identifier,link"}
        self._patients = Follower(records, pool, "merges", "Patient", elements)
        self._checked = -CHECK_S

    async def run(self, stop: asyncio.Event, woken: asyncio.Event) -> None:
        """Follow until told to stop; survives an outage of the FHIR store."""
        while not stop.is_set():
            woken.clear()
            pause = LOOK_S
            try:
                await self.round()
            except RecordsError as error:
                pause = STORE_AWAY_S
                log.warning("merges.put_off", kind=type(error).__name__, reason=str(error))
            if not self._patients.more:
                await rest(pause, stop, woken)

    async def round(self) -> None:
        """One look at every Patient that has changed, now and then at all that were merged."""
        recorded = await self._all_recorded()
        doubled = await self._doubled()
        async for patient in self._patients.changes():
            numbers = [_number(one) for one in patient.get("identifier", [])]
            if uids := [uid for number in numbers for uid in doubled.get(number, [])]:
                await self._pending.ask_again(uids)
            if patient["id"] in recorded or replacement_of(patient) is not None:
                await self._follow_alone(patient)
        if time.monotonic() - self._checked > CHECK_S:
            await self._pending.ask_again(uid for uids in doubled.values() for uid in uids)
            async for patient in self._records.pages("Patient", {"active": "false"}):
                recorded.discard(patient["id"])
                await self._follow_alone(patient)
            for separated in sorted(recorded):
                with contextlib.suppress(NotFound):
                    await self._follow_alone(await self._records.read("Patient", separated))
            self._checked = time.monotonic()

    async def _follow_alone(self, patient: Resource) -> None:
        """Follow one Patient; an odd one does not hold up the others."""
        try:
            await self.follow(patient)
        except (RecordsUnavailable, Denied):
            raise
        except RecordsError as error:
            log.error("merges.not_followed", patient=patient["id"], kind=type(error).__name__)

    async def follow(self, patient: Resource) -> None:
        """Have studies published again whose patient this was, or has been. Safe to repeat."""
        merged_into = replacement_of(patient)
        before = await self._recorded(patient["id"])
        if merged_into is None and before is None:
            return
        target = None
        if merged_into is not None:
            survivor = await surviving(self._records, f"Patient/{patient['id']}")
            target = f"Patient/{survivor['id']}"
            await self._move_procedures(patient["id"], target)
        owners = [f"Patient/{patient['id']}"]
        if before and before != target:
            owners.append(before)  # separated again: some of the survivor's studies go back
        asked = 0
        for owner in owners:
            asked += await self._publish_again(owner)
        await self._record(patient["id"], target)  # last: what is cut off before is done again
        await note_change(self._pool)
        if asked:
            log.info("merges.followed", patient=patient["id"], studies=asked)

    async def _doubled(self) -> dict[str, list[str]]:
        """Studies whose number several patients have, by that number."""
        found: dict[str, list[str]] = {}
        params = {"_tag": DOUBLED, "_elements": "identifier,subject"}
        async for study in self._records.pages("ImagingStudy", params):
            if uid := identifiers.study_uid_of(study):
                number = _number(study["subject"].get("identifier", {}))
                found.setdefault(number, []).append(uid)
        return found

    async def _publish_again(self, owner: str) -> int:
        params = {"patient": owner, "_elements": "identifier"}
        found = await self._records.search("ImagingStudy", params)
        uids = [uid for one in found if (uid := identifiers.study_uid_of(one))]
        await self._pending.ask_again(uids)
        return len(uids)

    async def _move_procedures(self, patient_id: str, target: str) -> None:
        """What modalities reported of no study that we have."""
        params = {"patient": f"Patient/{patient_id}", "identifier": f"{identifiers.DICOM_UID}|"}
        for procedure in await self._records.search("Procedure", params):
            await moving.move(self._records, procedure, target)

    async def _all_recorded(self) -> set[str]:
        async with self._pool.connection() as connection:
            found = await connection.execute("select patient from gateway.patient_merge")
            return {str(row["patient"]) async for row in found}

    async def _recorded(self, patient_id: str) -> str | None:
        async with self._pool.connection() as connection:
            found = await connection.execute(
                "select merged_into from gateway.patient_merge where patient = %s", [patient_id]
            )
            row = await found.fetchone()
            return str(row["merged_into"]) if row else None

    async def _record(self, patient_id: str, target: str | None) -> None:
        async with self._pool.connection() as connection:
            if target is None:
                await connection.execute(
                    "delete from gateway.patient_merge where patient = %s", [patient_id]
                )
                return
            await connection.execute(
                "insert into gateway.patient_merge (patient, merged_into) values (%s, %s)"
                " on conflict (patient) do update set merged_into = excluded.merged_into",
                [patient_id, target],
            )


def _number(identifier: Resource) -> str:
    return identifiers.token(str(identifier.get("system")), str(identifier.get("value")))
