"""Our own side of associations that verify and store only: one thread, one buffer, one copy."""

from __future__ import annotations

import contextlib
import socket

import structlog

from dimse.storage.message import Messages, each_pdv
from dimse.storage.stream import Closed, Idle, PduStream, Refused, TooSlow
from dimse.wire import pdus

log = structlog.get_logger(__name__)


class Receiver:
    """Serves an accepted association to its end."""

    def __init__(self, stream: PduStream, messages: Messages, peer: str, artim_s: float) -> None:
        self._stream = stream
        self._messages = messages
        self._peer = peer
        self._artim_s = artim_s

    def run(self, accept: bytes) -> None:
        """Send the A-ASSOCIATE-AC, then answer what comes until the association ends."""
        farewell: bytes | None = None
        try:
            self._stream.connection.sendall(accept)
            farewell = self._serve()
        except Refused as error:
            log.info("association aborted", peer=self._peer, why=str(error))
            farewell = pdus.abortion(pdus.BY_PROVIDER, error.reason)
        except (Idle, TooSlow) as error:
            log.info("association aborted", peer=self._peer, why=type(error).__name__)
            farewell = pdus.abortion(pdus.BY_USER)
        except (Closed, OSError):
            if self._stream.was_cut:
                farewell = pdus.abortion(pdus.BY_USER)
        finally:
            self._messages.close()
            self._end(farewell)

    def _serve(self) -> bytes | None:
        """Answer messages; returns the PDU that ends the association, if one is due."""
        while True:
            kind, body = self._stream.next()
            if kind == pdus.P_DATA_TF:
                for context_id, control, fragment in each_pdv(body):
                    self._messages.take(context_id, control, fragment)
            elif kind == pdus.RELEASE_RQ:
                return pdus.RELEASE_RESPONSE
            elif kind == pdus.ABORT:
                return None
            else:
                raise Refused(pdus.UNEXPECTED_PDU, f"PDU type {kind}")

    def _end(self, farewell: bytes | None) -> None:
        connection: socket.socket = self._stream.connection
        if farewell is not None:
            pdus.part(connection, farewell, self._artim_s)
        with contextlib.suppress(OSError):
            connection.close()
