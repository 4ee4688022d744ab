"""Asking a peer to commit to instances that we have sent it (PS3.4 J.3.2, as SCU)."""

from __future__ import annotations

import time
from collections.abc import Sequence

from pydicom.uid import generate_uid

from dimse.commitment.message import (
    COMMITMENT,
    REQUEST,
    WELL_KNOWN,
    BadMessage,
    from_bytes,
    read_report,
    request_dataset,
    to_bytes,
)
from dimse.commitment.report import EVENT_TYPE, N_EVENT_REPORT_RQ, N_EVENT_REPORT_RSP
from dimse.commitment.scp import keep_report
from dimse.commitment.table import CommitmentResult, CommitmentTable, Reference
from dimse.peers import Peer
from dimse.scu.association import Accepted, RequestedAssociation
from dimse.scu.contexts import EXPLICIT_LE, IMPLICIT_LE
from dimse.scu.negotiation import AssociationBroken, AssociationFailed, Calling, Proposal
from dimse.wire.command import (
    COMMAND,
    COMMENT,
    DATA_SET_TYPE,
    INSTANCE,
    MESSAGE_ID,
    NO_DATA_SET,
    RESPONDS_TO,
    SOP_CLASS,
    STATUS,
    WITH_DATA_SET,
    Command,
    encode,
)

N_ACTION_RQ, N_ACTION_RSP = 0x0130, 0x8130
ACTION_TYPE = 0x1008
REQUESTED_CLASS, REQUESTED_INSTANCE = 0x0003, 0x1001
_POLL_S = 0.5


class CommitmentRefused(Exception):
    """The peer does not take the request; the text has its status and comment."""


def request_commitment(
    peer: Peer,
    instances: Sequence[tuple[str, str]],
    table: CommitmentTable,
    calling: Calling,
    *,
    linger_s: float = 10.0,
    timeout_s: float = 300.0,
) -> CommitmentResult:
    """Ask for a commitment and wait for the report.

    It comes on this association, or on one that the peer opens to our DIMSE server, which keeps
    it in the table.

    Args:
        peer: Of whom.
        instances: SOP class and SOP instance UID of each.
        table: Where both processes keep the transaction.
        calling: Who we are.
        linger_s: So long the association is kept open for the report.
        timeout_s: So long the table is watched in all.

    Returns:
        What is known at the end; its state is "asked" when the report has not come yet.

    Raises:
        AssociationFailed, AssociationBroken, CommitmentRefused: nothing was asked.
        ArchiveError: the database does not answer.
    """
    transaction = str(generate_uid(prefix=None))
    references = [Reference(*one) for one in instances]
    deadline = time.monotonic() + timeout_s
    table.ask(transaction, (peer.name, peer.ae_title), references)
    with RequestedAssociation.open(
        peer, [Proposal(COMMITMENT, (EXPLICIT_LE, IMPLICIT_LE))], calling
    ) as association:
        context = association.context_for(COMMITMENT)
        if context is None:
            raise AssociationFailed(f"{peer} does not take storage commitment")
        try:
            _ask(association, context, transaction, references, peer, table)
        except CommitmentRefused:
            table.refused(transaction)
            raise
        _listen(association, context, transaction, peer, table, min(linger_s, timeout_s))
    return _watch(table, transaction, deadline)


def _ask(
    association: RequestedAssociation,
    context: Accepted,
    transaction: str,
    references: Sequence[Reference],
    peer: Peer,
    table: CommitmentTable,
) -> None:
    command: dict[int, int | str] = {
        REQUESTED_CLASS: COMMITMENT,
        COMMAND: N_ACTION_RQ,
        MESSAGE_ID: association.next_message_id(),
        DATA_SET_TYPE: WITH_DATA_SET,
        REQUESTED_INSTANCE: WELL_KNOWN,
        ACTION_TYPE: REQUEST,
    }
    data = to_bytes(request_dataset(transaction, references), context.transfer_syntax)
    association.send(context.id, encode(command), data)
    while True:
        _, message = association.receive()
        if message.field == N_EVENT_REPORT_RQ:
            _take_report(association, context, message, peer, table)
            continue
        if message.has_data_set:
            association.read_all()
        if message.field == N_ACTION_RSP:
            break
    if message.status != 0:
        comment = message.text(COMMENT)
        words = f"0x{message.status or 0:04X}" + (f" ({comment})" if comment else "")
        raise CommitmentRefused(f"{peer} answered {words}")


def _listen(
    association: RequestedAssociation,
    context: Accepted,
    transaction: str,
    peer: Peer,
    table: CommitmentTable,
    seconds: float,
) -> None:
    """Keep the association open for the report, which may come on another one as well."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not _is_answered(table, transaction):
        if not association.wait(_POLL_S):
            continue
        try:
            _, message = association.receive()
        except AssociationBroken:
            return  # the peer has closed: it will report on one of its own
        if message.field == N_EVENT_REPORT_RQ:
            _take_report(association, context, message, peer, table)


def _take_report(
    association: RequestedAssociation,
    context: Accepted,
    message: Command,
    peer: Peer,
    table: CommitmentTable,
) -> None:
    data = association.read_all() if message.has_data_set else b""
    try:
        report = read_report(from_bytes(data, context.transfer_syntax))
        status = 0 if keep_report(table, report, peer.ae_title) else 0x0115
    except BadMessage:
        status = 0x0115
    answer: dict[int, int | str] = {
        SOP_CLASS: COMMITMENT,
        COMMAND: N_EVENT_REPORT_RSP,
        RESPONDS_TO: message.number(MESSAGE_ID) or 0,
        DATA_SET_TYPE: NO_DATA_SET,
        STATUS: status,
        INSTANCE: WELL_KNOWN,
        EVENT_TYPE: message.number(EVENT_TYPE) or 0,
    }
    association.send(context.id, encode(answer))


def _is_answered(table: CommitmentTable, transaction: str) -> bool:
    result = table.result(transaction)
    return result is not None and result.state != "asked"


def _watch(table: CommitmentTable, transaction: str, deadline: float) -> CommitmentResult:
    while True:
        result = table.result(transaction)
        if result is None:
            raise LookupError(f"transaction {transaction} has left the table")
        if result.state != "asked" or time.monotonic() >= deadline:
            return result
        time.sleep(_POLL_S)
