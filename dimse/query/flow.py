"""Answers go out no faster than the peer reads them, and stop when it cancels or goes away."""

from __future__ import annotations

import socket
import time
from typing import Literal

import structlog
from pynetdicom.association import Association
from pynetdicom.events import Event

from dimse.association.admitted import is_ending

log = structlog.get_logger(__name__)

QUEUED = 64
"""Messages handed to pynetdicom and not yet sent; two make one answer."""
STALLED_S = 60.0
_LOOK_S = 0.002

Turn = Literal["go", "cancelled", "ending", "gone"]


class Flow:
    """Asked before each answer of a C-FIND."""

    def __init__(self, event: Event, stalled_s: float = STALLED_S) -> None:
        self._event = event
        self._association: Association = event.assoc
        self._stalled_s = stalled_s

    def turn(self) -> Turn:
        """Wait until there is room for one more answer, or none is wanted any more."""
        waiting = self._association.dul.to_provider_queue
        since, last = time.monotonic(), waiting.qsize()
        while True:
            if self._is_gone():
                return "gone"
            if self._event.is_cancelled:
                return "cancelled"
            if is_ending(self._association):
                return "ending"
            now = waiting.qsize()
            if now < QUEUED:
                # Its idle timer counts from the last message received: without this a query that
                # is answered for longer than that is followed by an abort.
                self._association.dul._idle_timer.restart()
                return "go"
            if now < last:
                since, last = time.monotonic(), now
            elif time.monotonic() - since > self._stalled_s:
                self._hang_up()
                return "gone"
            time.sleep(_LOOK_S)

    def _is_gone(self) -> bool:
        association = self._association
        return bool(association.acse.is_aborted()) or not association.dul.is_alive()

    def _hang_up(self) -> None:
        """End a connection that takes nothing: pynetdicom itself would wait in send for ever."""
        log.warning("peer does not read its answers", peer=self._association.requestor.address)
        transport = self._association.dul.socket
        if transport is not None and transport.socket is not None:
            try:
                transport.socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                log.debug("connection is closed already")
