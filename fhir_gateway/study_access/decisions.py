"""May this caller have this study? The FHIR store says, by a search within the caller's grants.

Only the ImagingStudy that we published counts: anyone who may create one could write the UID of a
study that is somebody else's into it.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from access import Caller, Undecided
from archive import Archive, ArchiveError, Standing
from archive.keys import DicomJson
from fhir_gateway.patient import IssuerRules, PatientIdentity, identity_of
from fhir_gateway.schema import Pool, migrate
from fhir_gateway.study_access.limits import Letter, Limit, limits_of
from fhir_gateway.study_access.published import (
    NONE_PUBLISHED,
    Known,
    is_settled,
    published,
    studies_published_as,
)
from fhir_gateway.study_access.questions import Questions
from records import RecordsError

KEPT_S = 30.0
MOST_KEPT = 10_000

log = structlog.get_logger(__name__)


class NewInstance(Protocol):
    """What an instance that is to be stored says of its study."""

    @property
    def study(self) -> str:
        """Study Instance UID."""

    @property
    def attributes(self) -> DicomJson:
        """DICOM JSON of the study level, patient included."""


class StudyAccess:
    """Decides for callers that are held to a patient or a filter; others need no decision.

    Every method raises Undecided when one of the stores does not answer.
    """

    def __init__(
        self,
        archive: Archive,
        pool: Pool,
        questions: Questions,
        issuers: IssuerRules,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._archive = archive
        self._pool = pool
        self._questions = questions
        self._issuers = issuers
        self._clock = clock
        self._kept: OrderedDict[tuple[object, ...], tuple[float, bool]] = OrderedDict()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Its connections, while the context lasts."""
        await self._pool.open(wait=True)
        try:
            await migrate(self._pool)
            yield
        finally:
            await self._questions.close()
            await self._pool.close()

    async def may(self, caller: Caller, study: str, letter: Letter) -> bool:
        """Whether a grant with this letter covers the study; false for one nobody knows."""
        limits = limits_of(caller, letter)
        if limits is None:
            return True
        known = await self._known(study)
        if known.mixed:
            limits = tuple(limit for limit in limits if limit.patient is None)
        allowed = await self._covered(limits, known)
        patients = any(limit.patient for limit in limits)
        # What FHIR says of the study is about to be written: whom it lets in may ask again.
        if allowed and known.unsettled and patients:
            raise Undecided("the study has just changed; who may see it is not known yet")
        if known.arriving and await self._named(limits, study):
            raise Undecided("the study is being published; who may see it is not known yet")
        return allowed

    async def visible(self, caller: Caller, letter: Letter) -> frozenset[str] | None:
        """Every study that grants with this letter cover; None for no limit."""
        limits = limits_of(caller, letter)
        if limits is None:
            return None
        found: set[str] = set()
        for limit in limits:
            found |= await self._covered_by(limit)
        return frozenset(found)

    async def may_store(self, caller: Caller, instance: NewInstance) -> bool:
        """Whether the instance may join its study (u), or begin it or go on with that (c).

        Under a limit it must be the own patient's, by PatientID and issuer. What a filter would
        say of a study that is not there yet nobody knows, so a filter lets none begin.
        """
        standing = (await self._standings({instance.study})).get(instance.study)
        if standing is None and caller.may_on_all("ImagingStudy", "c"):
            return True
        joining, beginning = limits_of(caller, "u"), limits_of(caller, "c")
        if standing is not None and (joining is None or beginning is None):
            return True
        identity = self._identity(instance.study, instance.attributes)
        patients = {one.patient for one in (*(joining or ()), *(beginning or ()))} - {None}
        mine = [p for p in patients if p is not None and await self._is(p, identity)]
        if not mine:
            return False
        if standing is not None and await self.may(caller, instance.study, "u"):
            return True
        begins = any(one.patient in mine and not one.filter for one in beginning or ())
        return begins and await self._is_begun_only(instance.study, identity, standing)

    async def _is_begun_only(
        self, study: str, identity: PatientIdentity, standing: Standing | None
    ) -> bool:
        """Whether the study is new, or still arriving and of this same patient."""
        if standing is None:
            return True
        _, changed, _ = await self._published(study)
        same = self._identity(study, standing.attributes, standing.sources) == identity
        return changed == NONE_PUBLISHED and same and not standing.patient_mismatch

    async def _known(self, study: str) -> Known:
        imaging_study, changed, version = await self._published(study)
        standing = (await self._standings({study})).get(study)
        return Known(
            imaging_study,
            version,
            arriving=standing is not None and imaging_study is None,
            mixed=standing is not None and standing.patient_mismatch,
            unsettled=not is_settled(standing, changed),
        )

    async def _covered(self, limits: tuple[Limit, ...], known: Known) -> bool:
        key = (limits, known.imaging_study, known.version)
        kept = self._kept.get(key)
        if kept is not None and self._clock() - kept[0] < KEPT_S:
            return kept[1]
        asked_at = self._clock()
        allowed = False
        for limit in limits:
            # Also asked for a study that is not there: how long it takes tells nothing.
            allowed = allowed or await self._asked(limit, known.imaging_study or "none")
        self._kept[key] = (asked_at, allowed)
        self._kept.move_to_end(key)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return allowed

    async def _named(self, limits: tuple[Limit, ...], study: str) -> bool:
        """Whether a study of this UID is inside a limit, whoever wrote it."""
        try:
            return any([await self._questions.is_named(limit, study) for limit in limits])
        except RecordsError as error:
            raise _undecided(error) from error

    async def _asked(self, limit: Limit, imaging_study: str) -> bool:
        try:
            return await self._questions.is_covered(limit, imaging_study)
        except RecordsError as error:
            raise _undecided(error) from error

    async def _covered_by(self, limit: Limit) -> set[str]:
        try:
            ids = await self._questions.covered(limit)
            found = await studies_published_as(self._pool, ids)
        except (RecordsError, psycopg.Error, PoolTimeout) as error:
            raise _undecided(error) from error
        if limit.patient is None:
            return set(found)
        standings = await self._standings(set(found))
        return {
            uid
            for uid, changed in found.items()
            if (standing := standings.get(uid)) is not None
            and not standing.patient_mismatch
            and is_settled(standing, changed)
        }

    async def _is(self, patient: str, identity: PatientIdentity) -> bool:
        if not identity.known:
            return False
        try:
            return await self._questions.is_patient(patient, identity.system, identity.value)
        except RecordsError as error:
            raise _undecided(error) from error

    async def _published(self, study: str) -> tuple[str | None, int, tuple[str, int]]:
        try:
            return await published(self._pool, study)
        except (psycopg.Error, PoolTimeout) as error:
            raise _undecided(error) from error

    async def _standings(self, studies: set[str]) -> dict[str, Standing]:
        try:
            return await asyncio.to_thread(self._archive.standings, studies)
        except ArchiveError as error:
            raise _undecided(error) from error

    def _identity(
        self, study: str, attributes: DicomJson, sources: tuple[str, ...] = ()
    ) -> PatientIdentity:
        return identity_of(attributes, study, sources, self._issuers)


def _undecided(error: Exception) -> Undecided:
    log.warning("study_access.undecided", kind=type(error).__name__)
    return Undecided("who may see the study cannot be found out now")
