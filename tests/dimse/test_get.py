"""C-GET: instances come back on the association that asked for them, and nothing else is taken."""

from __future__ import annotations

import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_role, evt

from dimse import Peer
from dimse.scu.keep import ArchiveKeeper, FolderKeeper, Wanted
from dimse.scu.negotiation import Calling
from dimse.scu.retrieve import get
from dimse.wire.contexts import storage_classes
from pixels import Transcoder
from tests.archive.phantom import bytes_of, slice_of
from tests.dimse.partners import (
    EXPLICIT,
    IMPLICIT,
    free_port,
    requestor,
    retrieving,
    stored_file,
    stored_study,
)
from tests.fixtures.peers import needs

__all__ = ["retrieving"]

SAMPLES = Path(pydicom.__file__).parent / "data" / "test_files"
STUDY_GET = "1.2.840.10008.5.1.4.1.2.2.3"
MR, CT = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture(scope="module")
def transcoder():
    made = Transcoder()
    yield made
    made.close()


def keys(study, level="STUDY"):
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    identifier.StudyInstanceUID = study
    return identifier


def got(peer, study, keeper, classes=(MR,)):
    return list(get(peer, keys(study), classes, keeper, Calling("ASKER", answer_s=20)))


@needs("getscu")
def test_dcmtk_gets_a_study_from_us(retrieving, archive, tmp_path):
    study, uids = stored_study(archive, 4)
    door = retrieving()
    folder = tmp_path / "got"
    folder.mkdir()
    command = ["getscu", "-S", "+B", "-od", str(folder), "-aec", "HILUM", "127.0.0.1"]
    command += [str(door.port), "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}"]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    arrived = [pydicom.dcmread(path).SOPInstanceUID for path in folder.iterdir()]
    assert sorted(arrived) == sorted(uids)
    assert door.audit().count("C-GET ended: 4 asked for, 0 failed") == 1


def test_what_is_got_is_what_is_stored_byte_for_byte(retrieving, archive, tmp_path):
    names = ["CT_small.dcm", "JPEG2000.dcm", "MR_small_RLE.dcm", "rtplan.dcm"]
    door, folder = retrieving(), tmp_path / "got"
    for name in names:
        key = stored_file(archive, SAMPLES / name)
        record = archive.instance(key)
        keeper = FolderKeeper(folder, Wanted(frozenset({key.study})))

        final = got(door.peer, key.study, keeper, [record.sop_class])[-1]

        assert (final.status, final.failed) == (0, 0)
        path = folder / key.study / key.series / f"{key.instance}.dcm"
        assert data_set(path) == data_set(record.path)
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def data_set(path):
    raw = path.read_bytes()
    return raw[144 + pydicom.dcmread(path).file_meta.FileMetaInformationGroupLength :]


def test_every_storage_class_can_be_proposed_at_once(retrieving, archive, tmp_path):
    study, _ = stored_study(archive, 2)
    keeper = FolderKeeper(tmp_path, Wanted(frozenset({study})))

    final = got(retrieving().peer, study, keeper, [MR, *sorted(storage_classes())])[-1]

    assert (final.status, final.completed) == (0, 2)


def test_what_a_requestor_does_not_take_is_transcoded(retrieving, archive, transcoder):
    """X18 in the other direction: JPEG 2000 stored, only implicit little endian taken."""
    key = stored_file(archive, SAMPLES / "JPEG2000.dcm")
    record = archive.instance(key)
    received = []

    def on_store(event):
        received.append(event.dataset)
        return 0

    door = retrieving(transcoder=transcoder)
    ae = requestor(STUDY_GET)
    ae.add_requested_context(record.sop_class, [IMPLICIT])
    association = ae.associate(
        "127.0.0.1",
        door.port,
        ext_neg=[build_role(record.sop_class, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, on_store)],
    )
    answers = [s for s, _ in association.send_c_get(keys(key.study), STUDY_GET)]
    association.release()

    assert answers[-1].Status == 0
    expected = pydicom.dcmread(record.path)
    assert received[0].SOPInstanceUID == expected.SOPInstanceUID
    assert (received[0].Rows, received[0].Columns) == (expected.Rows, expected.Columns)
    bytes_each = received[0].Rows * received[0].Columns * received[0].BitsAllocated // 8
    assert len(received[0].PixelData) == bytes_each * received[0].SamplesPerPixel


