"""Who may open an association, and what they may do with it: by AE title, address, certificate
and user. Every refusal says why, for the audit; the peer learns no more than PS3.8 gives it."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from access import Caller
from dimse.association.identity import (
    Identities,
    IdentityRefused,
    UserIdentity,
    is_proved,
    rights_of,
)
from dimse.peer_table import PeerTable
from dimse.peers import ALL_RIGHTS, Peer, Right, is_inside
from dimse.wire.tls import has_name

# PS3.8 9.3.4: result, source, reason.
_CALLING_AE = (1, 1, 3)
_CALLED_AE = (1, 1, 7)
_NO_REASON = (1, 1, 1)
_CONGESTION = (2, 3, 1)

_THIS_MACHINE = ("127.0.0.0/8", "::1/128")


@dataclass(frozen=True, slots=True)
class Applicant:
    """What is known of a peer when its A-ASSOCIATE-RQ is complete.

    Attributes:
        tls_subject: names of the verified client certificate (`tls.subject_of`); None without one.
        secure: whether it came over TLS.
    """

    address: str
    calling_ae: str
    called_ae: str
    tls_subject: str | None = None
    identity: UserIdentity | None = None
    secure: bool = False


@dataclass(frozen=True, slots=True)
class Admitted:
    """Who was let in, and what they may do.

    Attributes:
        peer: the entry of the peer table; None for a caller that is not in it.
        identity_response: goes into the A-ASSOCIATE-AC; None: no item there.
    """

    caller: Caller
    peer: Peer | None
    rights: frozenset[Right]
    identity_response: bytes | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """An A-ASSOCIATE-RJ (PS3.8 9.3.4), and the reason in words for the audit."""

    result: int
    source: int
    reason: int
    why: str


@dataclass(frozen=True, slots=True)
class AdmissionConfig:
    """The rules beside the peer table.

    Attributes:
        unknown_callers: rights of callers that are not in the table; without any they are
            rejected. None: everything for callers on this machine, nothing for others.
        require_identity: whether each association must prove a user.
    """

    ae_title: str = "HILUM"
    check_called_ae: bool = False
    unknown_callers: frozenset[Right] | None = None
    require_identity: bool = False


class Admission:
    """Decides about associations."""

    def __init__(
        self,
        config: AdmissionConfig,
        peers: PeerTable | None = None,
        identities: Identities | None = None,
    ) -> None:
        self._config = config
        self._peers = peers or PeerTable()
        self._identities = identities

    def close(self) -> None:
        """Stop following the peer table."""
        self._peers.close()

    def allows_address(self, address: str) -> bool:
        """Whether anybody may come from this IP address: asked before anything is read of it."""
        if self._unknown(address):
            return True
        return any(peer.allows_address(address) for peer in self._peers.now())

    def decide(self, applicant: Applicant) -> Admitted | Rejected:
        """Let it in with its rights, or say why not.

        Where a passcode is checked this takes about a tenth of a second.
        """
        called = applicant.called_ae.strip()
        if self._config.check_called_ae and called != self._config.ae_title:
            return Rejected(*_CALLED_AE, f"called AE title {called!r} is not ours")
        found = self._find(applicant)
        if isinstance(found, Rejected):
            return found
        caller = Caller(applicant.calling_ae.strip(), "modality", address=applicant.address)
        rights = self._unknown(applicant.address) if found is None else found.rights
        return self._identified(applicant, Admitted(caller, found, rights))

    def _identified(self, applicant: Applicant, admitted: Admitted) -> Admitted | Rejected:
        """The same with the user in place of the machine, and no more rights than both have."""
        identity = applicant.identity
        if self._config.require_identity and (identity is None or not is_proved(identity)):
            return Rejected(*_NO_REASON, "a user with a passcode or a token is required")
        if identity is None or self._identities is None:
            return admitted
        try:
            caller = self._identities.caller(
                identity, applicant.address, applicant.calling_ae.strip()
            )
        except IdentityRefused as error:
            return Rejected(*_NO_REASON, str(error))
        except psycopg.Error as error:
            return Rejected(*_CONGESTION, f"users cannot be read ({type(error).__name__})")
        # PS3.7 D.3.3.7.2: empty for every kind but Kerberos and SAML.
        response = b"" if identity.response_requested else None
        return Admitted(caller, admitted.peer, admitted.rights & rights_of(caller), response)

    def _unknown(self, address: str) -> frozenset[Right]:
        """Rights of a caller from this address that is not in the table."""
        if self._config.unknown_callers is not None:
            return self._config.unknown_callers
        return ALL_RIGHTS if is_inside(address, _THIS_MACHINE) else frozenset()

    def _find(self, applicant: Applicant) -> Peer | Rejected | None:
        """The entry whose title, address and certificate all match; None: not in the table."""
        title = applicant.calling_ae.strip()
        entries = [peer for peer in self._peers.now() if peer.ae_title.strip() == title]
        if not entries:
            if self._unknown(applicant.address):
                return None
            return Rejected(*_CALLING_AE, "calling AE title is not in the peer table")
        reasons = [_mismatch(peer, applicant) for peer in entries]
        for peer, reason in zip(entries, reasons, strict=True):
            if reason is None:
                return peer
        return Rejected(*_CALLING_AE, f"{entries[0].name}: {reasons[0]}")


def _mismatch(peer: Peer, applicant: Applicant) -> str | None:
    """Why an applicant with this peer's title is not this peer; None if it is."""
    if not peer.allows_address(applicant.address):
        return "comes from an address that its entry does not allow"
    if (peer.tls or peer.tls_subject) and not applicant.secure:
        return "must come over TLS"
    if peer.tls_subject and not has_name(applicant.tls_subject, peer.tls_subject):
        return "its certificate has another name than its entry"
    return None
