"""Forwarding: what arrives and meets a rule is sent on to a peer, in order and at least once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from access import AuditEventKind, Caller
from archive import Archive, Change, InstanceRecord, Query
from archive.keys import DicomJson
from dimse.association.ledger import Ledger
from dimse.peers import Peer
from dimse.retrieve.move import Moving, outgoing_of
from dimse.routing.job_runner import Result
from dimse.routing.jobs import Job, Order
from dimse.scu.negotiation import AssociationFailed
from dimse.scu.sender import Delivery, send_items

log = structlog.get_logger(__name__)

_MODALITY, _MODALITIES, _DESCRIPTION = "00080060", "00080061", "00081030"
_SERIES_UID = "0020000E"


@dataclass(frozen=True, slots=True)
class ForwardRule:
    """What is sent on, and where to; an empty condition always holds.

    Attributes:
        to: Name of a peer.
        description: Regular expression that StudyDescription must contain, case ignored.
    """

    name: str
    to: str
    modalities: tuple[str, ...] = ()
    sop_classes: tuple[str, ...] = ()
    calling_aes: tuple[str, ...] = ()
    description: str = ""


@dataclass(frozen=True, slots=True)
class _About:
    """What rules look at, of one study."""

    description: str
    modality_of: Mapping[str, str] = field(default_factory=dict)


class Forwarding:
    """Turns changes into orders by the rules, and carries the orders out.

    Args:
        archive: Where instances are.
        peers: The peer table.
        rules: In any order; an instance that several rules send to one peer is sent once.
        moving: How instances are sent.
        ledger: Where it is recorded.
    """

    def __init__(
        self,
        archive: Archive,
        peers: Callable[[], Sequence[Peer]],
        rules: Sequence[ForwardRule],
        moving: Moving,
        ledger: Ledger,
    ) -> None:
        self._archive = archive
        self._peers = peers
        self._rules = tuple(rules)
        self._moving = moving
        self._ledger = ledger

    def orders(self, changes: Sequence[Change]) -> list[Order]:
        """What the rules make of these changes: one order for each peer and study."""
        stored = [one for one in changes if one.kind == "instance_stored"]
        if not self._rules or not stored:
            return []
        uids = [one.key.instance for one in stored]
        records = {r.key.instance: r for r in self._archive.records_of(instances=uids)}
        about: dict[str, _About] = {}
        found: dict[tuple[str, str], tuple[str, dict[str, None]]] = {}
        for change in stored:
            record = records.get(change.key.instance)
            if record is None:
                continue  # deleted since
            study = change.key.study
            if study not in about:
                about[study] = self._about(study)
            for rule in self._rules:
                if self._comes_from(change, rule) or not meets(rule, change, record, about[study]):
                    continue
                _, instances = found.setdefault((rule.to, study), (rule.name, {}))
                instances[record.key.instance] = None
        last = changes[-1].sequence
        return [
            Order("forward", rule, to, study, tuple(instances), f"forward:{to}:{study}:{last}")
            for (to, study), (rule, instances) in found.items()
        ]

    def carry_out(self, job: Job, stop: Callable[[], bool]) -> Result:
        """Send what is left of a job."""
        everything = tuple(job.instances)
        peer = next((one for one in self._peers() if one.name == job.peer), None)
        if peer is None:
            return Result("refused", f"there is no peer named {job.peer}", everything)
        records = list(self._archive.records_of(instances=job.instances)) if everything else []
        left = {record.key.instance: None for record in records}
        trouble: Delivery | None = None
        away = ""
        try:
            for delivery in send_items(
                peer,
                [outgoing_of(record) for record in records],
                self._moving.calling,
                transcoder=self._moving.transcoder,
                associations=self._moving.associations,
                stop=stop,
            ):
                if delivery.ok:
                    left.pop(delivery.item.instance, None)
                elif is_away(delivery):
                    away = delivery.text
                else:
                    trouble = delivery
        except AssociationFailed as error:
            away = str(error)
        self._record(job, len(records) - len(left), len(left))
        if not left:
            return Result("done", f"{len(records)} sent")
        if away or trouble is None:
            return Result("away", away or "interrupted", tuple(left))
        return Result("refused", f"{len(left)} not taken: {trouble.text}", tuple(left))

    def _comes_from(self, change: Change, rule: ForwardRule) -> bool:
        """Whether it would go back to where it came from, or to ourselves."""
        title = next((one.ae_title for one in self._peers() if one.name == rule.to), None)
        return title is not None and title in (
            change.source.calling_ae,
            self._moving.calling.ae_title,
        )

    def _about(self, study: str) -> _About:
        if not any(rule.description or rule.modalities for rule in self._rules):
            return _About("")
        match = {"StudyInstanceUID": study}
        studies = self._archive.studies(Query.of(match, limit=1)).items
        series = self._archive.iterate("series", Query.of(match, limit=None))
        return _About(
            description=first(studies[0], _DESCRIPTION) if studies else "",
            modality_of={first(one, _SERIES_UID): first(one, _MODALITY) for one in series},
        )

    def _record(self, job: Job, sent: int, left: int) -> None:
        """DICOM Instances Transferred (PS3.15 A.5.3.7)."""
        if sent:
            self._ledger.event(
                Caller(self._moving.calling.ae_title, "system"),
                AuditEventKind.RETRIEVE,
                "minor" if left else "success",
                job.study,
                f"forwarded to {job.peer} by rule {job.rule}: {sent} sent, {left} left",
            )


def meets(rule: ForwardRule, change: Change, record: InstanceRecord, about: _About) -> bool:
    """Whether an instance meets every condition of a rule."""
    modality = about.modality_of.get(record.key.series, "")
    conditions: Iterable[bool] = (
        not rule.modalities or modality in rule.modalities,
        not rule.sop_classes or record.sop_class in rule.sop_classes,
        not rule.calling_aes or change.source.calling_ae in rule.calling_aes,
        not rule.description or bool(re.search(rule.description, about.description, re.I)),
    )
    return all(conditions)


def is_away(delivery: Delivery) -> bool:
    """Whether the peer, and not the instance, is the reason: no answer, or no room there."""
    if delivery.status is None:
        return delivery.trouble
    return delivery.status >> 8 == 0xA7


def first(document: DicomJson, tag: str) -> str:
    """The first value of an attribute; "" if there is none."""
    values = document.get(tag, {}).get("Value") or [""]
    value = values[0]
    return str(value.get("Alphabetic", "")) if isinstance(value, dict) else str(value)
