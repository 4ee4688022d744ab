"""The questions that the FHIR store is asked, each within the limit of one grant."""

from __future__ import annotations

from typing import Any

from fhir_gateway.study_access.limits import Limit
from records import Records, identifiers

PAGE = "200"


class Questions:
    """Asks with `records`; raises RecordsError when there is no answer."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def close(self) -> None:
        """Close the connections."""
        await self._records.close()

    async def is_covered(self, limit: Limit, imaging_study: str) -> bool:
        """Whether the ImagingStudy of this id is inside the limit."""
        query = {**limit.query(), "_id": imaging_study, "_elements": "subject"}
        found = await self._records.first("ImagingStudy", query)
        return found is not None and _is_inside(found, limit, imaging_study)

    async def covered(self, limit: Limit) -> set[str]:
        """Ids of every ImagingStudy inside the limit."""
        query = {**limit.query(), "_elements": "subject", "_count": PAGE}
        return {
            str(found["id"])
            async for found in self._records.pages("ImagingStudy", query)
            if _is_inside(found, limit, str(found["id"]))
        }

    async def is_patient(self, patient: str, system: str, value: str) -> bool:
        """Whether this Patient has this identifier."""
        query = {"_id": patient, "identifier": identifiers.token(system, value)}
        found = await self._records.first("Patient", query)
        return found is not None and found["id"] == patient


def _is_inside(found: dict[str, Any], limit: Limit, imaging_study: str) -> bool:
    """The store's answer, looked at once more."""
    subject = found.get("subject", {}).get("reference")
    patient_fits = limit.patient is None or subject == f"Patient/{limit.patient}"
    kind = found.get("resourceType")
    return kind == "ImagingStudy" and found.get("id") == imaging_study and patient_fits