def test_without_the_scp_role_the_sub_operations_fail_and_not_the_association(retrieving, archive):
    """X20."""
    study, uids = stored_study(archive, 2)
    ae = requestor(STUDY_GET, "1.2.840.10008.1.1", roles=[MR])
    association = ae.associate("127.0.0.1", retrieving().port)

    answers = list(association.send_c_get(keys(study), STUDY_GET))
    after = association.send_c_echo()
    association.release()

    status, identifier = answers[-1]
    assert (status.Status, status.NumberOfFailedSuboperations) == (0xA702, 2)
    assert sorted(identifier.FailedSOPInstanceUIDList) == sorted(uids)
    assert "SCP role" in status.ErrorComment
    assert after.Status == 0


def test_one_class_without_a_role_fails_alone(retrieving, archive):
    study, uids = stored_study(archive, 1)
    other, _ = stored_study(archive, 1, StudyInstanceUID=study, SOPClassUID=CT)
    del other
    ae = requestor(STUDY_GET, roles=[MR, CT])
    association = ae.associate(
        "127.0.0.1",
        retrieving().port,
        ext_neg=[build_role(MR, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, lambda event: 0)],
    )

    status, identifier = list(association.send_c_get(keys(study), STUDY_GET))[-1]
    association.release()

    assert status.Status == 0xB000
    assert (status.NumberOfCompletedSuboperations, status.NumberOfFailedSuboperations) == (1, 1)
    assert identifier.FailedSOPInstanceUIDList not in uids


def test_a_cancelled_get_ends_with_its_counters(retrieving, archive):
    """X16."""
    study, _ = stored_study(archive, 30)
    received = []
    ae = requestor(STUDY_GET, roles=[MR])

    def on_store(event):
        received.append(event.request.AffectedSOPInstanceUID)
        if len(received) == 3:
            event.assoc.send_c_cancel(9, None, STUDY_GET)
        return 0

    association = ae.associate(
        "127.0.0.1",
        retrieving().port,
        ext_neg=[build_role(MR, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, on_store)],
    )
    final = list(association.send_c_get(keys(study), STUDY_GET, msg_id=9))[-1][0]
    association.release()

    assert final.Status == 0xFE00
    assert final.NumberOfCompletedSuboperations == len(received) < 30
    assert final.NumberOfCompletedSuboperations + final.NumberOfRemainingSuboperations == 30


def test_a_get_that_takes_longer_than_the_server_waits_ends_with_its_counters(retrieving, archive):
    """E3 14."""
    study, uids = stored_study(archive, 150)
    door, begun, received = retrieving(), threading.Event(), []

    def on_store(event):
        received.append(event.request.AffectedSOPInstanceUID)
        begun.set()
        time.sleep(0.1)
        return 0

    association = requestor(STUDY_GET, roles=[MR]).associate(
        "127.0.0.1",
        door.port,
        ext_neg=[build_role(MR, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, on_store)],
    )
    with ThreadPoolExecutor(1) as pool:
        answers = pool.submit(lambda: list(association.send_c_get(keys(study), STUDY_GET)))
        assert begun.wait(10)
        door.server.stop(timeout_s=5)
        status, identifier = answers.result(10)[-1]

    assert status.Status == 0xB000
    assert status.NumberOfCompletedSuboperations == len(received) > 0
    assert set(identifier.FailedSOPInstanceUIDList) == set(uids) - set(received)
    assert "stopping" in status.ErrorComment


class Liar:
    """A C-GET SCP that sends what it likes."""

    def __init__(self, *datasets):
        for dataset in datasets:
            bytes_of(dataset)  # gives it its file meta information
        self.datasets = datasets
        self.statuses = []

    def __enter__(self):
        ae = AE("LIAR")
        ae.add_supported_context(STUDY_GET, [EXPLICIT])
        ae.add_supported_context(MR, [EXPLICIT], scu_role=False, scp_role=True)
        self.peer = Peer("liar", "LIAR", "127.0.0.1", free_port())
        handlers = [
            (evt.EVT_C_GET, self._on_get),
            (evt.EVT_DIMSE_RECV, self._on_answer),
        ]
        self._server = ae.start_server(
            ("127.0.0.1", self.peer.port), block=False, evt_handlers=handlers
        )
        return self

    def __exit__(self, *_):
        self._server.shutdown()

    def _on_get(self, event):
        yield len(self.datasets)
        for dataset in self.datasets:
            yield 0xFF00, dataset

    def _on_answer(self, event):
        command = event.message.command_set
        if command.CommandField == 0x8001:
            self.statuses.append(command.Status)


