"""The parts of DICOM over TLS: names in certificates, files, and the socket that replays."""

from __future__ import annotations

import socket
import threading

import pytest

from dimse.wire.tls import (
    ServerTls,
    TlsConfig,
    TlsError,
    has_name,
    subject_of,
)
from tests.dimse.certificates import as_client

VERIFICATION = "1.2.840.10008.1.1"


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
