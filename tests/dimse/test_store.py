"""C-STORE over real associations: what is kept, what is refused and with which status."""

from __future__ import annotations

import os
import subprocess
import time

import pytest
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    MRImageStorage,
    generate_uid,
)
from pynetdicom import AE, build_context
from pynetdicom._globals import ALL_TRANSFER_SYNTAXES

from archive import ArchiveError, InstanceKey
from dimse import send
from dimse.wire.contexts import VERIFICATION, is_accepted, storage_classes
from dimse.wire.status import STATUS_OF
from tests.archive.phantom import bytes_of, slice_of

LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
PRIVATE = "1.3.12.2.1107.5.9.1"


@pytest.fixture
def associate(door):
    """Open an association with contexts of one transfer syntax each."""
    opened = []

    def open_association(*contexts, port=None):
        ae = AE("MODALITY")
        requested = [build_context(abstract, syntaxes) for abstract, *syntaxes in contexts]
        association = ae.associate("127.0.0.1", port or door.port, contexts=requested)
        opened.append(association)
        return association

    yield open_association
    for association in opened:
        if association.is_established:
            association.release()


def key_of(dataset):
    return InstanceKey(dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID)


def prepared(dataset, syntax=ExplicitVRLittleEndian):
    bytes_of(dataset, syntax)
    return dataset


def test_an_instance_is_kept_and_a_second_copy_is_a_success(door, associate):
    association = associate((MRImageStorage, ExplicitVRLittleEndian))
    dataset = prepared(slice_of())

    first, again = association.send_c_store(dataset), association.send_c_store(dataset)

    assert (first.Status, again.Status) == (0x0000, 0x0000)
    with door.archive.read(key_of(dataset)) as file:
        content = file.read()
    assert content[128:132] == b"DICM"
    assert content.endswith(dataset.PixelData)
    assert b"MODALITY" in content[:500]


def test_a_reused_uid_with_other_pixels_is_refused_and_the_first_copy_stays(door, associate):
    association = associate((MRImageStorage, ExplicitVRLittleEndian))
    dataset = prepared(slice_of())
    association.send_c_store(dataset)

    dataset.PixelData = bytes(128)
    other = association.send_c_store(dataset)

    assert other.Status == 0x0111
    assert "different content" in other.ErrorComment
    assert door.archive.frame(key_of(dataset), 1) == bytes(range(128))


def test_a_peer_that_announces_another_uid_than_it_sends_is_refused(associate, monkeypatch):
    association = associate((MRImageStorage, ExplicitVRLittleEndian))
    dataset = prepared(slice_of())
    real = association.dimse.send_msg

    def lying(message, context_id):
        message.AffectedSOPInstanceUID = generate_uid()
        real(message, context_id)

    monkeypatch.setattr(association.dimse, "send_msg", lying)
    answer = association.send_c_store(dataset)

    assert answer.Status == 0xA900
    assert answer.ErrorComment == "SOP UIDs of command and data set differ"


@pytest.mark.parametrize(
    ("change", "status"),
    [({"StudyInstanceUID": None}, 0xA900), ({"SeriesInstanceUID": "1.2/../3"}, 0x0117)],
)
def test_an_instance_without_a_proper_place_is_refused(associate, change, status):
    association = associate((MRImageStorage, ExplicitVRLittleEndian))

    answer = association.send_c_store(prepared(slice_of(**change)))

    assert answer.Status == status


def test_the_first_proposed_transfer_syntax_is_taken_whatever_it_is(associate):
    for syntax in [*ALL_TRANSFER_SYNTAXES, "1.2.3.4.5"]:
        association = associate((MRImageStorage, syntax, ImplicitVRLittleEndian))

        (context,) = association.accepted_contexts
        association.release()

        assert context.transfer_syntax == [syntax]


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian]
)
def test_a_data_set_is_kept_in_the_encoding_it_came_in(door, associate, syntax):
    dataset = slice_of()
    sent = bytes_of(dataset, syntax)
    association = associate((MRImageStorage, syntax))

    assert association.send_c_store(dataset).Status == 0

    with door.archive.read(key_of(dataset)) as file:
        kept = file.read()
    start = 144 + int.from_bytes(sent[140:144], "little")
    assert kept.endswith(sent[start:])
    assert door.archive.instance(key_of(dataset)).transfer_syntax == syntax


def test_label_maps_and_every_standard_storage_class_are_accepted():
    assert LABEL_MAP in storage_classes()
    assert {CTImageStorage, "1.2.840.10008.5.1.4.1.1.6"} <= storage_classes()
    assert "1.2.840.10008.1.20.1" not in storage_classes()


def test_a_private_class_is_accepted_only_by_configuration(open_door, associate):
    closed, named, anything = (
        open_door(),
        open_door(extra_sop_classes=(PRIVATE,)),
        open_door(extra_sop_classes=("*",)),
    )

    answers = []
    for door in (closed, named, anything):
        association = associate((PRIVATE, ExplicitVRLittleEndian), port=door.port)
        if not association.accepted_contexts:
            answers.append(None)
            continue
        dataset = prepared(slice_of(SOPClassUID=PRIVATE))
        answers.append(association.send_c_store(dataset).Status)

    assert answers == [None, 0x0000, 0x0000]


