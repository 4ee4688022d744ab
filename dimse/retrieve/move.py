"""C-MOVE: instances go to a destination of the peer table, on associations of our own."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from archive import InstanceRecord
from dimse.peers import Peer
from dimse.retrieve.line import PENDING, Line, RequestorGone
from dimse.retrieve.tally import Tally
from dimse.scu.file import Outgoing
from dimse.scu.negotiation import AssociationFailed, Calling
from dimse.scu.sender import Delivery, Originator, send_items
from dimse.wire.status import STOPPING
from pixels import Transcoder

log = structlog.get_logger(__name__)

PENDING_S = 1.0
"""A pending response at least so often, and not more often than each tenth of it."""
_LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Moving:
    """How instances are sent.

    Attributes:
        calling: Who we are to the destination.
        associations: Parallel associations to one destination.
        transcoder: For what a destination does not take as it is stored.
    """

    calling: Calling
    associations: int = 1
    transcoder: Transcoder | None = None


def move(
    line: Line,
    records: Sequence[InstanceRecord],
    destination: Peer,
    originator: Originator,
    moving: Moving,
) -> tuple[Tally, bool]:
    """Send the records; the counters, and whether it was cancelled.

    Pending responses go out meanwhile. A cancellation, a requestor that is gone, or the end of
    our server ends the association with the destination after the instance that is under way.
    """
    tally = Tally(len(records))
    line.respond(PENDING, tally)
    by_instance = {record.key.instance: record for record in records}
    sending = _Sending(records, destination, originator, moving)
    done: set[str] = set()
    cancelled, ending, told = False, False, time.monotonic()
    try:
        while (result := sending.next(_LOOK_S)) is not _END:
            if isinstance(result, Delivery):
                done.add(result.item.instance)
                count(tally, by_instance[result.item.instance], result)
            elif isinstance(result, AssociationFailed):
                tally.fail_rest(records, done, str(result))
            cancelled, ending = line.is_cancelled, line.is_ending
            if cancelled or ending:
                sending.stop()
            waited = time.monotonic() - told
            if waited >= (PENDING_S / 10 if result is not None else PENDING_S):
                line.respond(PENDING, tally)
                told = time.monotonic()
    finally:
        sending.end()
    if not cancelled:
        tally.fail_rest(records, done, STOPPING if ending else "was not sent")
    return tally, cancelled


def count(tally: Tally, record: InstanceRecord, delivery: Delivery) -> None:
    """Count what became of one instance."""
    if delivery.is_warning:
        tally.warning += 1
    elif delivery.ok:
        tally.completed += 1
    else:
        log.info("sub-operation failed", instance=record.key.instance, why=delivery.text)
        tally.fail(record, delivery.text)


def outgoing_of(record: InstanceRecord) -> Outgoing:
    """A stored instance as something to send; its digest is checked on the way."""
    return Outgoing(
        path=record.path,
        sop_class=record.sop_class,
        instance=record.key.instance,
        transfer_syntax=record.transfer_syntax,
        sha256=record.sha256,
    )


class _End:
    """Nothing comes any more."""


_END = _End()


class _Sending:
    """Sub-operations in a thread of their own, so that the requestor is never kept waiting."""

    def __init__(
        self,
        records: Sequence[InstanceRecord],
        destination: Peer,
        originator: Originator,
        moving: Moving,
    ) -> None:
        self._results: queue.Queue[Delivery | AssociationFailed | _End] = queue.Queue()
        self._stopping = threading.Event()
        self._deliveries = send_items(
            destination,
            [outgoing_of(record) for record in records],
            moving.calling,
            originator=originator,
            transcoder=moving.transcoder,
            associations=moving.associations,
            stop=self._stopping.is_set,
        )
        self._thread = threading.Thread(target=self._run, name="dimse-move", daemon=True)
        self._thread.start()

    def next(self, timeout_s: float) -> Delivery | AssociationFailed | _End | None:
        """The next result; None if none came in time."""
        try:
            return self._results.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def stop(self) -> None:
        """Send nothing more than what is under way."""
        self._stopping.set()

    def end(self) -> None:
        """Stop, and wait until the association with the destination is closed."""
        self.stop()
        self._thread.join()

    def _run(self) -> None:
        try:
            for delivery in self._deliveries:
                self._results.put(delivery)
        except AssociationFailed as error:
            self._results.put(error)
        # The end of a thread: the requestor must get its answer, and the log the reason.
        except Exception:
            log.exception("sending failed")
        finally:
            self._results.put(_END)


__all__ = ["Moving", "RequestorGone", "count", "move", "outgoing_of"]
