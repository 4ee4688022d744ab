"""Instance Availability Notification, SCU: peers are told of studies that are here (PS3.4 R)."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

import structlog
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from archive import Archive, ArchiveError, InstanceRecord
from dimse.commitment.message import to_bytes
from dimse.peer_table import PeerTable
from dimse.peers import Peer
from dimse.routing.availability_table import Announcement, AvailabilityTable
from dimse.scu.association import RequestedAssociation
from dimse.scu.contexts import EXPLICIT_LE, IMPLICIT_LE
from dimse.scu.negotiation import AssociationBroken, AssociationFailed, Calling, Proposal
from dimse.wire.command import (
    COMMAND,
    COMMENT,
    DATA_SET_TYPE,
    INSTANCE,
    MESSAGE_ID,
    SOP_CLASS,
    WITH_DATA_SET,
    encode,
)

log = structlog.get_logger(__name__)

NOTIFICATION = "1.2.840.10008.5.1.4.33"
N_CREATE_RQ = 0x0140


@dataclass(frozen=True, slots=True)
class AvailabilityConfig:
    """Who is told of new studies, and when.

    Attributes:
        peers: Names in the peer table.
        quiet_s: A study is told of when nothing has been added to it for so long.
        delays_s: Waits between attempts; after the last one we give up.
    """

    peers: tuple[str, ...] = ()
    calling: Calling = Calling()  # noqa: RUF009  frozen
    quiet_s: float = 10.0
    poll_s: float = 2.0
    lease_s: float = 120.0
    delays_s: tuple[float, ...] = (10, 60, 300, 1800, 3600, 3600, 3600, 3600)


class AvailabilityNotifier:
    """A thread that follows the archive and tells the peers."""

    def __init__(
        self,
        archive: Archive,
        table: AvailabilityTable,
        peers: PeerTable,
        config: AvailabilityConfig,
    ) -> None:
        self._archive = archive
        self._table = table
        self._peers = peers
        self._config = config
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dimse-availability", daemon=True)

    def start(self) -> None:
        """Begin, if there is anybody to tell."""
        if self._config.peers:
            self._thread.start()

    def close(self) -> None:
        """Finish the notification that is being sent."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                while self._follow() or self._send_one():
                    if self._stopping.is_set():
                        return
            except ArchiveError as error:
                log.warning("notifications put off", error=type(error).__name__)
            # The loop's boundary: one study that cannot be told of stops no other.
            except Exception:
                log.exception("notification failed")
            self._stopping.wait(self._config.poll_s)

    def _follow(self) -> bool:
        config = self._config
        return self._table.follow(self._archive, config.peers, config.quiet_s) > 0

    def _send_one(self) -> bool:
        one = self._table.take(self._config.lease_s)
        if one is None:
            return False
        peer = next((peer for peer in self._peers.now() if peer.name == one.peer), None)
        records = self._archive.records_of(studies=[one.study_uid])
        dataset = notification(one.study_uid, records, self._config.calling.ae_title)
        if peer is None or dataset is None:
            why = "no such peer" if peer is None else "the study is not stored any more"
            log.warning("notification dropped", study=one.study_uid, peer=one.peer, why=why)
            self._table.done(one)
            return True
        try:
            send_notification(peer, dataset, self._config.calling)
        except (AssociationFailed, AssociationBroken) as error:
            self._put_off(one, str(error))
            return True
        log.info("availability notified", study=one.study_uid, peer=one.peer)
        self._table.done(one)
        return True

    def _put_off(self, one: Announcement, why: str) -> None:
        delays = self._config.delays_s
        if one.attempts >= len(delays):
            log.error("availability never notified", study=one.study_uid, peer=one.peer, why=why)
            self._table.done(one)
            return
        delay_s = delays[one.attempts]
        log.warning(
            "availability not notified yet",
            study=one.study_uid,
            peer=one.peer,
            why=why,
            retry_s=delay_s,
        )
        self._table.later(one, delay_s, why)


def notification(
    study_uid: str, records: Iterable[InstanceRecord], retrieve_ae: str
) -> Dataset | None:
    """The attributes of a notification (PS3.4 table R.3.2-1); None for an empty study."""
    series: dict[str, list[Dataset]] = {}
    for record in records:
        item = Dataset()
        item.ReferencedSOPClassUID = record.sop_class
        item.ReferencedSOPInstanceUID = record.key.instance
        item.InstanceAvailability = "ONLINE"
        item.RetrieveAETitle = retrieve_ae
        series.setdefault(record.key.series, []).append(item)
    if not series:
        return None
    dataset = Dataset()
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.StudyInstanceUID = study_uid
    dataset.ReferencedSeriesSequence = []
    for uid, instances in series.items():
        one = Dataset()
        one.SeriesInstanceUID = uid
        one.ReferencedSOPSequence = instances
        dataset.ReferencedSeriesSequence.append(one)
    return dataset


def send_notification(peer: Peer, dataset: Dataset, calling: Calling) -> None:
    """N-CREATE of a notification.

    Raises:
        AssociationFailed, AssociationBroken: the peer could not be told, or did not take it.
    """
    proposal = Proposal(NOTIFICATION, (EXPLICIT_LE, IMPLICIT_LE))
    with RequestedAssociation.open(peer, [proposal], calling) as association:
        context = association.context_for(NOTIFICATION)
        if context is None:
            raise AssociationFailed(f"{peer} does not take availability notifications")
        command: dict[int, int | str] = {
            SOP_CLASS: NOTIFICATION,
            COMMAND: N_CREATE_RQ,
            MESSAGE_ID: association.next_message_id(),
            DATA_SET_TYPE: WITH_DATA_SET,
            INSTANCE: str(generate_uid(prefix=None)),
        }
        association.send(context.id, encode(command), to_bytes(dataset, context.transfer_syntax))
        _, answer = association.receive()
        if answer.has_data_set:
            association.read_all()
    if answer.status != 0:
        comment = answer.text(COMMENT)
        words = f"0x{answer.status or 0:04X}" + (f" ({comment})" if comment else "")
        raise AssociationFailed(f"{peer} answered the notification with {words}")
