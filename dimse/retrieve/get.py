"""C-GET: instances go back on the association that asks for them (PS3.4 C.4.3)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from pynetdicom.association import Association

from archive import InstanceRecord
from dimse.retrieve.line import PENDING, Line
from dimse.retrieve.move import count, outgoing_of
from dimse.retrieve.tally import Tally
from dimse.scu.association import Accepted
from dimse.scu.contexts import choose
from dimse.scu.file import NotSendable, Outgoing, pieces
from dimse.scu.sender import Delivery, status_text, store_request
from dimse.wire.command import COMMENT, STATUS, Command
from dimse.wire.status import STOPPING
from pixels import Transcoder

log = structlog.get_logger(__name__)

_PENDING_S = 0.1


@dataclass(frozen=True, slots=True)
class Getting:
    """How instances are sent back; see Moving. `answer_s`: longest wait for each C-STORE answer."""

    answer_s: float = 60.0
    transcoder: Transcoder | None = None


def get(
    line: Line,
    records: Sequence[InstanceRecord],
    preferred: tuple[str, ...],
    getting: Getting,
) -> tuple[Tally, bool]:
    """Send the records back; the counters, and whether it was cancelled.

    An instance for whose class the requestor took no SCP role fails; the others are sent.
    """
    tally = Tally(len(records))
    line.respond(PENDING, tally)
    back = _Back(line, contexts_back(line.association), preferred, getting)
    told = time.monotonic()
    for number, record in enumerate(records):
        if line.is_cancelled:
            return tally, True
        if line.is_ending:
            tally.fail_rest(records[number:], set(), STOPPING)
            return tally, False
        count(tally, record, back.send(outgoing_of(record)))
        if tally.remaining and time.monotonic() - told >= _PENDING_S:
            line.respond(PENDING, tally)
            told = time.monotonic()
    return tally, False


def contexts_back(association: Association) -> list[Accepted]:
    """Contexts on which we may send to the requestor: it took the SCP role there."""
    return [
        Accepted(
            int(context.context_id or 0),
            str(context.abstract_syntax),
            str(context.transfer_syntax[0]),
            as_scp=True,
        )
        for context in association._accepted_cx.values()
        if context.as_scu
    ]


class _Back:
    """C-STORE sub-operations on the requestor's association."""

    def __init__(
        self,
        line: Line,
        contexts: Sequence[Accepted],
        preferred: tuple[str, ...],
        getting: Getting,
    ) -> None:
        self._line = line
        self._contexts = contexts
        self._preferred = preferred
        self._getting = getting
        self._message = 0

    def send(self, item: Outgoing) -> Delivery:
        """One sub-operation. Raises RequestorGone."""
        transcoder = self._getting.transcoder
        transcodes = transcoder is not None
        context = choose(self._contexts, item, self._preferred, transcodes=transcodes)
        if context is None:
            return Delivery(item, None, self._why_not(item))
        self._message = self._message % 0xFFFF + 1
        command = store_request(self._message, item.sop_class, item.instance, None)
        try:
            size = self._line.piece_bytes
            data = pieces(item, context.transfer_syntax, size, transcoder)
            self._line.send(context.id, command, data)
        except NotSendable as error:
            return Delivery(item, None, str(error))
        except OSError as error:
            return Delivery(item, None, f"cannot be read ({type(error).__name__})")
        answer = self._line.wait(self._message, self._getting.answer_s)
        status = int(answer.Status or 0)
        words = Command({STATUS: status, COMMENT: str(answer.ErrorComment or "")})
        return Delivery(item, status, status_text(words))

    def _why_not(self, item: Outgoing) -> str:
        if any(one.abstract_syntax == item.sop_class for one in self._contexts):
            return "the requestor does not accept its transfer syntax"
        return "the requestor takes no SCP role for its class"
