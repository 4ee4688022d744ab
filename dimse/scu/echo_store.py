"""C-ECHO and C-STORE to a peer: the short way for commands. See `sender` for sending."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from dimse.peers import Peer
from dimse.scu.association import RequestedAssociation
from dimse.scu.contexts import EXPLICIT_LE, IMPLICIT_LE
from dimse.scu.file import NotSendable, Outgoing, outgoing
from dimse.scu.negotiation import AssociationBroken, AssociationFailed, Calling, Proposal
from dimse.scu.sender import send_items
from dimse.wire.command import (
    C_ECHO_RQ,
    COMMAND,
    DATA_SET_TYPE,
    MESSAGE_ID,
    NO_DATA_SET,
    SOP_CLASS,
    encode,
)
from dimse.wire.contexts import VERIFICATION
from pixels import Transcoder

__all__ = ["AssociationBroken", "AssociationFailed", "Calling", "SendResult", "echo", "send"]

Progress = Callable[["SendResult"], None]


@dataclass(frozen=True, slots=True)
class SendResult:
    """What became of one file. `status` is the peer's C-STORE status; None if none came."""

    path: Path
    status: int | None
    text: str
    ok: bool


def echo(peer: Peer, calling: Calling | None = None, *, timeout_s: float = 10.0) -> float:
    """C-ECHO; returns the seconds from connecting to the answer. Raises AssociationFailed."""
    calling = replace(calling or Calling(), connect_s=timeout_s, answer_s=timeout_s)
    started = time.monotonic()
    proposal = Proposal(VERIFICATION, (IMPLICIT_LE, EXPLICIT_LE))
    with RequestedAssociation.open(peer, [proposal], calling) as association:
        context = association.context_for(VERIFICATION)
        if context is None:
            raise AssociationFailed(f"{peer} does not take C-ECHO from {calling.ae_title}")
        command: dict[int, int | str] = {
            SOP_CLASS: VERIFICATION,
            COMMAND: C_ECHO_RQ,
            MESSAGE_ID: association.next_message_id(),
            DATA_SET_TYPE: NO_DATA_SET,
        }
        association.send(context.id, encode(command))
        try:
            _, answer = association.receive()
        except AssociationBroken as error:
            raise AssociationFailed(str(error)) from error
    if answer.status != 0:
        raise AssociationFailed(f"{peer} did not answer C-ECHO with success")
    return time.monotonic() - started


def send(
    peer: Peer,
    paths: Iterable[Path],
    *,
    calling: Calling | None = None,
    calling_ae: str | None = None,
    progress: Progress | None = None,
    associations: int = 1,
    transcoder: Transcoder | None = None,
) -> list[SendResult]:
    """Send Part 10 files by C-STORE.

    Args:
        peer: Where to.
        paths: The files; one that is not DICOM gets a result of its own.
        calling: Who we are and how long we wait.
        calling_ae: Our AE title, instead of the one of `calling`.
        progress: Called with each result as it comes.
        associations: Up to so many at the same time.
        transcoder: For what the peer does not take as it is; None: that fails.

    Returns:
        One result for each file, in the order in which they were dealt with.

    Raises:
        AssociationFailed: the peer accepts no association.
    """
    calling = calling or Calling()
    if calling_ae is not None:
        calling = replace(calling, ae_title=calling_ae)
    results: list[SendResult] = []

    def report(result: SendResult) -> None:
        results.append(result)
        if progress is not None:
            progress(result)

    items: list[Outgoing] = []
    for path in paths:
        try:
            items.append(outgoing(path))
        except NotSendable as error:
            report(SendResult(path, None, str(error), ok=False))
    deliveries = send_items(peer, items, calling, associations=associations, transcoder=transcoder)
    for one in deliveries:
        report(SendResult(one.item.path, one.status, one.text, one.ok))
    return results
