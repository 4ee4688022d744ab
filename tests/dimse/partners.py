"""Other people's applications that take part in a retrieval: receivers, requestors."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
import pytest
from pydicom.uid import generate_uid
from pynetdicom import AE, AllStoragePresentationContexts, evt

from archive import Source
from dimse import AssociationFailed, Peer, echo
from dimse.retrieve.scp import Getting, Moving, RetrieveConfig, service
from dimse.scu.negotiation import Calling
from tests.archive.phantom import bytes_of, slice_of

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(peer, seconds=15):
    deadline = time.monotonic() + seconds
    while True:
        try:
            return echo(peer, timeout_s=2)
        except AssociationFailed:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@contextmanager
def dcmtk_receiver(folder, *options, title="DCMTK"):
    """DCMTK's storescp, which keeps files bit by bit in `folder`."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    command = ["storescp", "+B", *options, "-aet", title, "-od", str(folder), str(port)]
    process = subprocess.Popen(command, env={**os.environ, "TCP_NODELAY": "1"})
    try:
        peer = Peer(title.lower(), title, "127.0.0.1", port)
        wait_for(peer)
        yield peer
    finally:
        process.terminate()
        process.wait(timeout=10)


@dataclass
class Received:
    """What a receiver of pynetdicom was sent."""

    peer: Peer
    requests: list = field(default_factory=list)
    datasets: list = field(default_factory=list)
    syntaxes: list = field(default_factory=list)
    associations: list = field(default_factory=list)


@contextmanager
def receiver(
    answer=lambda received, event: 0x0000,
    syntaxes=None,
    maximum_pdu=16382,
    title="RECV",
    port=None,
):
    """A storage SCP of pynetdicom whose answers the test decides about."""
    ae = AE(title)
    ae.maximum_pdu_size = maximum_pdu
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(context.abstract_syntax, syntaxes or [EXPLICIT, IMPLICIT])
    ae.add_supported_context("1.2.840.10008.1.1")
    found = Received(Peer(title.lower(), title, "127.0.0.1", port or free_port()))

    def on_store(event):
        found.requests.append(event.request)
        found.datasets.append(event.encoded_dataset(include_meta=False))
        found.syntaxes.append(str(event.context.transfer_syntax))
        return answer(found, event)

    def on_open(event):
        found.associations.append(event.assoc)

    handlers = [(evt.EVT_C_STORE, on_store), (evt.EVT_ACCEPTED, on_open)]
    server = ae.start_server(("127.0.0.1", found.peer.port), block=False, evt_handlers=handlers)
    try:
        yield found
    finally:
        server.shutdown()


@pytest.fixture
def retrieving(open_door):
    """Start a door that serves retrievals to the given destinations."""

    def start(*destinations, associations=1, transcoder=None, answer_s=10.0, **more):
        calling = Calling("HILUM", connect_s=5, answer_s=answer_s)

        def services(archive, ledger):
            config = RetrieveConfig(
                Moving(calling, associations, transcoder), Getting(answer_s, transcoder)
            )
            return [service(archive, lambda: destinations, ledger, config)]

        return open_door(services=services, **more)

    return start


def stored_study(archive, count=3, **attributes):
    """A study in the archive: its UID and its instances' UIDs in their order."""
    study, series = generate_uid(), generate_uid()
    uids = [str(generate_uid()) for _ in range(count)]

    def store(number):
        dataset = slice_of(
            **{
                "StudyInstanceUID": study,
                "SeriesInstanceUID": series,
                "SOPInstanceUID": uids[number],
                "InstanceNumber": number + 1,
                **attributes,
            }
        )
        with archive.receive() as incoming:
            incoming.write(bytes_of(dataset))
            archive.store(incoming, Source("local"))

    with ThreadPoolExecutor(16) as pool:  # the archive commits in groups
        list(pool.map(store, range(count)))
    return str(study), uids


def copied_study(archive, dsn, count):
    """As `stored_study`, but the database makes `count` rows of one instance, all with its file."""
    study, (first,) = stored_study(archive, 1)
    with psycopg.connect(dsn) as connection:
        copies = connection.execute(
            "insert into archive.instance select made.* from archive.instance one,"
            " generate_series(2, %s) copy, lateral jsonb_populate_record(one,"
            "  jsonb_build_object('sop_uid', '1.2.3.' || one.change || '.' || copy)) made"
            " where one.sop_uid = %s returning sop_uid",
            [count, first],
        ).fetchall()
    return study, [first, *(row[0] for row in copies)]


def stored_file(archive, path):
    """A file in the archive; its data set's UIDs."""
    with archive.receive() as incoming:
        incoming.write(path.read_bytes())
        return archive.store(incoming, Source("local")).key


def requestor(*sop_classes, roles=(), title="ASKER"):
    """An AE of pynetdicom that asks for things."""
    ae = AE(title)
    ae.dimse_timeout = 30
    for sop_class in sop_classes:
        ae.add_requested_context(sop_class, [EXPLICIT])
    for sop_class in roles:
        ae.add_requested_context(sop_class, [EXPLICIT, IMPLICIT])
    return ae
