"""The DIMSE process's server: guard in front, pynetdicom behind, archive underneath."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from pydicom.dataset import Dataset
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.transport import AssociationServer

from access import AuditSpool, Caller
from archive import Archive
from dimse.contexts import acceptable
from dimse.fileheader import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from dimse.guard import Guard, Limits, Request
from dimse.ledger import Ledger
from dimse.pace import quicken
from dimse.status import SUCCESS
from dimse.store import caller_of, on_c_store

log = structlog.get_logger(__name__)

# PS3.8 9.3.4: rejected transient, by the presentation-related provider, local limit exceeded.
_LOCAL_LIMIT = struct.pack(">BBLBBBB", 0x03, 0, 4, 0, 2, 3, 2)
_IDLE_AT_STOP_S = 1.0


@dataclass(frozen=True, slots=True)
class DimseConfig:
    """How the DIMSE door listens and what it takes.

    Attributes:
        port: 0 takes a free port; `DimseServer.address` tells which.
        check_called_ae: Refuse associations that call another AE title than ours.
        extra_sop_classes: Private or unknown SOP Class UIDs to take as well; "*" takes any.
        maximum_pdu: Largest P-DATA-TF we ask peers to send, in bytes.
        maximum_associations: More than these at once are refused (transient).
        idle_s: An association without any message for so long is aborted.
    """

    host: str = "127.0.0.1"
    port: int = 11112
    ae_title: str = "HILUM"
    check_called_ae: bool = False
    extra_sop_classes: tuple[str, ...] = ()
    maximum_pdu: int = 1024 * 1024
    maximum_associations: int = 100
    idle_s: float = 60.0
    limits: Limits = field(default_factory=Limits)


class _Handover(AssociationServer):
    """pynetdicom's server without a socket of its own: it gets accepted ones from the guard."""

    def server_bind(self) -> None:
        """Bind nothing: the guard has the port."""

    def server_activate(self) -> None:
        """Listen to nothing."""


@dataclass(slots=True)
class _Live:
    association: Association
    last: float
    busy: bool = False


class DimseServer:
    """Answers C-ECHO and C-STORE on one port."""

    def __init__(self, config: DimseConfig, archive: Archive, audit: AuditSpool) -> None:
        self._config = config
        self._archive = archive
        self._ledger = Ledger(audit)
        self._live: dict[int, _Live] = {}
        self._lock = threading.Lock()
        self._stopped = False
        self._guard = Guard((config.host, config.port), config.limits, self._take)
        self._handover = self._make_handover()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port it listens on."""
        return self._guard.address

    @property
    def associations(self) -> int:
        """Associations that are open now."""
        with self._lock:
            return len(self._live)

    def start(self) -> None:
        """Begin to accept associations."""
        self._guard.start()
        log.info("DIMSE listening", host=self.address[0], port=self.address[1])

    def stop(self, timeout_s: float = 30.0) -> None:
        """Take nothing new, let senders finish, abort who is idle or not done in time."""
        if self._stopped:
            return
        self._stopped = True
        self._guard.stop()
        deadline = time.monotonic() + timeout_s
        while self.associations and time.monotonic() < deadline:
            self._abort(lambda one: not one.busy and time.monotonic() - one.last > _IDLE_AT_STOP_S)
            time.sleep(0.05)
        self._abort(lambda _: True)
        # Aborting is done by each association's own thread.
        while self.associations and time.monotonic() < deadline + 5:
            time.sleep(0.02)
        self._handover.server_close()
        self._ledger.close()

    def _make_handover(self) -> _Handover:
        config = self._config
        # Without this pynetdicom formats every message for its debug log, wanted or not.
        _config.LOG_HANDLER_LEVEL = "none"
        ae = AE(config.ae_title)
        ae.maximum_pdu_size = config.maximum_pdu
        ae.maximum_associations = config.maximum_associations + 1  # ours is the limit that counts
        ae.require_called_aet = config.check_called_ae
        ae.network_timeout = config.idle_s
        ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        ae.implementation_version_name = IMPLEMENTATION_VERSION
        handlers: list[evt.EventHandlerType] = [
            (evt.EVT_CONN_OPEN, self._on_open),
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_REJECTED, self._on_rejected),
            (evt.EVT_CONN_CLOSE, self._on_close),
            (evt.EVT_C_ECHO, self._on_c_echo),
            (evt.EVT_C_STORE, self._on_c_store),
        ]
        return _Handover(ae, self.address, config.ae_title, [], evt_handlers=handlers)

    def _take(self, request: Request) -> None:
        """Start an association for a request that the guard has seen whole."""
        if self.associations >= self._config.maximum_associations:
            caller = Caller(request.calling_ae, "modality", address=request.address[0])
            self._ledger.refuse(caller, "local limit of associations exceeded")
            refuse(request.connection)
            return
        self._handover.process_request(request.connection, request.address)

    def _on_open(self, event: evt.Event) -> None:
        quicken(event.assoc)
        with self._lock:
            self._live[id(event.assoc)] = _Live(event.assoc, time.monotonic())

    def _on_requested(self, event: evt.Event) -> None:
        """Offer exactly what this peer proposes and we take: see `contexts.acceptable`."""
        primitive = event.assoc.requestor.primitive
        proposed = primitive.presentation_context_definition_list if primitive else []
        contexts = acceptable(proposed, self._config.extra_sop_classes)
        event.assoc.acceptor.supported_contexts = contexts

    def _on_rejected(self, event: evt.Event) -> None:
        self._ledger.refuse(caller_of(event), "association rejected")

    def _on_close(self, event: evt.Event) -> None:
        # In this order: who waits for the last association may close the audit spool next.
        self._ledger.end(id(event.assoc))
        with self._lock:
            self._live.pop(id(event.assoc), None)

    def _on_c_echo(self, event: evt.Event) -> int:
        self._mark(event, busy=False)
        return SUCCESS

    def _on_c_store(self, event: evt.Event) -> int | Dataset:
        self._mark(event, busy=True)
        try:
            return on_c_store(event, self._archive, self._ledger)
        finally:
            self._mark(event, busy=False)

    def _mark(self, event: evt.Event, *, busy: bool) -> None:
        live = self._live.get(id(event.assoc))
        if live is not None:
            live.busy, live.last = busy, time.monotonic()

    def _abort(self, chosen: Callable[[_Live], bool]) -> None:
        with self._lock:
            ended = [one.association for one in self._live.values() if chosen(one)]
        for association in ended:
            association.abort()


def refuse(connection: socket.socket) -> None:
    """Reject for now because there are too many associations (PS3.8 9.3.4), and close."""
    with connection:
        connection.settimeout(1.0)
        try:
            # Unread bytes would turn our close into a reset that overtakes the answer.
            connection.recv(128 * 1024)
            connection.sendall(_LOCAL_LIMIT)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            log.info("peer left before it was refused")
