"""The connection of an association as pynetdicom sees it: within our limits, and without storage.

pynetdicom reads PDUs of any claimed length, waits for slow ones for ever, and keeps a whole data
set in memory. Here it gets only complete PDUs from a `PduStream`; messages of verification and
storage contexts are answered before it learns of them, as in associations that it never sees.
"""

from __future__ import annotations

import struct
from collections import deque

import structlog
from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

from dimse.accept.guard import Request
from dimse.storage.message import Messages, each_pdv
from dimse.storage.stream import Closed, PduStream, StreamError
from dimse.wire import pdus

log = structlog.get_logger(__name__)

# A PDU of a type that does not exist: pynetdicom aborts the association.
_INVALID = bytes(6)
_WAITING_MESSAGES = 64


class SharedSocket(AssociationSocket):
    """Used by pynetdicom's reactor thread only, for reading and for writing."""

    def __init__(
        self, stream: PduStream, messages: Messages, association: Association, request: Request
    ) -> None:
        super().__init__(association, client_socket=request.connection)
        self._stream = stream
        self._messages = messages
        self._given = deque([request.pdu])
        self._over = self._refused = False
        messages.pass_on = self._pass_on

    @property
    def ready(self) -> bool:
        """Whether there is something that pynetdicom must read."""
        if self._given:
            return True
        waiting = self.assoc.dimse.msg_queue.qsize() < _WAITING_MESSAGES
        if self.socket is None or not self._is_connected or not waiting:
            return False
        if not self._over and not self._stream.readable(0):
            return False
        self._read()
        return bool(self._given)

    def recv(self, nr_bytes: int) -> bytearray:
        """Give what `ready` has found; nothing at the end of the connection."""
        if not self._given:
            return bytearray()
        first = self._given.popleft()
        if len(first) > nr_bytes:
            self._given.appendleft(first[nr_bytes:])
        return bytearray(first[:nr_bytes])

    def _read(self) -> None:
        """Take one PDU from the connection: answer it, or keep it for pynetdicom."""
        if self._over:
            self._given.append(b"")
            return
        try:
            kind, body = self._stream.next()
            self.assoc.dul._idle_timer.restart()
            if kind == pdus.P_DATA_TF:
                for context_id, control, fragment in each_pdv(body):
                    self._messages.take(context_id, control, fragment)
            else:
                self._given.append(_pdu(kind, body))
        except (Closed, OSError):
            self._given.append(b"")
            self._over = True
        except StreamError as error:
            why = str(error) or type(error).__name__
            log.info("association aborted", peer=self.assoc.requestor.address, why=why)
            self._given.append(_INVALID)
            self._over = self._refused = True

    def _shutdown_socket(self) -> None:
        if self._refused and self.socket is not None:
            # Our A-ABORT must not be overtaken by the reset that unread bytes cause.
            pdus.linger(self.socket, self.assoc.acse_timeout or 0)
        super()._shutdown_socket()
        # pynetdicom's objects refer to each other and stay until a full collection.
        self._stream.forget()

    def _pass_on(
        self, context_id: int, control: int, fragment: bytes | bytearray | memoryview
    ) -> None:
        header = struct.pack(">LBB", len(fragment) + 2, context_id, control)
        self._given.append(_pdu(pdus.P_DATA_TF, header + bytes(fragment)))


def _pdu(kind: int, body: bytes | bytearray | memoryview) -> bytes:
    return struct.pack(">BBL", kind, 0, len(body)) + bytes(body)
