"""The table of peers, and a server's copy of it."""

from __future__ import annotations

import time
from dataclasses import replace

import psycopg
import pytest

from dimse.association.admission import Admission, AdmissionConfig, Admitted, Applicant, Rejected
from dimse.peer_table import PeerTable
from dimse.peers import Peer, PeerError

LOOK = frozenset({"query", "retrieve"})
CT = Peer("ct", "CT1", "10.1.0.7", 104, rights=frozenset({"store"}), addresses=("10.1.0.0/16",))
ASKING = Applicant("10.1.0.7", "CT1", "HILUM")


def test_a_peer_comes_back_from_the_database_as_it_was_added(peers):
    peer = Peer(
        "pacs",
        "MAIN PACS",
        "pacs.example",
        104,
        rights=LOOK,
        addresses=("10.0.0.1", "fd00::/8"),
        tls=True,
        tls_subject="CN=Main PACS",
        character_set="ISO 2022 IR 6\\ISO 2022 IR 87",
        transfer_syntaxes=("1.2.840.10008.1.2.1", "1.2.840.10008.1.2"),
        description="basement, extension 17",
    )

    peers.add(peer)
    peers.add(peer)

    assert peers.list() == [peer]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rights": frozenset({"everything"})}, "store, query, retrieve, worklist"),
        ({"addresses": ("10.1.0.7/16",)}, "10.1.0.0/16"),
        ({"addresses": ("ct1.example",)}, "10.1.0.7"),
        ({"character_set": "UTF-8"}, "ISO_IR 192"),
        ({"transfer_syntaxes": ("1.2.3",)}, "transfer syntax"),
        ({"tls_subject": "x\ny"}, "printable"),
        ({"description": "x" * 501}, "500"),
        ({"port": 0}, "65535"),
    ],
)
def test_what_is_wrong_with_a_peer_is_said_in_words_that_help(changes, says):
    with pytest.raises(PeerError, match=says):
        replace(CT, **changes)


def test_a_peer_that_is_added_or_removed_counts_without_a_restart(peers, peers_dsn):
    table = PeerTable(peers_dsn, refresh_s=0.05)
    admission = Admission(AdmissionConfig(), table)
    assert isinstance(admission.decide(ASKING), Rejected)

    peers.add(CT)
    assert wait_until(lambda: isinstance(admission.decide(ASKING), Admitted))

    peers.remove("ct")
    assert wait_until(lambda: isinstance(admission.decide(ASKING), Rejected))
    admission.close()


def test_while_the_database_is_away_the_last_copy_counts(peers, peers_dsn):
    peers.add(CT)
    table = PeerTable(peers_dsn, refresh_s=0.05)

    with psycopg.connect(peers_dsn, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
    assert list(table.now()) == [CT]

    peers.remove("ct")
    assert wait_until(lambda: not table.now())
    table.close()


def wait_until(holds, seconds=5):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.02)
    return False
