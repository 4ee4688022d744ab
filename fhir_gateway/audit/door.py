"""What the FHIR door writes into the audit trail about each request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

from starlette.requests import Request

from access import AuditEventKind, AuditRecord, AuditSpool, Caller
from access.audit.record import MAX_PATIENTS
from access.http import address_of
from fhir_gateway.audit.subjects import Resource, located, patient_of, patients_in
from fhir_gateway.grammar import Interaction
from fhir_gateway.outcome import Refusal


class DoorTrail:
    """Writes records; each is there before the request that it is about is answered."""

    def __init__(self, spool: AuditSpool) -> None:
        self._spool = spool

    async def record(
        self,
        caller: Caller,
        interaction: Interaction,
        status: int,
        found: Resource | None = None,
        patients: tuple[str, ...] = (),
    ) -> None:
        """One record for one interaction.

        Args:
            found: the resource that was read or written.
            patients: those of whom a search handed out something.
        """
        kind, identity = interaction.resource_type, interaction.resource_id
        if found is not None and found.get("resourceType") == kind:
            identity = identity or found.get("id")
        about = f"{kind}/{identity}" if identity else kind
        patient = about if kind == "Patient" and identity else None
        if patient is None and found is not None:
            patient = patient_of(found)
        if patient is None and caller.patient is not None:
            patient = f"Patient/{caller.patient}"  # its token is good for nobody else
        await self.write(
            caller,
            interaction.action,
            interaction.event,
            status,
            resource=about,
            patient=patient,
            patients=patients,
            query=interaction.audited,
        )

    async def record_entry(
        self, caller: Caller, interaction: Interaction, sent: Resource, answered: Resource
    ) -> None:
        """One record for an entry of a batch or transaction, as the store has answered it."""
        response = answered.get("response", {})
        found = answered.get("resource") or {
            **sent.get("resource", {}),
            **(located(response.get("location")) or {"id": None}),
        }
        status = int(str(response.get("status", "200"))[:3])
        await self.record(caller, interaction, status, found, patients_in(found))

    @asynccontextmanager
    async def even_unanswered(self, caller: Caller, *asked: Interaction) -> AsyncIterator[None]:
        """Record what the store did not answer as well: it may have been done."""
        try:
            yield
        except Refusal as refusal:
            if refusal.status >= 500:
                for one in asked:
                    await self.record(caller, one, refusal.status)
            raise

    async def record_export(self, caller: Caller, what: str, job: str) -> None:
        """One record for an export, on disk before the export goes on."""
        event = AuditEventKind.EXPORT
        await self.write(caller, "E", event, 200, query=what, detail=f"export job {job}")

    async def record_denial(self, request: Request, caller: Caller | None, why: str) -> None:
        """One record for a refusal; the query stays out of it."""
        path = request.url.path.partition("/fhir")[2].strip("/")
        await self.write(
            caller or Caller("anonymous", "system", address=address_of(request)),
            "E",
            AuditEventKind.DENIED,
            403,
            resource=path[:200] or "Bundle",
            detail=f"{request.method}: {why}",
        )

    async def write(
        self,
        caller: Caller,
        action: Literal["C", "R", "U", "D", "E"],
        event: AuditEventKind,
        status: int,
        **about: Any,
    ) -> None:
        """A record, or several where one does not hold all patients. Raises AuditUnavailable."""
        outcome: Literal["success", "minor", "serious"] = "success"
        if status >= 400:
            outcome = "serious" if status >= 500 else "minor"
        patients = about.pop("patients", ())
        record = AuditRecord(
            action=action,
            event=event,
            outcome=outcome,
            caller=caller,
            at=datetime.now(UTC),
            patients=patients[:MAX_PATIENTS],
            **about,
        )
        await asyncio.to_thread(self._spool.record, record)
        for start in range(MAX_PATIENTS, len(patients), MAX_PATIENTS):
            some = replace(record, patients=patients[start : start + MAX_PATIENTS])
            await asyncio.to_thread(self._spool.record, some)
