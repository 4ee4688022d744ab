"""Who may open an association, and what they may do with it: by AE title, address, certificate
and user. Every refusal says why, for the audit; the peer learns no more than PS3.8 gives it."""

from __future__ import annotations

from dataclasses import dataclass

from access import Caller
from dimse.identity import UserIdentity
from dimse.peer_table import PeerTable
from dimse.peers import ALL_RIGHTS, Peer, Right
from dimse.tls import has_name

# PS3.8 9.3.4: result, source, reason.
_CALLING_AE = (1, 1, 3)
_CALLED_AE = (1, 1, 7)
_NO_REASON = (1, 1, 1)


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
        unknown_callers: rights of callers that are not in the table; none: they are rejected.
    """

    ae_title: str = "HILUM"
    check_called_ae: bool = False
    unknown_callers: frozenset[Right] = ALL_RIGHTS


class Admission:
    """Decides about associations."""

    def __init__(self, config: AdmissionConfig, peers: PeerTable | None = None) -> None:
        self._config = config
        self._peers = peers or PeerTable()

    def allows_address(self, address: str) -> bool:
        """Whether anybody may come from this IP address: asked before anything is read of it."""
        if self._config.unknown_callers:
            return True
        return any(peer.allows_address(address) for peer in self._peers.now())

    def decide(self, applicant: Applicant) -> Admitted | Rejected:
        """Let it in with its rights, or say why not."""
        called = applicant.called_ae.strip()
        if self._config.check_called_ae and called != self._config.ae_title:
            return Rejected(*_CALLED_AE, f"called AE title {called!r} is not ours")
        found = self._find(applicant)
        if isinstance(found, Rejected):
            return found
        caller = Caller(applicant.calling_ae.strip(), "modality", address=applicant.address)
        rights = self._config.unknown_callers if found is None else found.rights
        return Admitted(caller, found, rights)

    def _find(self, applicant: Applicant) -> Peer | Rejected | None:
        """The entry whose title, address and certificate all match; None: not in the table."""
        title = applicant.calling_ae.strip()
        entries = [peer for peer in self._peers.now() if peer.ae_title.strip() == title]
        if not entries:
            if self._config.unknown_callers:
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
