"""N-EVENT-REPORT of a commitment over an association of our own, its roles reversed."""

from __future__ import annotations

from dimse.commitment.message import (
    COMMITMENT,
    WELL_KNOWN,
    Report,
    report_dataset,
    to_bytes,
)
from dimse.peers import Peer
from dimse.scu.association import RequestedAssociation
from dimse.scu.contexts import EXPLICIT_LE, IMPLICIT_LE
from dimse.scu.negotiation import AssociationFailed, Calling, Proposal
from dimse.wire.command import (
    COMMAND,
    DATA_SET_TYPE,
    INSTANCE,
    MESSAGE_ID,
    SOP_CLASS,
    WITH_DATA_SET,
    encode,
)

N_EVENT_REPORT_RQ, N_EVENT_REPORT_RSP = 0x0100, 0x8100
EVENT_TYPE = 0x1002


def send_report(peer: Peer, report: Report, calling: Calling) -> int:
    """Tell a peer what became of its transaction (PS3.4 J.3.3); returns its status.

    Raises:
        AssociationFailed, AssociationBroken: it could not be told.
    """
    proposal = Proposal(COMMITMENT, (EXPLICIT_LE, IMPLICIT_LE), as_scp=True)
    with RequestedAssociation.open(peer, [proposal], calling) as association:
        # Some modalities accept the context and say nothing about the role; they mean it.
        context = association.context_for(COMMITMENT, as_scp=True) or association.context_for(
            COMMITMENT
        )
        if context is None:
            raise AssociationFailed(f"{peer} does not take storage commitment reports")
        data = to_bytes(report_dataset(report, calling.ae_title), context.transfer_syntax)
        command: dict[int, int | str] = {
            SOP_CLASS: COMMITMENT,
            COMMAND: N_EVENT_REPORT_RQ,
            MESSAGE_ID: association.next_message_id(),
            DATA_SET_TYPE: WITH_DATA_SET,
            INSTANCE: WELL_KNOWN,
            EVENT_TYPE: report.event_type,
        }
        association.send(context.id, encode(command), data)
        _, answer = association.receive()
        if answer.has_data_set:
            association.read_all()
        return answer.status if answer.status is not None else 0x0110
