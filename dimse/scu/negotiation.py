"""Before one of our associations is open: connection, TLS, what is proposed, a refusal in words."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import build_context
from pynetdicom.transport import AddressInformation

from dimse.peers import Peer
from dimse.wire.fileheader import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from dimse.wire.framing import MAXIMUM_PDU
from dimse.wire.tls import TlsError

CONTEXTS = 128
"""Presentation contexts that one association can propose (PS3.8 9.3.2.2)."""

_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_REASONS = {
    (1, 2): "it does not know the DICOM application context",
    (1, 3): "it does not know our AE title {calling}: enter it there",
    (1, 7): "its AE title is not {called}",
    (2, 2): "it does not know the protocol version",
    (3, 1): "it is congested for the moment",
    (3, 2): "it has as many associations as it may",
}


class AssociationFailed(Exception):
    """The peer could not be reached, or did not accept the association."""


class AssociationBroken(Exception):
    """The association ended before its time: abort, time-out, or a peer that breaks the rules."""


@dataclass(frozen=True, slots=True)
class Calling:
    """How we call peers.

    Attributes:
        connect_s: longest wait for the connection, and for the answer to the association request.
        answer_s: longest wait for each message of the peer.
        tls: gives the context for a peer that wants TLS; None: such a peer cannot be called.
    """

    ae_title: str = "HILUM"
    connect_s: float = 10.0
    answer_s: float = 60.0
    tls: Callable[[Peer], ssl.SSLContext] | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """A presentation context to ask for. `as_scp`: the peer is to send on it (C-GET)."""

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]
    as_scp: bool = False


def rejection(peer: Peer, pdu: bytes, calling_ae: str) -> str:
    """An A-ASSOCIATE-RJ in words, with what to do."""
    result, source, reason = pdu[7:10]
    words = _REASONS.get((source, reason), "it gives no reason")
    words = words.format(calling=calling_ae, called=peer.ae_title)
    lasting = "" if result == 1 else ", for now"
    return f"{peer} rejected the association{lasting}: {words}"


def connect(peer: Peer, calling: Calling) -> socket.socket:
    """A connection to the peer, over TLS where its entry says so. Raises AssociationFailed."""
    try:
        connection = socket.create_connection((peer.host, peer.port), calling.connect_s)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise AssociationFailed(f"{peer} could not be reached: {why}") from error
    # Small messages at once: Nagle and delayed ACK together cost 40 ms an instance.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not peer.tls:
        return connection
    try:
        if calling.tls is None:
            raise AssociationFailed(f"{peer} wants TLS, and no certificates are set up for it")
        return calling.tls(peer).wrap_socket(connection, server_hostname=peer.host)
    except TlsError as error:
        connection.close()
        raise AssociationFailed(str(error)) from error
    except ssl.SSLCertVerificationError as error:
        connection.close()
        reason = getattr(error, "verify_message", None) or str(error)
        raise AssociationFailed(
            f"{peer} shows a certificate that is not trusted: {reason}"
        ) from error
    except OSError as error:
        connection.close()
        raise AssociationFailed(f"{peer} did not agree on TLS: {error}") from error
    except BaseException:
        connection.close()
        raise


def request(peer: Peer, proposals: Sequence[Proposal], calling_ae: str) -> bytes:
    """The A-ASSOCIATE-RQ."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = _APPLICATION_CONTEXT
    primitive.calling_ae_title = calling_ae
    primitive.called_ae_title = peer.ae_title
    primitive.calling_presentation_address = AddressInformation("127.0.0.1", 0)
    primitive.called_presentation_address = AddressInformation("127.0.0.1", peer.port)
    contexts = []
    for number, proposal in enumerate(proposals):
        context = build_context(proposal.abstract_syntax, list(proposal.transfer_syntaxes))
        context.context_id = 2 * number + 1
        contexts.append(context)
    primitive.presentation_context_definition_list = contexts
    length = MaximumLengthNotification()
    length.maximum_length_received = MAXIMUM_PDU
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION
    information: list[Any] = [length, implementation, version]
    for abstract in dict.fromkeys(one.abstract_syntax for one in proposals if one.as_scp):
        role = SCP_SCU_RoleSelectionNegotiation()
        role.sop_class_uid, role.scu_role, role.scp_role = abstract, False, True
        information.append(role)
    primitive.user_information = information
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return bytes(pdu.encode())
