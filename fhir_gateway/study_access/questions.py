"""The questions that the FHIR store is asked, each within the limit of one grant.

The store's own enforcement answers: the request carries a signed grant of the limit, so that a
mistake in the query shows no more than the limit does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from access.grants import HEADER, GrantSigner, Rights
from access.internal_rights import STUDY_ACCESS
from fhir_gateway.study_access.limits import Limit
from records import Records, identifiers

PAGE = "200"


class Questions:
    """Asks the store at `url`; raises RecordsError when there is no answer within `patience_s`."""

    def __init__(self, url: str, grants: GrantSigner, *, patience_s: float) -> None:
        self._grants = grants
        self._rights: ContextVar[Rights] = ContextVar("rights", default=STUDY_ACCESS)
        # One attempt: the client is told to come again, which is better than to keep it waiting.
        self._records = Records(url, self._credentials, timeout_s=patience_s, attempts=1)

    async def close(self) -> None:
        """Close the connections."""
        await self._records.close()

    async def is_covered(self, limit: Limit, imaging_study: str) -> bool:
        """Whether the ImagingStudy of this id is inside the limit."""
        query = {**limit.query(), "_id": imaging_study, "_elements": "subject"}
        with self._within(limit):
            found = await self._records.first("ImagingStudy", query)
        return found is not None and _is_inside(found, limit, imaging_study)

    async def is_named(self, limit: Limit, study: str) -> bool:
        """Whether an ImagingStudy with this Study Instance UID is inside the limit."""
        named = identifiers.token(identifiers.DICOM_UID, identifiers.oid(study))
        query = {**limit.query(), "identifier": named, "_elements": "subject"}
        with self._within(limit):
            return await self._records.first("ImagingStudy", query) is not None

    async def covered(self, limit: Limit) -> set[str]:
        """Ids of every ImagingStudy inside the limit."""
        query = {**limit.query(), "_elements": "subject", "_count": PAGE}
        with self._within(limit):
            found = await self._records.search("ImagingStudy", query)
        return {str(one["id"]) for one in found if _is_inside(one, limit, str(one["id"]))}

    async def is_patient(self, patient: str, system: str, value: str) -> bool:
        """Whether this Patient has this identifier."""
        query = {"_id": patient, "identifier": identifiers.token(system, value)}
        found = await self._records.first("Patient", query)
        return found is not None and found["id"] == patient

    def _credentials(self, method: str, path: str) -> Mapping[str, str]:
        return {HEADER: self._grants.sign(self._rights.get(), method, path)}

    @contextmanager
    def _within(self, limit: Limit) -> Iterator[None]:
        token = self._rights.set(limit.rights())
        try:
            yield
        finally:
            self._rights.reset(token)


def _is_inside(found: dict[str, Any], limit: Limit, imaging_study: str) -> bool:
    """The store's answer, looked at once more."""
    subject = found.get("subject", {}).get("reference")
    patient_fits = limit.patient is None or subject == f"Patient/{limit.patient}"
    kind = found.get("resourceType")
    return kind == "ImagingStudy" and found.get("id") == imaging_study and patient_fits
