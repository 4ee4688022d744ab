"""Priors: when a study arrives, the patient's earlier ones are looked for at a peer and fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import structlog
from pydicom.dataset import Dataset

from access import AuditEventKind, Caller
from archive import Archive, Change, Query
from archive.keys import DicomJson
from dimse.association.ledger import Ledger
from dimse.peers import Peer
from dimse.routing.forward import first
from dimse.routing.job_runner import Result
from dimse.routing.jobs import Job, Jobs, Order
from dimse.routing.priors_match import (
    RESULTS,
    Patient,
    PriorsRule,
    agrees,
    candidates,
    date_range,
    listed,
    patient_of,
)
from dimse.scu.classes import classes_of
from dimse.scu.keep import ArchiveKeeper, Wanted
from dimse.scu.negotiation import AssociationBroken, AssociationFailed, Calling
from dimse.scu.query import Asking, PeerRefused
from dimse.scu.retrieve import Progress, get, move

log = structlog.get_logger(__name__)

_PATIENT_ID, _ISSUER, _NAME, _BIRTH_DATE = "00100020", "00100021", "00100010", "00100030"
_STUDY_DATE, _MODALITY, _COUNT = "00080020", "00080060", "00201208"
_REMEMBERED = 10_000
_ANSWERS = 500


class Priors:
    """Turns new studies into orders by the rules, and carries the orders out."""

    def __init__(
        self,
        archive: Archive,
        jobs: Jobs,
        peers: Callable[[], Sequence[Peer]],
        rules: Sequence[PriorsRule],
        calling: Calling,
        ledger: Ledger,
    ) -> None:
        self._archive = archive
        self._jobs = jobs
        self._peers = peers
        self._rules = {rule.name: rule for rule in rules}
        self._calling = calling
        self._ledger = ledger
        self._seen: set[tuple[str, str]] = set()

    def orders(self, changes: Sequence[Change]) -> list[Order]:
        """For each study that is new by these changes: look for its priors."""
        found: list[Order] = []
        if not self._rules:
            return found
        for change in changes:
            for rule in self._rules.values():
                mark = (rule.name, change.key.study)
                if change.kind != "instance_stored" or mark in self._seen:
                    continue
                # A prior that we fetched is no new study: its source knows it.
                peer = self._peer(rule.source)
                if peer is not None and change.source.calling_ae == peer.ae_title:
                    continue
                if not self._is_reason(rule, change):
                    continue
                if len(self._seen) > _REMEMBERED:
                    self._seen.clear()  # the table's keys remember as well
                self._seen.add(mark)
                key = f"priors:{rule.name}:{change.key.study}"
                found.append(Order("priors", rule.name, rule.source, change.key.study, (), key))
        return found

    def forget(self) -> None:
        """What was ordered has not reached the table: order it again."""
        self._seen.clear()

    def look(self, job: Job, _stop: Callable[[], bool]) -> Result:
        """Ask the peer for priors, and order those that are not here."""
        rule, peer = self._rules.get(job.rule), self._peer(job.peer)
        if rule is None or peer is None:
            return Result("refused", f"there is no rule {job.rule} or no peer {job.peer} any more")
        study = self._study(job.study)
        if study is None:
            return Result("done", "the study is gone")
        ours = Patient(*(first(study, tag) for tag in (_PATIENT_ID, _ISSUER, _NAME, _BIRTH_DATE)))
        if not ours.identifier:
            return Result("done", "the study has no PatientID")
        try:
            with Asking(peer, self._calling) as asking:
                keys = _keys(ours, date_range(first(study, _STUDY_DATE), rule.max_age_days))
                answers = candidates(rule, job.study, asking.find(keys, most=_ANSWERS))
                others = [one for one in answers if not agrees(ours, patient_of(one))]
                same = [one for one in answers if one not in others]
                chosen = self._chosen(rule, asking, same)
        except PeerRefused as error:
            return Result("refused", str(error))
        except (AssociationFailed, AssociationBroken) as error:
            return Result("away", str(error))
        missing = [uid for uid, count in chosen if not self._is_here(uid, count)]
        self._jobs.add([self._fetch_order(job, uid) for uid in missing])
        text = f"{len(chosen)} priors, {len(missing)} to fetch"
        if others:
            text += f"; {len(others)} passed over: name or birth date differs"
        return Result("done", text)

    def fetch(self, job: Job, stop: Callable[[], bool]) -> Result:
        """Fetch one prior."""
        rule, peer = self._rules.get(job.rule), self._peer(job.peer)
        if peer is None:
            return Result("refused", f"there is no peer named {job.peer}")
        try:
            steps = self._steps(peer, job.study, "get" if rule is None else rule.by)
            final = _last(steps, stop)
        except (AssociationFailed, AssociationBroken) as error:
            return Result("away", str(error))
        if final is None:
            return Result("away", "interrupted")
        got = final.completed + final.warning
        self._ledger.event(
            Caller(self._calling.ae_title, "system"),
            AuditEventKind.RETRIEVE,
            "success" if final.ok else "minor",
            job.study,
            f"prior from {job.peer} by rule {job.rule}: {got} fetched, {final.failed} failed",
        )
        if final.ok or (final.status == 0xB000 and not final.failed):
            return Result("done", f"{got} fetched")
        return Result("refused", final.text)

    def _steps(self, peer: Peer, study: str, by: str) -> Iterator[Progress]:
        identifier = Dataset()
        identifier.QueryRetrieveLevel = "STUDY"
        identifier.StudyInstanceUID = study
        if by == "move":
            return move(peer, identifier, self._calling.ae_title, self._calling)
        keeper = ArchiveKeeper(self._archive, Wanted(frozenset({study})), peer.host)
        classes = classes_of(peer, study, self._calling)
        return get(peer, identifier, classes, keeper, self._calling)

    def _is_reason(self, rule: PriorsRule, change: Change) -> bool:
        """Whether the instance's series is one for which priors are wanted."""
        match = {
            "StudyInstanceUID": change.key.study,
            "SeriesInstanceUID": change.key.series,
        }
        series = self._archive.series(Query.of(match, limit=1)).items
        modality = first(series[0], _MODALITY) if series else ""
        return modality in rule.modalities if rule.modalities else modality not in RESULTS

    def _chosen(
        self, rule: PriorsRule, asking: Asking, answers: Sequence[Dataset]
    ) -> list[tuple[str, int | None]]:
        """UIDs of the priors to have, with their number of instances where the peer tells it."""
        chosen: list[tuple[str, int | None]] = []
        for one in answers:
            uid = str(one.StudyInstanceUID)
            if rule.body_parts and not _shows(asking, uid, rule.body_parts):
                continue
            count = one.get("NumberOfStudyRelatedInstances")
            chosen.append((uid, int(count) if str(count or "").isdigit() else None))
            if len(chosen) == rule.most:
                break
        return chosen

    def _is_here(self, study: str, count: int | None) -> bool:
        found = self._study(study)
        return found is not None and (count is None or int(first(found, _COUNT) or 0) >= count)

    def _fetch_order(self, job: Job, study: str) -> Order:
        key = f"fetch:{job.rule}:{study}:{job.study}"
        return Order("fetch", job.rule, job.peer, study, (), key)

    def _study(self, study: str) -> DicomJson | None:
        found = self._archive.studies(Query.of({"StudyInstanceUID": study}, limit=1)).items
        return found[0] if found else None

    def _peer(self, name: str) -> Peer | None:
        return next((one for one in self._peers() if one.name == name), None)


def _last(steps: Iterator[Progress], stop: Callable[[], bool]) -> Progress | None:
    """The final answer; None if we stopped before it came."""
    last = None
    for progress in steps:
        if stop():
            return None
        last = progress
    return last


def _keys(patient: Patient, dates: str) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.PatientID = patient.identifier
    identifier.StudyDate = dates
    for name in (
        *("IssuerOfPatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID"),
        *("StudyDescription", "ModalitiesInStudy", "NumberOfStudyRelatedInstances"),
    ):
        setattr(identifier, name, "" if name != "NumberOfStudyRelatedInstances" else None)
    return identifier


def _shows(asking: Asking, study: str, body_parts: Sequence[str]) -> bool:
    """Whether a series of the study is of one of these body parts."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "SERIES"
    identifier.StudyInstanceUID = study
    identifier.SeriesInstanceUID = identifier.BodyPartExamined = ""
    found = {
        part.upper()
        for answer in asking.find(identifier)
        for part in listed(answer.get("BodyPartExamined"))
    }
    return bool(found & {part.upper() for part in body_parts})
