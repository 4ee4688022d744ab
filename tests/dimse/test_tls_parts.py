"""The parts of DICOM over TLS: names in certificates, files, and the socket that replays."""

from __future__ import annotations

import select
import socket
import threading

import pytest
from pynetdicom import AE, build_context, evt

from dimse.tls import (
    ReplayingSocket,
    ServerTls,
    TlsConfig,
    TlsError,
    has_name,
    subject_of,
)
from tests.dimse.certificates import Authority, as_client

VERIFICATION = "1.2.840.10008.1.1"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def ours(authority):
    return authority.issue("hilum", "localhost", "127.0.0.1")


@pytest.fixture(scope="module")
def modality(authority):
    return authority.issue("CT 1", "ct1.example")


def test_names_of_a_certificate_are_compared_whole():
    subject = "CN=CT 1, DNS=ct1.example, IP=10.1.0.7"

    assert has_name(subject, "ct1.example") and has_name(subject, "IP=10.1.0.7")
    for wrong in ("ct1", "example", "CN=ct1.example", "CN=CT 1, DNS=ct1.example", "", "CN="):
        assert not has_name(subject, wrong)
    assert not has_name(None, "CT 1") and not has_name("", "")


def test_a_name_with_a_comma_cannot_pass_for_two(authority, ours):
    forged = authority.issue("x, DNS=ct1.example")
    server = ServerTls(TlsConfig(ours.certificate, ours.key, authority.bundle, "required"))

    subject = handshake(server, as_client(forged))

    assert subject == "CN=x? DNS=ct1.example"
    assert not has_name(subject, "ct1.example")


@pytest.mark.parametrize("case", ["no file", "no key", "other key", "locked", "no bundle"])
def test_files_that_cannot_be_used_are_named_at_the_start(authority, ours, tmp_path, case):
    from cryptography.hazmat.primitives import serialization

    certificate, key, ca = ours.certificate, ours.key, authority.bundle
    match case:
        case "no file":
            certificate = tmp_path / "missing.pem"
        case "no key":
            key = ours.certificate
        case "other key":
            key = authority.issue("other").key
        case "locked":
            loaded = serialization.load_pem_private_key(ours.key.read_bytes(), None)
            key = tmp_path / "locked.pem"
            key.write_bytes(
                loaded.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.BestAvailableEncryption(b"secret"),
                )
            )
        case "no bundle":
            ca = tmp_path / "empty.pem"
            ca.write_text("")

    with pytest.raises(TlsError, match=r"\.pem"):
        ServerTls(TlsConfig(certificate, key, ca, "required"))


def test_client_certificates_without_an_authority_are_a_mistake(ours):
    with pytest.raises(TlsError, match="tls_ca"):
        ServerTls(TlsConfig(ours.certificate, ours.key, None, "optional"))


def handshake(server, context, then=lambda _: None):
    """Shake hands with a server context; the subject it saw. `then` runs on its side."""
    seen = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            connection, _ = listener.accept()
            with server.context().wrap_socket(connection, server_side=True) as secure:
                seen.append(subject_of(secure))
                then(secure)

        thread = threading.Thread(target=answer)
        thread.start()
        with context.wrap_socket(
            socket.create_connection(listener.getsockname()), server_hostname="localhost"
        ) as client:
            client.sendall(b"abcdefgh")
            client.recv(100)
        thread.join()
    return seen[0]


def test_select_sees_what_is_replayed_and_what_is_decrypted_already(ours, authority, modality):
    server = ServerTls(TlsConfig(ours.certificate, ours.key, authority.bundle, "required"))
    steps = []

    def use(secure):
        replaying = ReplayingSocket(secure, b"head")
        buffer = bytearray(3)
        steps.append(is_readable(replaying))
        steps.append(replaying.recv(2))
        steps.append((replaying.recv_into(buffer), bytes(buffer)))
        steps.append(replaying.recv(3))
        steps.append(is_readable(replaying))  # the rest is decrypted, the descriptor is silent
        steps.append(replaying.recv(100))
        steps.append(is_readable(replaying))
        replaying.sendall(b"bye")
        replaying.shutdown(socket.SHUT_RDWR)
        replaying.close()
        steps.append(replaying.fileno())

    handshake(server, as_client(modality), use)

    assert steps == [True, b"he", (2, b"ad\0"), b"abc", True, b"defgh", False, -1]


def is_readable(connection):
    return bool(select.select([connection], [], [], 0)[0])


def test_pynetdicom_serves_an_association_over_a_replaying_socket(ours, authority, modality):
    """As the hand-over does it: the request was read already, the rest comes over TLS."""
    from pynetdicom.transport import AssociationServer

    class Inner(AssociationServer):
        def server_bind(self):
            pass

        def server_activate(self):
            pass

    ae = AE("INNER")
    inner = Inner(
        ae,
        ("127.0.0.1", 0),
        "INNER",
        [build_context(VERIFICATION)],
        evt_handlers=[(evt.EVT_C_ECHO, lambda _: 0)],
    )
    tls = ServerTls(TlsConfig(ours.certificate, ours.key, authority.bundle, "required"))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept():
            connection, address = listener.accept()
            secure = tls.context().wrap_socket(connection, server_side=True)
            inner.process_request(ReplayingSocket(secure, secure.recv(40)), address)

        threading.Thread(target=accept, daemon=True).start()
        association = AE("X").associate(
            *listener.getsockname(),
            contexts=[build_context(VERIFICATION)],
            tls_args=(as_client(modality), "localhost"),
        )
        assert association.send_c_echo().Status == 0
        association.release()
    assert association.is_released
