"""Hilum and a real Orthanc over TLS, each with a certificate that the other asks for."""

from __future__ import annotations

import json

import pytest

from access import AuditSpool
from archive import Archive, ArchiveConfig, Query
from dimse import DimseConfig, DimseServer, Peer, echo
from dimse.association.admission import Admission, AdmissionConfig
from dimse.scu.negotiation import AssociationFailed, Calling
from dimse.wire.tls import ClientTls, ServerTls, TlsConfig, client_context
from tests.dicomweb.server import file_of, read_head, slice_of
from tests.dimse.certificates import Authority
from tests.fixtures.peers import needs
from tests.fixtures.stores import free_port
from tests.peers.conftest import running

pytestmark = needs("Orthanc")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def ours(authority):
    return authority.issue("hilum", "localhost", "127.0.0.1")


@pytest.fixture(scope="module")
def hilum(postgres, tmp_path_factory, authority, ours):
    """Our server with a TLS port only, that asks for a certificate; and its archive."""
    folder = tmp_path_factory.mktemp("hilum")
    postgres.create_database("orthanc_tls")
    tls = TlsConfig(ours.certificate, ours.key, authority.bundle, "required")
    audit = AuditSpool(folder / "audit", "dimse")
    with Archive.open(ArchiveConfig(folder / "archive", postgres.dsn("orthanc_tls"), 0)) as archive:
        server = DimseServer(
            DimseConfig(port=None, tls_port=0),
            archive,
            audit,
            Admission(AdmissionConfig()),
            tls=ServerTls(tls),
        )
        server.start()
        yield server, archive
        server.stop(timeout_s=5)
        audit.close()


@pytest.fixture(scope="module")
def orthanc_tls(tmp_path_factory, authority, hilum):
    """Orthanc that speaks TLS alone, as docs/howto/connect-orthanc.md says."""
    folder = tmp_path_factory.mktemp("orthanc-tls")
    theirs = authority.issue("ORTHANC", "localhost", "127.0.0.1")
    http_port, port = free_port(), free_port()
    hilum_port = hilum[0].address[1]
    settings = folder / "orthanc.json"
    settings.write_text(
        json.dumps(
            {
                "StorageDirectory": str(folder / "storage"),
                "IndexDirectory": str(folder / "index"),
                "HttpPort": http_port,
                "DicomAet": "ORTHANC",
                "DicomPort": port,
                "AuthenticationEnabled": False,
                "DicomTlsEnabled": True,
                "DicomTlsCertificate": str(theirs.certificate),
                "DicomTlsPrivateKey": str(theirs.key),
                "DicomTlsTrustedCertificates": str(authority.bundle),
                "DicomModalities": {
                    "hilum": {
                        "AET": "HILUM",
                        "Host": "127.0.0.1",
                        "Port": hilum_port,
                        "UseDicomTls": True,
                    }
                },
            }
        )
    )
    with running(settings, http_port, port) as started:
        yield started


def test_orthanc_reaches_and_stores_to_hilum_over_tls(orthanc_tls, hilum):
    _, archive = hilum
    file = file_of(slice_of())
    stored = orthanc_tls.post("/instances", file)

    orthanc_tls.post("/modalities/hilum/echo", {})
    done = orthanc_tls.post(
        "/modalities/hilum/store", {"Resources": [stored["ID"]], "Synchronous": True}
    )

    assert done["FailedInstancesCount"] == 0
    uid = str(read_head(file).SOPInstanceUID)
    assert len(archive.instances(Query.of([("SOPInstanceUID", uid)])).items) == 1


def test_hilum_reaches_orthanc_over_tls_and_not_without(orthanc_tls, authority, ours):
    peer = Peer("orthanc", "ORTHANC", "127.0.0.1", orthanc_tls.port, tls=True)
    plain = Peer("orthanc", "ORTHANC", "127.0.0.1", orthanc_tls.port)
    files = ClientTls(ours.certificate, ours.key, authority.bundle)
    calling = Calling(tls=lambda one: client_context(files, one.tls_subject))

    assert echo(peer, calling=calling) < 10
    with pytest.raises(AssociationFailed):
        echo(plain, timeout_s=5)
