"""The DIMSE process's server: guard in front, services behind, archive underneath."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog
from pynetdicom import AE, _config
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE

from access import AuditSpool, Caller
from archive import Archive
from dimse.accept.connection import SharedSocket
from dimse.accept.guard import Doorman, Guard, Limits, Listener, Request, refuse
from dimse.accept.handover import Accepted, Handover
from dimse.accept.pace import quicken
from dimse.association.admission import Admission, Applicant, Rejected
from dimse.association.ledger import Ledger
from dimse.association.negotiation import acceptance, identity_of, maximum_of, negotiate
from dimse.association.register import Most, Open, Register
from dimse.association.services import Service, Services
from dimse.storage.message import Messages, Party
from dimse.storage.receive import Receiver
from dimse.storage.store import Sender, Storage
from dimse.storage.stream import PduStream, StreamLimits
from dimse.wire import pdus
from dimse.wire.fileheader import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from dimse.wire.tls import ServerTls

log = structlog.get_logger(__name__)

_IDLE_AT_STOP_S = 1.0
_PATIENCE = 0.8  # of a stop's time; the rest is for answers to what could not be finished


@dataclass(frozen=True, slots=True)
class DimseConfig:
    """How the DIMSE door listens and what it takes.

    Attributes:
        port: 0 takes a free port; `DimseServer.address` tells which. None: no port without TLS.
        tls_port: As `port`, for DICOM over TLS; needs the server's `tls`.
        shared_ports: Other processes listen on the same ports.
        extra_sop_classes: Private or unknown SOP Class UIDs to take as well; "*" takes any.
        maximum_pdu: Largest P-DATA-TF we ask peers to send, in bytes.
        progress_s: A PDU that is not complete after so long must have come at 1 KiB/s.
        idle_s: An association without any message for so long is aborted.
        artim_s: So long a peer has to close after a release, abort or rejection.
    """

    host: str = "127.0.0.1"
    port: int | None = 11112
    tls_port: int | None = None
    shared_ports: bool = False
    ae_title: str = "HILUM"
    extra_sop_classes: tuple[str, ...] = ()
    maximum_pdu: int = 1024 * 1024
    most: Most = field(default_factory=Most)
    progress_s: float = 5.0
    idle_s: float = 60.0
    artim_s: float = 5.0
    limits: Limits = field(default_factory=Limits)


class DimseServer:
    """Answers verification, storage and the services it is given."""

    def __init__(
        self,
        config: DimseConfig,
        archive: Archive,
        audit: AuditSpool,
        admission: Admission,
        services: Sequence[Service] = (),
        tls: ServerTls | None = None,
    ) -> None:
        self._config = config
        self._admission = admission
        self._services = Services(services)
        self._ledger = Ledger(audit)
        self._register = Register(config.most)
        self._storage = Storage(archive, self._ledger, config.extra_sop_classes)
        self._stopped = False
        self._guard = Guard(
            list(_listeners(config, tls)),
            config.limits,
            Doorman(admission.allows_address, self._take, self._refused),
        )
        self._handover = self._make_handover()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port it listens on without TLS, or with it if there is no other."""
        found = self._guard.address(tls=False) or self._guard.address(tls=True)
        if found is None:
            raise LookupError("no port is open")
        return found

    @property
    def tls_address(self) -> tuple[str, int] | None:
        """Host and port for DICOM over TLS."""
        return self._guard.address(tls=True)

    @property
    def associations(self) -> int:
        """Associations that are open now."""
        return len(self._register)

    def start(self) -> None:
        """Begin to accept associations."""
        self._guard.start()
        tls = self.tls_address
        log.info(
            "DIMSE listening",
            host=self.address[0],
            port=self.address[1],
            tls_port=tls[1] if tls else None,
        )

    def stop(self, timeout_s: float = 30.0) -> None:
        """Take nothing new, let what is under way finish, abort who is idle or not done in time.

        A retrieval or query that takes longer gets its final response shortly before the end.
        """
        if self._stopped:
            return
        self._stopped = True
        self._guard.stop()
        began = time.monotonic()
        deadline = began + timeout_s
        while self.associations and (now := time.monotonic()) < deadline:
            self._register.abort(lambda one: one.is_idle(_IDLE_AT_STOP_S))
            if now > began + timeout_s * _PATIENCE:
                self._register.end()
            time.sleep(0.05)
        self._register.abort(lambda _: True)
        # Aborting is done by each association's own thread.
        while self.associations and time.monotonic() < deadline + 5:
            time.sleep(0.02)
        self._handover.server_close()
        self._ledger.close()

    def _make_handover(self) -> Handover:
        config = self._config
        # Without this pynetdicom formats every message for its debug log, wanted or not.
        _config.LOG_HANDLER_LEVEL = "none"
        ae = AE(config.ae_title)
        ae.maximum_pdu_size = config.maximum_pdu
        ae.network_timeout = config.idle_s
        ae.acse_timeout = config.artim_s
        ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        ae.implementation_version_name = IMPLEMENTATION_VERSION
        return Handover(ae, self.address, self._services, self._services.handlers())

    def _take(self, request: Request) -> None:
        """Start a thread for a request that the guard has seen whole."""
        entry = self._register.enter(request.address[0], request.calling_ae)
        if isinstance(entry, str):
            self._ledger.refuse(_stranger(request), entry)
            refuse(request.connection)
            return
        threading.Thread(
            target=self._serve, args=(request, entry), name="dimse-association", daemon=True
        ).start()

    def _refused(self, address: str, why: str) -> None:
        self._ledger.refuse(Caller("", "modality", address=address), why)

    def _serve(self, request: Request, entry: Open) -> None:
        try:
            accepted = self._decide(request)
            if accepted is None:
                return
            if accepted.agreement.plain:
                self._receive(accepted, entry)
            else:
                self._hand_over(accepted, entry)
        # The end of a thread: one association that fails must not leave its place taken.
        except Exception:
            log.exception("association failed", peer=request.address[0])
            request.connection.close()
        finally:
            self._register.leave(entry)

    def _decide(self, request: Request) -> Accepted | None:
        """Let the peer in, or tell it why not and close."""
        try:
            primitive = _read(request)
        # Whatever pynetdicom's decoder trips over, the peer has sent it.
        except Exception as error:  # noqa: BLE001
            log.info("malformed request", peer=request.address[0], error=type(error).__name__)
            pdus.part(request.connection, pdus.abortion(pdus.BY_USER), self._config.artim_s)
            return None
        applicant = Applicant(
            address=request.address[0],
            calling_ae=request.calling_ae,
            called_ae=request.called_ae,
            tls_subject=request.tls_subject,
            identity=identity_of(primitive),
            secure=request.secure,
        )
        who = self._admission.decide(applicant)
        if isinstance(who, Rejected):
            self._ledger.refuse(_stranger(request), f"association rejected: {who.why}")
            answer = pdus.rejection(who.result, who.source, who.reason)
            pdus.part(request.connection, answer, self._config.artim_s)
            return None
        agreement = negotiate(primitive, who, self._services, self._config.extra_sop_classes)
        return Accepted(request, primitive, who, agreement)

    def _receive(self, accepted: Accepted, entry: Open) -> None:
        """Serve an association ourselves."""
        stream, messages = self._make_ready(accepted, entry)
        entry.abort = stream.cut
        peer = accepted.request.address[0]
        answer = acceptance(
            accepted.primitive, accepted.who, accepted.agreement, self._config.maximum_pdu
        )
        try:
            Receiver(stream, messages, peer, self._config.artim_s).run(
                A_ASSOCIATE_AC(answer).encode()
            )
        finally:
            # In this order: who waits for the last association may close the audit spool next.
            self._ledger.end(id(entry))

    def _hand_over(self, accepted: Accepted, entry: Open) -> None:
        """Let pynetdicom serve an association, in this thread and one of its own."""
        stream, messages = self._make_ready(accepted, entry)
        association = self._handover.make(accepted, entry, partial(SharedSocket, stream, messages))
        quicken(association)
        entry.abort = association.abort
        try:
            association.run()
        finally:
            messages.close()
            self._ledger.end(id(entry))

    def _make_ready(self, accepted: Accepted, entry: Open) -> tuple[PduStream, Messages]:
        config = self._config
        connection = accepted.request.connection
        limits = StreamLimits(config.maximum_pdu, config.progress_s, config.idle_s)
        accepted_contexts = accepted.agreement.accepted
        mine = {
            context.context_id or 0: str(context.transfer_syntax[0])
            for context in accepted_contexts
            if self._services.of(str(context.abstract_syntax)) is None
        }
        others = frozenset(context.context_id or 0 for context in accepted_contexts) - set(mine)
        sender = Sender(id(entry), entry.title, accepted.who)
        party = Party(sender, mine, others, maximum_of(accepted.primitive))
        messages = Messages(party, self._storage, entry, connection.sendall)
        return PduStream(connection, limits), messages


def _listeners(config: DimseConfig, tls: ServerTls | None) -> Iterator[Listener]:
    if config.port is not None:
        yield Listener(config.host, config.port, shared=config.shared_ports)
    if config.tls_port is not None and tls is not None:
        yield Listener(config.host, config.tls_port, tls, shared=config.shared_ports)


def _stranger(request: Request) -> Caller:
    return Caller(request.calling_ae, "modality", address=request.address[0])


def _read(request: Request) -> A_ASSOCIATE:
    pdu = A_ASSOCIATE_RQ()
    pdu.decode(request.pdu)
    primitive = pdu.to_primitive()
    if not primitive.presentation_context_definition_list:
        raise ValueError("no presentation contexts")
    return primitive
