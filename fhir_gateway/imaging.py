"""From the archive's feed to FHIR: one transaction for each study that has gone quiet."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import Any

import psycopg
import structlog

from archive import Archive
from archive.summary import StudySummary
from fhir_gateway import endpoint, patient, study
from fhir_gateway.config import GatewayConfig
from fhir_gateway.following import listen, rest
from fhir_gateway.identity import reviews
from fhir_gateway.identity.locks import Locks, locks
from fhir_gateway.identity.moving import follow_study
from fhir_gateway.identity.subjects import Subject, subject_of
from fhir_gateway.orders.linking import (
    OrderLinks,
    StudyFacts,
    carry_over,
    linked_by_others,
    literal,
)
from fhir_gateway.orders.table import ImagingOrders
from fhir_gateway.pending import CHANNEL, Mark, PendingStudies, Published, Waiting
from fhir_gateway.provenance import creation
from fhir_gateway.schema import Pool
from records import (
    NotFound,
    Records,
    RecordsError,
    RecordsUnavailable,
    VersionConflict,
    codes,
    identifiers,
)

FEED_PAGE = 2_000
PARALLEL = 4  # studies written at once; more only queue inside the FHIR store
GATHER_S = 0.1
ENDPOINT_URN = identifiers.urn_uuid("Endpoint")
CONFLICT_ATTEMPTS = 5
LONGEST_SLEEP_S = 5.0  # a lost notification costs no more than this
STORE_DOWN_FIRST_S, STORE_DOWN_LONGEST_S = 1.0, 15.0
KEPT_FROM_OTHERS = ("basedOn", "encounter", "interpreter", "note", "text", "extension", "contained")

log = structlog.get_logger(__name__)


class Publisher:
    """Writes Patient, Endpoint and ImagingStudy of quiet studies; one runs per installation."""

    def __init__(
        self, config: GatewayConfig, archive: Archive, records: Records, pool: Pool
    ) -> None:
        self._config = config
        self._archive = archive
        self._records = records
        self._pending = PendingStudies(pool)
        self._orders = OrderLinks(records, ImagingOrders(pool))
        self._rules = patient.IssuerRules(config.default_issuer, config.issuer_of_ae)
        self._store_delay_s = STORE_DOWN_FIRST_S

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the feed until told to stop; survives an outage of either store."""
        changed = asyncio.Event()
        listener = asyncio.create_task(
            listen(self._config.dsn, (CHANNEL,), lambda *_: changed.set())
        )
        try:
            while not stop.is_set():
                try:
                    pause = await self._round()
                except Exception as error:  # loop boundary: the feed must be followed for ever
                    log.exception("publish.round_failed", kind=type(error).__name__)
                    pause = STORE_DOWN_FIRST_S
                await _sleep(pause, stop, changed)
        finally:
            listener.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listener

    async def _round(self) -> float:
        """Take new changes, publish what is due; returns the seconds to sleep."""
        await self._take_changes()
        due = await self._pending.due(PARALLEL * 4)
        if due and not await self._publish_all(due):
            pause = self._store_delay_s
            self._store_delay_s = min(pause * 2, STORE_DOWN_LONGEST_S)
            return pause
        self._store_delay_s = STORE_DOWN_FIRST_S
        waiting = await self._pending.seconds_to_next()
        return LONGEST_SLEEP_S if waiting is None else min(max(waiting, 0.0), LONGEST_SLEEP_S)

    async def _take_changes(self) -> None:
        after = await self._pending.cursor()
        while changes := await asyncio.to_thread(self._archive.changes, after, FEED_PAGE):
            await self._pending.take(changes, self._config.quiet_s)
            after = changes[-1].sequence

    async def _publish_all(self, due: list[Waiting]) -> bool:
        """Publish side by side; False when the FHIR store is away, with all studies kept."""
        limit = asyncio.Semaphore(PARALLEL)
        answered: dict[str, bool] = {}

        async def one(waiting: Waiting) -> None:
            async with limit:
                if all(answered.values()):
                    answered[waiting.study_uid] = await self._publish_kept(waiting)

        async with asyncio.TaskGroup() as group:
            for waiting in due:
                group.create_task(one(waiting))
        if not any(answered.values()):
            return False
        # The store is there: what it gave no answer to must not hold up the next round as well.
        for uid in (uid for uid, had in answered.items() if not had):
            await self._pending.postpone(uid, "the FHIR store gave no answer in time")
        return True

    async def _publish_kept(self, waiting: Waiting) -> bool:
        """Publish one study; a failure of its own postpones it and does not stop others."""
        uid = waiting.study_uid
        try:
            await self.publish(uid)
        except RecordsUnavailable as error:
            log.warning("publish.store_away", study=uid, error=str(error))
            return False
        except RecordsError as error:
            reason = f"{type(error).__name__} {error}"
            delay_s = await self._pending.postpone(uid, reason)
            log.error("publish.refused", study=uid, reason=reason, retry_s=round(delay_s))
        except psycopg.Error:
            raise
        except Exception as error:  # boundary between studies: one poison study stops no other
            delay_s = await self._pending.postpone(uid, f"bug: {type(error).__name__}")
            log.exception("publish.failed", study=uid, retry_s=round(delay_s))
        return True

    async def publish(self, study_uid: str) -> None:
        """Bring the FHIR store in line with the archive for one study."""
        began = time.monotonic()
        for attempt in range(1, CONFLICT_ATTEMPTS + 1):
            mark = await self._pending.mark(study_uid)
            try:
                async with locks(self._config.dsn) as held:
                    # Another gateway may be at the same study, in the moment when it takes over.
                    await held.take("study", study_uid)
                    summary = await asyncio.to_thread(self._archive.study_summary, study_uid)
                    if summary is None:
                        await self._cancel(study_uid, mark)
                        return
                    changed = await self._write(summary, mark, held)
            except VersionConflict:
                # Somebody changed the same Patient or ImagingStudy: read again and retry.
                if attempt == CONFLICT_ATTEMPTS:
                    raise
                await asyncio.sleep(0.05 * attempt)
                continue
            log.info(
                "publish.done",
                study=study_uid,
                changed=changed,
                instances=summary.instance_count,
                seconds=round(time.monotonic() - began, 3),
            )
            return

    async def _cancel(self, study_uid: str, mark: Mark) -> None:
        """Tell that a study was deleted: its ImagingStudy stays, cancelled and without series."""
        before = await self._pending.published(study_uid)
        current = await self._current(study_uid, before)
        if current is not None and current.get("status") != "cancelled":
            entry = _update(study.cancelled(current), current)
            await self._records.transaction([entry], idempotent=False)
            log.info("publish.cancelled", study=study_uid)
        await self._pending.forget(study_uid, mark)

    async def _write(self, summary: StudySummary, mark: Mark, held: Locks) -> bool:
        """Write one state of a study; returns False when FHIR holds it already."""
        before = await self._pending.published(summary.uid)
        current = await self._current(summary.uid, before)
        subject = await self._subject(summary, held, current)
        if current is not None:
            subject = await self._moved(summary, subject, current)
        digest = self._digest(summary, subject)
        mark = Mark(summary.last_change, mark.again)
        if before and current and before.content_hash == digest:
            await self._pending.finish(summary.uid, mark, current["id"], digest)
            return False
        entries = self._entries(summary, subject, current)
        if current is not None and (subject.orders or literal(current.get("basedOn"))):
            # Before the study, as in _moved: what is cut off here is found undone the next time.
            await carry_over(self._records, entries[-1]["resource"], current)
        answers = await self._records.transaction(entries, idempotent=current is None)
        if current is None and answers[-1]["response"]["status"].startswith("200"):
            # Another writer created it between our search and now: read it and update that one.
            raise VersionConflict("the study was created meanwhile")
        imaging_study_id = _id_of(answers[-1])
        await self._settle(imaging_study_id, subject, current)
        await self._pending.finish(summary.uid, mark, imaging_study_id, digest)
        return True

    async def _settle(
        self, imaging_study_id: str, subject: Subject, current: dict[str, Any] | None
    ) -> None:
        """Bring the review of a study in line with the doubts about it."""
        if subject.flags or reviews.is_flagged(current):
            written = await self._records.read("ImagingStudy", imaging_study_id)
            await reviews.bring(self._records, written, subject.flags)
            await reviews.untag(self._records, written, subject.flags)

    async def _moved(
        self, summary: StudySummary, subject: Subject, current: dict[str, Any]
    ) -> Subject:
        """Bring the results of a study that is now another patient's over to that patient.

        They go first: whatever is cut off, the study itself still says that there is more to do.
        """
        known = subject.known
        if known is None:
            condition = identifiers.by_identifier(subject.identity.system, subject.identity.value)
            resource = patient.to_patient(summary.attributes, subject.identity)
            known = await self._records.create(resource, if_none_exist=condition)
        reference = {"reference": f"Patient/{known['id']}"}
        if current["subject"].get("reference") != reference["reference"]:
            log.warning("publish.patient_changed", study=summary.uid)
            await follow_study(self._records, {**current, "subject": reference})
        return replace(subject, known=known)

    async def _subject(
        self, summary: StudySummary, held: Locks, current: dict[str, Any] | None
    ) -> Subject:
        """Whom the study is about; where that is a new patient, nobody else makes one meanwhile."""
        identity = patient.identity_of(
            summary.attributes, summary.uid, summary.sources, self._rules
        )
        facts = StudyFacts(summary.uid, study.accession_of(summary.attributes))
        if facts.accession:  # an order of this number waits, and then finds what is written here
            await held.take("accession", facts.accession["value"])
        candidates = await self._orders.candidates(facts)
        known = current["subject"].get("reference") if current else None
        subject = await subject_of(self._records, summary, identity, candidates, known)
        if subject.known is None:
            await held.take("patient", f"{identity.system}|{identity.value}")
            subject = await subject_of(self._records, summary, identity, candidates, known)
        return subject

    def _digest(self, summary: StudySummary, subject: Subject) -> str:
        """Names what would be written. A new patient is named by identifier: it has no id yet."""
        identity = subject.identity
        name = f"Patient/{subject.known['id']}" if subject.known else identity.value
        return study.content_hash(self._map(summary, name, subject))

    def _entries(
        self, summary: StudySummary, subject: Subject, current: dict[str, Any] | None
    ) -> list[dict[str, Any]]:
        """The transaction, the study last."""
        entries: list[dict[str, Any]] = []
        name = identifiers.urn_uuid("Patient", summary.uid)
        if subject.known is None:
            resource = patient.to_patient(summary.attributes, subject.identity)
            query = identifiers.by_identifier(subject.identity.system, subject.identity.value)
            entries.append(_conditional_create(name, resource, query))
        else:
            name = f"Patient/{subject.known['id']}"
        place = endpoint.to_endpoint(self._config.dicomweb_base)
        entries.append(_conditional_create(ENDPOINT_URN, place, endpoint.condition()))
        written = _study_entry(self._map(summary, name, subject), summary.uid, current)
        if current is None:
            targets = [name] if subject.known is None else []
            targets.append(written["fullUrl"])
            entries += creation(summary.uid, targets, self._config.organization)
        return [*entries, written]

    def _map(self, summary: StudySummary, name: str, subject: Subject) -> dict[str, Any]:
        links = study.Links(name, ENDPOINT_URN, subject.number, tuple(subject.orders))
        return study.to_imaging_study(
            summary, links, zone=self._config.timezone, tags=subject.flags
        )

    async def _current(self, study_uid: str, before: Published | None) -> dict[str, Any] | None:
        """The ImagingStudy as stored, by id if we know it, else by its UID."""
        if before is not None:
            with contextlib.suppress(NotFound):
                return await self._records.read("ImagingStudy", before.imaging_study_id)
        query = identifiers.token(identifiers.DICOM_UID, identifiers.oid(study_uid))
        return await self._records.first("ImagingStudy", {"identifier": query})


