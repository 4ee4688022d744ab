"""Storage commitment that we ask a peer for: told on the same association or by a call."""

from __future__ import annotations

import threading

import pytest
from pydicom.uid import MRImageStorage, generate_uid
from pynetdicom import AE, evt
from pynetdicom.presentation import build_role

from dimse.commitment.message import COMMITMENT, WELL_KNOWN
from dimse.commitment.request import CommitmentRefused, request_commitment
from dimse.peers import Peer
from dimse.scu.negotiation import Calling
from tests.dimse.committing import (
    CT,
    action,
    stored,
    wait_for,
)
from tests.dimse.test_scu import free_port


def test_we_ask_and_are_told_on_the_same_association(open_pacs, commit_archive, table):
    door, _ = open_pacs()
    key, unknown = stored(commit_archive), generate_uid()

    result = request_commitment(
        Peer("us", "HILUM", "127.0.0.1", door.port),
        [(MRImageStorage, key.instance), (MRImageStorage, unknown)],
        table,
        Calling("ASKER"),
        timeout_s=20,
    )

    assert result.state == "answered"
    assert result.committed == (key.instance,)
    assert result.failures == ((unknown, 0x0112),)


def call_in(port, transaction, instance, title):
    """Report to us as a peer does that opens an association for it, its roles reversed."""
    ae = AE(title)
    ae.add_requested_context(COMMITMENT)
    association = ae.associate("127.0.0.1", port, ext_neg=[build_role(COMMITMENT, scp_role=True)])
    information = action((MRImageStorage, instance), transaction=transaction)
    status, _ = association.send_n_event_report(information, 1, COMMITMENT, WELL_KNOWN)
    association.release()
    return status.Status


def test_we_ask_and_are_told_by_a_call_to_our_server(open_pacs, table):
    """The peer closes first and reports on an association of its own, its roles reversed."""
    port = free_port()
    other = Peer("pacs", "PACS", "127.0.0.1", port)
    door, _ = open_pacs([other])
    instance = generate_uid()

    asked = []

    def on_n_action(event):
        asked.append(event.action_information.TransactionUID)
        return 0x0000, None

    ae = AE("PACS")
    ae.add_supported_context(COMMITMENT)
    server = ae.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_ACTION, on_n_action)]
    )
    answers = []

    def answer():
        wait_for(lambda: asked)
        answers.append(call_in(door.port, asked[0], instance, "STRANGER"))
        answers.append(call_in(door.port, asked[0], instance, "PACS"))

    thread = threading.Thread(target=answer)
    thread.start()
    result = request_commitment(
        other, [(MRImageStorage, instance)], table, Calling("HILUM"), linger_s=0.1, timeout_s=20
    )
    thread.join()
    server.shutdown()

    assert answers == [0x0115, 0x0000]
    assert (result.state, result.committed) == ("answered", (instance,))


def test_a_peer_that_refuses_is_an_error_with_its_status(table):
    port = free_port()
    ae = AE("PACS")
    ae.add_supported_context(COMMITMENT)
    server = ae.start_server(
        ("127.0.0.1", port),
        block=False,
        evt_handlers=[(evt.EVT_N_ACTION, lambda _: (0x0124, None))],
    )

    with pytest.raises(CommitmentRefused, match="0x0124"):
        request_commitment(
            Peer("pacs", "PACS", "127.0.0.1", port), [(CT, "1.2.3")], table, Calling()
        )
    server.shutdown()
