"""The requestor's association while we retrieve for it.

pynetdicom's own service class sends one decoded data set after the other and decides about the
answers itself; here the service talks to the association directly. pynetdicom's thread goes on
reading from the socket, so that cancellations and aborts are seen while we send.
"""

from __future__ import annotations

import queue
import socket
import struct
import time
from collections.abc import Iterable
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_GET, C_MOVE, C_STORE
from pynetdicom.dsutils import encode as encode_data_set
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.presentation import PresentationContext

from dimse.association.admitted import is_ending
from dimse.retrieve.tally import Tally
from dimse.scu.contexts import IMPLICIT_LE
from dimse.wire.command import (
    COMMAND,
    COMMENT,
    COMPLETED,
    DATA_SET_TYPE,
    FAILED,
    NO_DATA_SET,
    REMAINING,
    RESPONDS_TO,
    SOP_CLASS,
    STATUS,
    WARNING,
    WITH_DATA_SET,
    encode,
)
from dimse.wire.framing import COMMAND_PART, LAST, SMALLEST_PDU, fragment_size, pdus, piece_size

PENDING = 0xFF00
_SEND_S = 60
_LOOK_S = 0.2
_COMMENT_CHARS = 64
_QUEUED = 8
_SHORT_VALUE = 65534


class RequestorGone(Exception):
    """The requestor has aborted or left, or does not take what we send."""


class Line:
    """Answers one C-MOVE or C-GET request."""

    def __init__(
        self,
        association: Association,
        request: C_MOVE | C_GET,
        context: PresentationContext,
        response: int,
    ) -> None:
        self._association = association
        self._request = request
        self._context_id = int(context.context_id or 0)
        self._implicit = str(context.transfer_syntax[0]) == IMPLICIT_LE
        self._response = response
        maximum = int(association.requestor.maximum_length or 0)
        self._fragment = fragment_size(max(maximum, SMALLEST_PDU) if maximum else 0)
        transport: Any = association.dul.socket
        # Two threads may use a plain socket at once, not a TLS one: that is left to pynetdicom's.
        plain = type(transport.socket) is socket.socket
        self._plain: socket.socket | None = transport.socket if plain else None
        if self._plain is not None:
            patience = struct.pack("ll", _SEND_S, 0)
            self._plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)

    @property
    def association(self) -> Association:
        """The requestor's association."""
        return self._association

    @property
    def piece_bytes(self) -> int:
        """A good size for the pieces of `send`."""
        return piece_size(self._fragment)

    @property
    def is_cancelled(self) -> bool:
        """Whether the requestor has sent C-CANCEL for this request."""
        return self._request.MessageID in self._association.dimse.cancel_req

    @property
    def is_ending(self) -> bool:
        """Whether the server stops: the final response is due, whatever is left."""
        return is_ending(self._association)

    @property
    def is_gone(self) -> bool:
        """Whether nobody waits for our answers."""
        association = self._association
        acse = association.acse
        return (
            not association.is_established
            or bool(acse.is_aborted())
            or bool(acse.is_release_requested())
            or not association.dul.is_alive()
        )

    def respond(self, status: int, tally: Tally | None = None, comment: str = "") -> None:
        """Send a response with the counters; the final one of a failure lists the instances.

        Raises RequestorGone.
        """
        if self.is_gone:
            raise RequestorGone
        command: dict[int, int | str] = {
            SOP_CLASS: str(self._request.AffectedSOPClassUID),
            COMMAND: self._response,
            RESPONDS_TO: int(self._request.MessageID or 0),
            DATA_SET_TYPE: NO_DATA_SET,
            STATUS: status,
        }
        if comment:
            command[COMMENT] = comment[:_COMMENT_CHARS]
        data = None
        if tally is not None:
            command[COMPLETED] = tally.completed
            command[FAILED] = len(tally.failures)
            command[WARNING] = tally.warning
            # Present while there may be more to come (PS3.7 9.1.4.1.6).
            if status in (PENDING, 0xFE00):
                command[REMAINING] = tally.remaining
            if status != PENDING and tally.failures:
                command[DATA_SET_TYPE] = WITH_DATA_SET
                data = self._failed_list(tally)
        self.send(self._context_id, encode(command), [] if data is None else [(data, True)])

    def send(self, context_id: int, command: bytes, pieces: Iterable[tuple[bytes, bool]]) -> None:
        """Send a message; an error of the pieces before the first one leaves nothing sent.

        Raises RequestorGone; also when the pieces fail later, for the rest cannot be taken back.
        """
        head: tuple[tuple[bytes, bool, bool], ...] = ((command, True, True),)
        begun = False
        try:
            for piece, last in pieces:
                self._write(context_id, (*head, (piece, False, last)))
                head, begun = (), True
            if head:
                self._write(context_id, head)
        except BaseException:
            if begun:
                self._association._abort_nonblocking()
            raise

    def wait(self, message_id: int, timeout_s: float) -> C_STORE:
        """The requestor's answer to a C-STORE of ours. Raises RequestorGone."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and not self.is_gone:
            try:
                _, message = self._association.dimse.msg_queue.get(timeout=_LOOK_S)
            except queue.Empty:
                continue
            answers = isinstance(message, C_STORE) and message.Status is not None
            if isinstance(message, C_STORE) and answers:
                if message.MessageIDBeingRespondedTo == message_id:
                    return message
                continue
            break  # a request in the middle of ours: nobody negotiated that
        if not self.is_gone:
            self._association._abort_nonblocking()
        raise RequestorGone

    def rest(self) -> None:
        """Count from now how long the requestor is idle: while we worked it had to be silent."""
        self._association.dul._idle_timer.restart()

    def _failed_list(self, tally: Tally) -> bytes:
        dataset = Dataset()
        value = "\\".join(tally.failures)
        if self._implicit or len(value) <= _SHORT_VALUE:
            dataset.FailedSOPInstanceUIDList = list(tally.failures)
        else:
            # PS3.5 6.2.2: what is too long for its VR in explicit encoding is written as UN.
            raw = value.encode("ascii") + b"\0" * (len(value) % 2)
            dataset.add_new("FailedSOPInstanceUIDList", "UN", raw)
        return encode_data_set(dataset, self._implicit, True, False) or b""

    def _write(self, context_id: int, parts: Iterable[tuple[bytes, bool, bool]]) -> None:
        if self._plain is None:
            self._queue(context_id, parts)
            return
        whole = b"".join(
            chunk
            for data, command, last in parts
            for chunk in pdus(context_id, data, self._fragment, command=command, last=last)
        )
        try:
            self._plain.sendall(whole)
        except OSError as error:
            self._association._abort_nonblocking()
            raise RequestorGone from error

    def _queue(self, context_id: int, parts: Iterable[tuple[bytes, bool, bool]]) -> None:
        waiting = self._association.dul.to_provider_queue
        for data, command, last in parts:
            for start in range(0, len(data), self._fragment):
                part = data[start : start + self._fragment]
                ends = last and start + self._fragment >= len(data)
                flags = (COMMAND_PART if command else 0) | (LAST if ends else 0)
                primitive = P_DATA()
                primitive.presentation_data_value_list.append((context_id, bytes([flags]) + part))
                while waiting.qsize() >= _QUEUED:
                    if self.is_gone:
                        raise RequestorGone
                    time.sleep(0.0005)
                self._association.dul.send_pdu(primitive)