def test_what_was_not_asked_for_is_refused(archive, tmp_path):
    """E3 27: another study, another instance than announced, and a name that climbs."""
    study = str(generate_uid())
    wanted = slice_of(StudyInstanceUID=study)
    foreign = slice_of()
    before = archive.last_change()
    with Liar(wanted, foreign) as liar:
        keeper = FolderKeeper(tmp_path, Wanted(frozenset({study})))
        got(liar.peer, study, keeper)

        assert liar.statuses == [0x0000, 0x0124]

        into_archive = ArchiveKeeper(archive, Wanted(frozenset({study})), "127.0.0.1")
        got(liar.peer, study, into_archive)

        assert liar.statuses[2:] == [0x0000, 0x0124]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.stem for path in files] == [wanted.SOPInstanceUID]
    assert archive.last_change() == before + 1
    change = archive.changes(before, 10)[0]
    assert (change.key.study, change.source.calling_ae) == (study, "LIAR")


@pytest.mark.parametrize("name", ["../../../../etc/passwd", "/tmp/x", "1.2.3/4", "1..2"])
def test_a_peers_names_are_never_paths(tmp_path, name):
    """E3 27 and 28."""
    keeper = FolderKeeper(tmp_path / "out", Wanted(frozenset()))
    for attribute in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        dataset = slice_of()
        dataset[attribute]._value = name
        raw = bytes_of(dataset)
        start = 144 + pydicom.dcmread(writing(tmp_path, raw)).file_meta[0x00020000].value
        from dimse.scu.keep import Announced

        announced = Announced(MR, str(dataset.SOPInstanceUID), EXPLICIT, "LIAR")

        result = keeper.keep(announced, lambda write, raw=raw, at=start: write(raw[at:]))

        assert result.status in (0x0117, 0x0124)
    assert [path for path in (tmp_path / "out").rglob("*")] == []


def writing(folder, raw):
    path = folder / "raw.dcm"
    path.write_bytes(raw)
    return path


def test_a_get_over_tls_brings_the_same_bytes(archive, tmp_path):
    """Two threads may not use one TLS connection: there the data go through pynetdicom's."""
    from access import AuditSpool
    from dimse import DimseConfig, DimseServer
    from dimse.association.admission import Admission, AdmissionConfig
    from dimse.association.ledger import Ledger
    from dimse.retrieve.scp import Getting, Moving, RetrieveConfig, service
    from dimse.wire.tls import ClientTls, ServerTls, TlsConfig, client_context
    from tests.dimse.certificates import Authority

    authority = Authority(tmp_path)
    ours = authority.issue("us", "127.0.0.1")
    study, uids = stored_study(
        archive, 3, Rows=512, Columns=512, PixelData=bytes(range(256)) * 2048
    )
    audit = AuditSpool(tmp_path / "audit", "dimse")
    retrieval = service(
        archive, lambda: [], Ledger(audit), RetrieveConfig(Moving(Calling()), Getting(10))
    )
    tls = ServerTls(TlsConfig(ours.certificate, ours.key, authority.bundle, "required"))
    config = DimseConfig(port=None, tls_port=0)
    admission = Admission(AdmissionConfig())
    server = DimseServer(config, archive, audit, admission, [retrieval], tls)
    server.start()
    try:
        _, port = server.tls_address
        client = ClientTls(ours.certificate, ours.key, authority.bundle)
        calling = Calling("ASKER", answer_s=20, tls=lambda peer: client_context(client))
        keeper = FolderKeeper(tmp_path / "got", Wanted(frozenset({study})))
        peer = Peer("us", "HILUM", "127.0.0.1", port, tls=True)

        final = list(get(peer, keys(study), (MR,), keeper, calling))[-1]
    finally:
        server.stop(timeout_s=2)
        audit.close()

    assert (final.status, final.completed) == (0, 3)
    for record in archive.study_instances(study):
        (path,) = (tmp_path / "got").rglob(f"{record.key.instance}.dcm")
        assert data_set(path) == data_set(record.path)
    assert len(uids) == 3
