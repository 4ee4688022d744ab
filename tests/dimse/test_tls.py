"""DICOM over TLS: the right certificate opens the door, every other one leaves a record."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, build_context

from access import AuditSpool
from dimse import DimseConfig, DimseServer, Peer, echo
from dimse.accept.guard import Limits
from dimse.association.admission import Admission, AdmissionConfig
from dimse.peer_table import PeerTable
from dimse.peers import Peers
from dimse.scu.negotiation import AssociationFailed, Calling, connect
from dimse.wire.tls import (
    ClientTls,
    ServerTls,
    TlsConfig,
    client_context,
)
from tests.archive.phantom import bytes_of, slice_of
from tests.dimse.certificates import Authority, as_client
from tests.dimse.conftest import Door
from tests.dimse.wire import ABORT, Wire
from tests.fixtures.peers import needs
from tests.fixtures.stores import free_port

VERIFICATION = "1.2.840.10008.1.1"


@pytest.fixture
def open_tls(archive, tmp_path, authority, ours):
    """Start a server with a TLS port only."""
    started = []

    def start(certificates="required", admission=None, pair=ours, limits=None):
        folder = tmp_path / f"audit-{len(started)}"
        audit = AuditSpool(folder, "dimse")
        server = DimseServer(
            DimseConfig(port=None, tls_port=0, limits=limits or Limits()),
            archive,
            audit,
            admission or Admission(AdmissionConfig()),
            tls=ServerTls(TlsConfig(pair.certificate, pair.key, authority.bundle, certificates)),
        )
        server.start()
        started.append((server, audit))
        return Door(server, archive, folder)

    yield start
    for server, audit in started:
        server.stop(timeout_s=2)
        audit.close()


@pytest.fixture
def door(open_tls):
    return open_tls()


def associate(door, context, title="CT1"):
    return AE(title).associate(
        "127.0.0.1",
        door.port,
        contexts=[
            build_context(VERIFICATION),
            build_context(MRImageStorage, [ExplicitVRLittleEndian]),
        ],
        tls_args=(context, "localhost"),
    )


def is_refused(door, context):
    """Whether no association comes about; TLS 1.3 tells the client only when it reads."""
    association = associate(door, context)
    if association.is_established:
        association.release()
        return False
    return True


# --- DCMTK as the peer ---------------------------------------------------------------------------


def dcmtk(program, door, *options, files=()):
    return subprocess.run(
        [program, *map(str, options), "-aec", "HILUM", "127.0.0.1", str(door.port), *files],
        capture_output=True,
        text=True,
        timeout=60,
    )


@needs("echoscu", "storescu")
@pytest.mark.parametrize("profile", ["+py", "+px", "+pz"])
def test_dcmtk_with_a_certificate_of_our_authority_comes_in(door, authority, modality, profile):
    tls = ["+tls", modality.key, modality.certificate, "+cf", authority.bundle, profile]

    done = dcmtk("echoscu", door, *tls)

    assert done.returncode == 0, done.stderr


@needs("storescu")
def test_dcmtk_stores_over_tls_what_is_then_in_the_archive(door, authority, modality, tmp_path):
    dataset = slice_of()
    file = tmp_path / "slice.dcm"
    file.write_bytes(bytes_of(dataset))
    tls = ["+tls", modality.key, modality.certificate, "+cf", authority.bundle]

    done = dcmtk("storescu", door, *tls, files=[str(file)])

    assert done.returncode == 0, done.stderr
    records = list(door.archive.records_of(instances=[dataset.SOPInstanceUID]))
    assert len(records) == 1


@needs("echoscu")
def test_dcmtk_without_a_certificate_comes_in_only_if_none_is_required(open_tls, authority):
    anonymous = ["+tla", "+cf", authority.bundle]

    refused = dcmtk("echoscu", open_tls("required"), *anonymous)
    accepted = dcmtk("echoscu", open_tls("optional"), *anonymous)

    assert refused.returncode != 0
    assert accepted.returncode == 0, accepted.stderr


@needs("echoscu")
def test_dcmtk_with_the_retired_null_profile_stays_out(door, authority, modality):
    tls = ["+tls", modality.key, modality.certificate, "+cf", authority.bundle, "+pn"]

    assert dcmtk("echoscu", door, *tls).returncode != 0
    assert wait_until(lambda: "TLS" in door.audit())


@needs("storescp")
def test_we_call_dcmtk_with_mutual_certificates(authority, ours, modality, tmp_path):
    port = free_port()
    server = subprocess.Popen(
        [
            *("storescp", "+tls", modality.key, modality.certificate),
            *("+cf", authority.bundle, "-od", str(tmp_path), str(port)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert wait_until(lambda: listens(port))
        files = ClientTls(ours.certificate, ours.key, authority.bundle)
        calling = Calling(tls=lambda peer: client_context(files, peer.tls_subject))
        named = Peer("s", "STORESCP", "127.0.0.1", port, tls=True, tls_subject="CN=CT 1")
        other = Peer("s", "STORESCP", "127.0.0.1", port, tls=True, tls_subject="CN=CT 2")
        unnamed = Peer("s", "STORESCP", "127.0.0.1", port, tls=True)

        connect(named, calling).close()
        with pytest.raises(AssociationFailed, match=r"CN=CT 1, .* not for CN=CT 2"):
            connect(other, calling)
        # Its certificate is not for 127.0.0.1, and nobody said whose it should be.
        with pytest.raises(AssociationFailed, match="not trusted"):
            connect(unnamed, calling)
    finally:
        server.terminate()
        server.wait(10)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# --- versions, suites and certificates -----------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_12_and_13_work_and_carry_a_whole_instance(door, modality, version):
    context = as_client(modality, minimum_version=version, maximum_version=version)
    dataset = slice_of()
    bytes_of(dataset)

    association = associate(door, context)
    status = association.send_c_store(dataset).Status
    association.release()

    assert status == 0x0000
    assert len(list(door.archive.records_of(instances=[dataset.SOPInstanceUID]))) == 1


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_11_and_weak_suites_are_refused_and_recorded(open_tls, modality):
    old = as_client(modality)
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    null, cbc, static = (
        as_client(modality, maximum_version=ssl.TLSVersion.TLSv1_2) for _ in range(3)
    )
    null.set_ciphers("eNULL:@SECLEVEL=0")
    cbc.set_ciphers("ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")
    static.set_ciphers("AES128-GCM-SHA256:@SECLEVEL=0")

    for context in (old, null, cbc, static):
        door = open_tls()
        assert is_refused(door, context)
        assert wait_until(lambda door=door: "TLS:" in door.audit())
    assert echo_works(door, modality)


@pytest.mark.parametrize("case", ["none", "expired", "not yet", "wrong authority"])
def test_a_wrong_client_certificate_is_refused_and_recorded(
    open_tls, authority, modality, tmp_path, case
):
    pair = {
        "none": lambda: None,
        "expired": lambda: authority.issue("CT old", days=(-3, -1)),
        "not yet": lambda: authority.issue("CT new", days=(1, 3)),
        "wrong authority": lambda: Authority(tmp_path, "Other CA").issue("CT 1", "ct1.example"),
    }[case]()
    says = {
        "none": "peer did not return a certificate",
        "expired": "certificate has expired",
        "not yet": "not yet valid",
        "wrong authority": "certificate",
    }[case]
    door = open_tls()

    assert is_refused(door, as_client(pair))

    assert wait_until(lambda: says in door.audit()), door.audit()
    assert '"event":"denied"' in door.audit() and "127.0.0.1" in door.audit()
    assert echo_works(door, modality)


def test_a_client_that_does_not_trust_us_leaves_a_record(door, modality, tmp_path):
    stranger = Authority(tmp_path, "Other CA")
    context = client_context(ClientTls(modality.certificate, modality.key, stranger.bundle))

    assert is_refused(door, context)
    assert wait_until(lambda: "unknown ca" in door.audit())


def test_plain_dicom_on_the_tls_port_is_refused_and_recorded(door, modality):
    association = AE("PLAIN").associate(
        "127.0.0.1", door.port, contexts=[build_context(VERIFICATION)]
    )

    assert not association.is_established
    assert wait_until(lambda: "not a TLS connection" in door.audit())
    assert echo_works(door, modality)


def test_a_handshake_that_does_not_go_on_is_dropped_and_holds_nobody_up(open_tls, modality):
    door = open_tls(limits=Limits(deadline_s=0.5))
    silent = [socket.create_connection(("127.0.0.1", door.port)) for _ in range(50)]
    silent[0].sendall(b"\x16\x03\x01")

    assert echo_works(door, modality)
    silent[0].settimeout(5)
    assert silent[0].recv(1) == b""
    for connection in silent:
        connection.close()


def echo_works(door, pair):
    association = associate(door, as_client(pair))
    if not association.is_established:
        return False
    status = association.send_c_echo().Status
    association.release()
    return status == 0


# --- whose certificate ---------------------------------------------------------------------------


def test_a_peer_comes_in_with_its_own_certificate_and_not_with_a_neighbours(
    open_tls, authority, modality, postgres
):
    postgres.create_database("tls_peers")
    peers = Peers(postgres.dsn("tls_peers"))
    peers.add(Peer("ct", "CT1", "127.0.0.1", 104, tls=True, tls_subject="DNS=ct1.example"))
    admission = Admission(AdmissionConfig(), PeerTable(peers.dsn))
    door = open_tls("optional", admission)
    neighbour = authority.issue("CT 2", "ct2.example")

    assert echo_works(door, modality)
    assert is_refused(door, as_client(neighbour))
    assert is_refused(door, as_client(None))

    assert wait_until(lambda: "another name" in door.audit())
    admission.close()


# --- files that change ---------------------------------------------------------------------------


def test_a_new_certificate_counts_without_a_restart_and_a_broken_one_does_not(
    open_tls, authority, modality, tmp_path
):
    first, second = (authority.issue("hilum", "localhost") for _ in range(2))
    files = (tmp_path / "own.pem", tmp_path / "own.key.pem")
    install(first, files)
    live = type(first)(*files, first.serial)
    door = open_tls(pair=live)
    before = associate(door, as_client(modality))

    assert serial_of(door, modality) == first.serial
    files[1].write_text("rubbish")
    assert serial_of(door, modality) == first.serial
    install(second, files)
    assert serial_of(door, modality) == second.serial
    files[0].unlink()
    assert serial_of(door, modality) == second.serial

    assert before.send_c_echo().Status == 0
    before.release()


def install(pair, files):
    shutil.copyfile(pair.certificate, files[0])
    shutil.copyfile(pair.key, files[1])


def serial_of(door, pair):
    """Serial number of the certificate that the server shows."""
    from cryptography import x509

    context = as_client(pair)
    with (
        socket.create_connection(("127.0.0.1", door.port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        shown = secure.getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(shown).serial_number


def test_a_server_that_stops_says_so_over_tls(door, modality):
    with Wire(door.port) as wire:
        wire.socket = as_client(modality).wrap_socket(wire.socket)
        wire.associate()
        stopping = threading.Thread(target=door.server.stop, args=[10])
        stopping.start()

        assert wire.pdu()[0] == ABORT

    stopping.join()


# --- our own calls -------------------------------------------------------------------------------


def test_we_call_ourselves_over_tls_with_our_certificate(door, authority, ours):
    files = ClientTls(ours.certificate, ours.key, authority.bundle)
    calling = Calling(tls=lambda peer: client_context(files, peer.tls_subject))
    peer = Peer("us", "HILUM", "127.0.0.1", door.port, tls=True)

    assert echo(peer, calling=calling) < 10


def wait_until(holds, seconds=5):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.02)
    return False
