"""Commitments are verified and reported behind the peers' backs, and again after a restart."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import structlog
from pydicom.uid import UID
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_EVENT_REPORT

from archive import Archive, ArchiveError
from archive.vouching import PROCESSING_FAILURE, why_not
from dimse.association.interlude import ask, between_messages, is_usable, prepare
from dimse.commitment.message import COMMITMENT, WELL_KNOWN, Report, report_dataset, to_bytes
from dimse.commitment.report import send_report
from dimse.commitment.table import Commitment, CommitmentTable, FailedReference, Reference
from dimse.peer_table import PeerTable
from dimse.peers import Peer
from dimse.scu.negotiation import AssociationBroken, AssociationFailed, Calling

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CommitConfig:
    """How commitments are reported.

    Attributes:
        calling: Who we are when we call a peer to report.
        settle_s: So long after its last request we leave an association in peace: a peer that
            releases it does so at once, and our report must not cross with that.
        lease_s: So long a transaction is left to the process that works on it.
        poll_s: How often we look for reports that are due again.
        delays_s: Waits between attempts; the last one is repeated.
        attempts: After so many we give up.
    """

    calling: Calling = Calling()  # noqa: RUF009  frozen
    settle_s: float = 0.5
    lease_s: float = 60.0
    poll_s: float = 5.0
    delays_s: tuple[float, ...] = (5, 30, 120, 600, 1800, 3600)
    attempts: int = 72


class CommitWorker:
    """Works on transactions with a few threads; `close` leaves the rest to the next start."""

    def __init__(
        self,
        archive: Archive,
        table: CommitmentTable,
        peers: PeerTable,
        config: CommitConfig,
        threads: int = 4,
    ) -> None:
        self._archive = archive
        self._table = table
        self._peers = peers
        self._config = config
        self._stopping = threading.Event()
        self._requests: dict[int, float] = {}
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="dimse-commit")
        self._free = threading.Semaphore(threads)
        self._thread = threading.Thread(target=self._run, name="dimse-commit", daemon=True)

    @property
    def lease_s(self) -> float:
        """How long a new transaction is left to us."""
        return self._config.lease_s

    def start(self) -> None:
        """Begin, with what an earlier process left."""
        self._thread.start()

    def close(self) -> None:
        """Finish what is being reported now."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, commitment: Commitment, association: Association) -> None:
        """Work on a transaction that has just come in over an association."""
        prepare(association)
        self._requests[id(association)] = time.monotonic()
        if not self._stopping.is_set():
            self._pool.submit(self._work, commitment, association)

    def forget(self, association: Association) -> None:
        """An association is over."""
        self._requests.pop(id(association), None)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._take()
            # The loop's boundary: what cannot be read now is read later.
            except Exception as error:  # noqa: BLE001
                log.warning("commitments not read", error=type(error).__name__)
            self._stopping.wait(self._config.poll_s)

    def _take(self) -> None:
        while not self._stopping.is_set() and self._free.acquire(timeout=self._config.poll_s):
            found = self._table.take(1, self._config.lease_s)
            if not found:
                self._free.release()
                return
            self._pool.submit(self._work, found[0], None).add_done_callback(
                lambda _: self._free.release()
            )

    def _work(self, commitment: Commitment, association: Association | None) -> None:
        try:
            report = self._report(commitment)
            if association is not None and self._tell_here(report, association):
                self._done(commitment, report, "the same association")
                return
            self._tell_there(commitment, report)
        except ArchiveError as error:
            log.warning("commitment put off", error=type(error).__name__)
        # A thread's end: the row is due again when its lease is over.
        except Exception:
            log.exception("commitment failed", transaction=commitment.transaction_uid)

    def _report(self, commitment: Commitment) -> Report:
        """What there is to report; verified once, and kept."""
        failures = commitment.failures
        if failures is None:
            failures = tuple(
                verify(
                    self._archive,
                    commitment.referenced,
                    lambda: self._table.hold(commitment.id, self._config.lease_s),
                )
            )
            self._table.verified(commitment.id, failures)
        failed = {one.instance for one in failures}
        committed = tuple(one for one in commitment.referenced if one.instance not in failed)
        return Report(commitment.transaction_uid, committed, failures)

    def _tell_here(self, report: Report, association: Association) -> bool:
        """Report over the association that the request came on, if it stays open."""
        while True:
            quiet = time.monotonic() - self._requests.get(id(association), 0.0)
            if quiet >= self._config.settle_s or self._stopping.is_set():
                break
            time.sleep(min(0.05, self._config.settle_s))
        return between_messages(association, lambda: self._report_on(association, report))

    def _report_on(self, association: Association, report: Report) -> bool:
        context = next(
            (one for one in association.accepted_contexts if one.abstract_syntax == COMMITMENT),
            None,
        )
        if context is None or not is_usable(association):
            return False
        dataset = report_dataset(report, self._config.calling.ae_title)
        request = N_EVENT_REPORT()
        request.MessageID = 1
        request.AffectedSOPClassUID = UID(COMMITMENT)
        request.AffectedSOPInstanceUID = UID(WELL_KNOWN)
        request.EventTypeID = report.event_type
        request.EventInformation = BytesIO(to_bytes(dataset, context.transfer_syntax[0]))
        answer = ask(association, request, context)
        return bool(answer is not None and answer.is_valid_response and answer.Status == 0)

    def _tell_there(self, commitment: Commitment, report: Report) -> None:
        """Report over an association of our own, to the peer of the table."""
        peer = self._peer(commitment)
        if peer is None:
            self._later(commitment, "the peer table has no address of the requester")
            return
        try:
            status = send_report(peer, report, self._config.calling)
        except (AssociationFailed, AssociationBroken) as error:
            self._later(commitment, str(error))
            return
        if status != 0:
            self._later(commitment, f"{peer} answered the report with 0x{status:04X}")
            return
        self._done(commitment, report, f"a new association to {peer}")

    def _peer(self, commitment: Commitment) -> Peer | None:
        """Where to report: the peer that asked, as the table has it now."""
        title = commitment.calling_ae.strip()
        entries = [one for one in self._peers.now() if one.ae_title.strip() == title]
        named = [one for one in entries if one.name == commitment.peer]
        allowed = [one for one in entries if one.allows_address(commitment.address)]
        return next(iter(named or allowed), None)

    def _later(self, commitment: Commitment, why: str) -> None:
        attempt = commitment.attempts
        if attempt + 1 >= self._config.attempts:
            log.error("commitment never reported", transaction=commitment.transaction_uid, why=why)
            self._table.give_up(commitment.id, why)
            return
        delay_s = self._config.delays_s[min(attempt, len(self._config.delays_s) - 1)]
        log.warning(
            "commitment not reported yet",
            transaction=commitment.transaction_uid,
            calling_ae=commitment.calling_ae,
            why=why,
            retry_s=delay_s,
        )
        self._table.later(commitment.id, delay_s, why)

    def _done(self, commitment: Commitment, report: Report, how: str) -> None:
        self._table.reported(commitment.id)
        log.info(
            "commitment reported",
            transaction=commitment.transaction_uid,
            committed=len(report.committed),
            failed=len(report.failures),
            over=how,
        )


def verify(
    archive: Archive, referenced: Sequence[Reference], going_on: Callable[[], Any]
) -> list[FailedReference]:
    """Read every instance again, size and digest; what is not as it was stored has failed.

    Raises:
        ArchiveError: the index does not answer, so that nothing can be said.
    """
    failures = []
    for number, one in enumerate(referenced, 1):
        reason = why_not(archive, one.sop_class, one.instance)
        if reason == PROCESSING_FAILURE:
            log.error("stored instance is damaged", instance=one.instance)
        if reason is not None:
            failures.append(FailedReference(*one, reason))
        if number % 100 == 0:
            going_on()
    return failures