def test_any_class_does_not_mean_services_that_are_not_storage():
    assert not is_accepted("1.2.840.10008.5.1.4.1.2.2.1", ("*",))
    assert not is_accepted("not a uid", ("*",))
    assert is_accepted(VERIFICATION, ())


def test_every_archive_error_has_its_own_dimse_status():
    assert set(STATUS_OF) == set(ArchiveError.__subclasses__())
    assert all(failure.status and len(failure.comment) <= 64 for failure in STATUS_OF.values())


@pytest.mark.parametrize(
    ("option", "syntax"),
    [
        ("-xe", "1.2.840.10008.1.2.1"),
        ("-xb", "1.2.840.10008.1.2.2"),
        ("-xi", "1.2.840.10008.1.2"),
        ("-xd", "1.2.840.10008.1.2.1.99"),
    ],
)
def test_storescu_delivers_in_each_transfer_syntax_it_can_propose(door, tmp_path, option, syntax):
    dataset = slice_of()
    path = tmp_path / "slice.dcm"
    # storescu sends a file as it is where it can; from little endian it makes the others.
    own = syntax if option == "-xb" else ExplicitVRLittleEndian
    path.write_bytes(bytes_of(dataset, own))

    storescu(door.port, option, path)

    assert door.archive.instance(key_of(dataset)).transfer_syntax == syntax
    little = bytes(range(128))
    swapped = b"".join(little[n + 1 : n + 2] + little[n : n + 1] for n in range(0, 128, 2))
    assert door.archive.frame(key_of(dataset), 1) == (swapped if option == "-xb" else little)


@pytest.mark.parametrize(
    ("option", "syntax"),
    [
        ("-xs", "1.2.840.10008.1.2.4.70"),
        ("-xy", "1.2.840.10008.1.2.4.50"),
        ("-xx", "1.2.840.10008.1.2.4.51"),
        ("-xv", "1.2.840.10008.1.2.4.90"),
        ("-xw", "1.2.840.10008.1.2.4.91"),
        ("-xt", "1.2.840.10008.1.2.4.80"),
        ("-xu", "1.2.840.10008.1.2.4.81"),
        ("-xr", "1.2.840.10008.1.2.5"),
        ("-xm", "1.2.840.10008.1.2.4.100"),
        ("-xn", "1.2.840.10008.1.2.4.102"),
        ("-x5", "1.2.840.10008.1.2.4.108"),
    ],
)
def test_storescu_delivers_compressed_files_unchanged(door, tmp_path, option, syntax):
    frame = b"\xff\xd8 not decoded by anybody here \xff\xd9"
    from pydicom.encaps import encapsulate

    dataset = slice_of(PixelData=encapsulate([frame]))
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    path = tmp_path / "slice.dcm"
    path.write_bytes(bytes_of(dataset, syntax))

    storescu(door.port, option, path)

    record = door.archive.instance(key_of(dataset))
    assert record.transfer_syntax == syntax
    assert door.archive.frame(key_of(dataset), 1).rstrip(b"\0") == frame


def storescu(port, *arguments):
    done = subprocess.run(
        ["storescu", "-R", "127.0.0.1", str(port), *map(str, arguments)],
        env={**os.environ, "TCP_NODELAY": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_one_audit_record_tells_of_a_whole_association(door, tmp_path):
    study = generate_uid()
    paths = []
    for number in range(5):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(bytes_of(slice_of(StudyInstanceUID=study)))
        paths.append(path)

    send(door.peer, paths, calling_ae="CT7")

    deadline = time.monotonic() + 5
    while study not in door.audit() and time.monotonic() < deadline:
        time.sleep(0.05)
    lines = [line for line in door.audit().splitlines() if study in line]
    assert len(lines) == 1
    assert "CT7" in lines[0]
    assert "stored: 5" in lines[0]
    assert "Doe" not in door.audit()


def test_an_open_association_is_audited_within_seconds(door, associate):
    association = associate((MRImageStorage, ExplicitVRLittleEndian))
    dataset = prepared(slice_of())
    association.send_c_store(dataset)

    deadline = time.monotonic() + 5
    while dataset.StudyInstanceUID not in door.audit() and time.monotonic() < deadline:
        time.sleep(0.05)

    assert association.is_established
    assert dataset.StudyInstanceUID in door.audit()


def test_an_encapsulated_syntax_that_nobody_can_decode_is_kept(door, associate):
    dataset = slice_of(PixelData=b"\xfe\xff\x00\xe0" + bytes(4))
    association = associate((MRImageStorage, JPEG2000Lossless))

    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True

    assert association.send_c_store(prepared(dataset, JPEG2000Lossless)).Status == 0