def _conditional_create(full_url: str, resource: dict[str, Any], query: str) -> dict[str, Any]:
    return {
        "fullUrl": full_url,
        "resource": resource,
        "request": {"method": "POST", "url": resource["resourceType"], "ifNoneExist": query},
    }


def _study_entry(
    mapped: dict[str, Any], study_uid: str, current: dict[str, Any] | None
) -> dict[str, Any]:
    if current is None:
        query = identifiers.by_identifier(identifiers.DICOM_UID, identifiers.oid(study_uid))
        return _conditional_create(identifiers.urn_uuid("ImagingStudy", study_uid), mapped, query)
    return _update(merged(current, mapped), current)


def _update(resource: dict[str, Any], current: dict[str, Any]) -> dict[str, Any]:
    """The entry that replaces `current`, unless somebody else has changed it."""
    url = f"ImagingStudy/{current['id']}"
    request = {"method": "PUT", "url": url, "ifMatch": f'W/"{current["meta"]["versionId"]}"'}
    return {"fullUrl": url, "resource": resource, "request": request}


def merged(current: dict[str, Any], mapped: dict[str, Any]) -> dict[str, Any]:
    """The new content with what others have added: order links, notes, encounter, foreign tags."""
    result = {**mapped, "id": current["id"]}
    for name in KEPT_FROM_OTHERS:
        value = current.get(name)
        if value is not None and (
            linked_by_others(value) or not (name in mapped or literal(value))
        ):
            result[name] = value
    own = {codes.PATIENT_FLAG}
    foreign = [t for t in current.get("meta", {}).get("tag", []) if t.get("system") not in own]
    tags = foreign + mapped.get("meta", {}).get("tag", [])
    if tags:
        result["meta"] = {"tag": tags}
    return result


def _id_of(answer: dict[str, Any]) -> str:
    parts = str(answer["response"]["location"]).split("/_history/", 1)[0].split("/")
    return parts[-1]


async def _sleep(seconds: float, stop: asyncio.Event, changed: asyncio.Event) -> None:
    """Sleep, but wake for a stop at once and for a change after a moment that gathers more."""
    await rest(seconds, stop, changed)
    if changed.is_set() and not stop.is_set():
        changed.clear()
        await asyncio.sleep(GATHER_S)
