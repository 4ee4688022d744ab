"""C-STORE and C-ECHO as a peer sees them: the same from our own loop as beside other services."""

from __future__ import annotations

import struct
import time
import zlib
from io import BytesIO

import pytest
from pydicom import dcmwrite
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)
from pynetdicom import evt
from pynetdicom.pdu_primitives import (
    SCP_SCU_RoleSelectionNegotiation,
    UserIdentityNegotiation,
)

from archive import InstanceKey
from dimse.association.services import Service
from tests.archive.phantom import bytes_of, slice_of
from tests.dimse.wire import (
    ECHO_ID,
    FIND,
    FIND_ID,
    MR_ID,
    VERIFICATION,
    Wire,
    command,
    contexts_of,
    echo_request,
    elements,
    p_data,
    pdv,
)

FIND_SERVICE = Service(
    "query",
    "query",
    {FIND: (ExplicitVRLittleEndian, ImplicitVRLittleEndian)},
    ((evt.EVT_C_FIND, lambda event: iter([(0x0000, None)])),),
)


@pytest.fixture(scope="module")
def served(archive, tmp_path_factory):
    """A server that also answers a query service, shared by the tests of this module."""
    from access import AuditSpool
    from dimse import DimseConfig, DimseServer
    from dimse.association.admission import Admission, AdmissionConfig
    from tests.dimse.conftest import Door

    folder = tmp_path_factory.mktemp("audit")
    audit = AuditSpool(folder, "dimse")
    server = DimseServer(
        DimseConfig(port=0), archive, audit, Admission(AdmissionConfig()), [FIND_SERVICE]
    )
    server.start()
    yield Door(server, archive, folder)
    server.stop(timeout_s=2)
    audit.close()


@pytest.fixture(params=["own", "shared"])
def path(request):
    """Served by our own loop, or handed to pynetdicom because of a query context."""
    return request.param


@pytest.fixture
def wire(served, path):
    """A peer with an association."""
    with Wire(served.port) as wire:
        wire.associate(contexts_of(path))
        yield wire


def data_set(dataset):
    """A data set as it goes over the wire."""
    bytes_of(dataset)
    buffer = BytesIO()
    dcmwrite(buffer, dataset, implicit_vr=False, little_endian=True, enforce_file_format=False)
    whole = buffer.getvalue()
    return whole[whole.index(b"\x08\x00\x05\x00") :]


def soon(condition, within=5):
    """Whether a condition comes true in time."""
    deadline = time.monotonic() + within
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def key_of(dataset):
    return InstanceKey(dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID)


def test_an_instance_is_stored_as_it_came_and_the_answer_names_it(served, wire):
    dataset = slice_of()
    sent = data_set(dataset)

    answer = wire.store(sent, dataset.SOPInstanceUID, message=7)

    assert (answer.status, answer.field, answer.answers) == (0, 0x8001, 7)
    assert answer.values[0x0002].rstrip(b"\0").decode() == MRImageStorage
    assert answer.values[0x1000].rstrip(b"\0").decode() == dataset.SOPInstanceUID
    assert answer.values[0x0800] == b"\x01\x01"
    assert answer.context == MR_ID
    with served.archive.read(key_of(dataset)) as file:
        assert file.read().endswith(sent)
    assert wire.release()


def test_an_echo_is_answered_between_instances(wire):
    dataset = slice_of()

    wire.send(echo_request(message=5))
    first = wire.answer()
    stored = wire.store(data_set(dataset), dataset.SOPInstanceUID)
    wire.send(echo_request(message=6))
    second = wire.answer()

    assert (first.status, first.field, first.answers) == (0, 0x8030, 5)
    assert (second.status, second.field, second.answers) == (0, 0x8030, 6)
    assert stored.status == 0


def test_fragments_of_one_byte_and_a_command_in_two_pieces_are_put_together(served, wire):
    dataset = slice_of()
    sent = data_set(dataset)
    asked = command(1, MRImageStorage, dataset.SOPInstanceUID)

    wire.send(p_data(pdv(MR_ID, 1, asked[:31])) + p_data(pdv(MR_ID, 3, asked[31:])))
    for place in range(len(sent)):
        last = place == len(sent) - 1
        wire.send(p_data(pdv(MR_ID, 2 if last else 0, sent[place : place + 1])))

    assert wire.answer().status == 0
    with served.archive.read(key_of(dataset)) as file:
        assert file.read().endswith(sent)


def test_several_fragments_in_one_pdu_are_taken_apart(served, wire):
    dataset = slice_of()
    sent = data_set(dataset)
    asked = command(1, MRImageStorage, dataset.SOPInstanceUID)

    wire.send(
        p_data(
            pdv(MR_ID, 1, asked[:20]),
            pdv(MR_ID, 3, asked[20:]),
            pdv(MR_ID, 0, sent[:100]),
            pdv(MR_ID, 0, b""),
            pdv(MR_ID, 2, sent[100:]),
        )
    )

    assert wire.answer().status == 0
    with served.archive.read(key_of(dataset)) as file:
        assert file.read().endswith(sent)


def test_messages_sent_without_waiting_are_answered_in_order(wire):
    datasets = [slice_of() for _ in range(3)]

    wire.send(
        b"".join(
            p_data(
                pdv(MR_ID, 3, command(1, MRImageStorage, one.SOPInstanceUID, message=number)),
                pdv(MR_ID, 2, data_set(one)),
            )
            for number, one in enumerate(datasets, start=1)
        )
    )
    answers = [wire.answer() for _ in datasets]

    assert [(one.status, one.answers) for one in answers] == [(0, 1), (0, 2), (0, 3)]


@pytest.mark.parametrize("maximum", [0, 64, 4096])
def test_answers_are_no_longer_than_the_peer_takes(served, path, maximum):
    dataset = slice_of()

    with Wire(served.port) as wire:
        wire.associate(contexts_of(path), maximum=maximum)
        answer = wire.store(data_set(dataset), dataset.SOPInstanceUID)

    assert answer.status == 0
    assert all(size <= maximum or maximum == 0 for size in wire.sizes)


def test_a_deflated_data_set_is_kept_as_it_is(served, path):
    dataset = slice_of()
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    sent = packer.compress(data_set(dataset)) + packer.flush()
    contexts = contexts_of(path)
    contexts[1] = (MR_ID, MRImageStorage, [DeflatedExplicitVRLittleEndian])

    with Wire(served.port) as wire:
        wire.associate(contexts)
        answer = wire.store(sent + b"\0" * (len(sent) % 2), dataset.SOPInstanceUID)

    assert answer.status == 0
    record = served.archive.instance(key_of(dataset))
    assert record.transfer_syntax == DeflatedExplicitVRLittleEndian
    with served.archive.read(key_of(dataset)) as file:
        assert sent in file.read()


def test_refusals_have_the_same_status_and_comment_on_both_paths(served):
    seen = {}
    for path in ("own", "shared"):
        first, other_patient = slice_of(), slice_of(PatientID="P2")
        other_patient.StudyInstanceUID = first.StudyInstanceUID
        moved, changed = slice_of(), slice_of()
        moved.SOPInstanceUID = changed.SOPInstanceUID = first.SOPInstanceUID
        changed.StudyInstanceUID = first.StudyInstanceUID
        changed.SeriesInstanceUID = first.SeriesInstanceUID
        changed.PixelData = bytes(128)
        anonymous = slice_of(PatientID=None)
        no_study = slice_of(StudyInstanceUID=None)
        with Wire(served.port) as wire:
            wire.associate(contexts_of(path))
            answers = [
                wire.store(data_set(one), one.SOPInstanceUID)
                for one in (first, first, moved, changed, other_patient, anonymous, no_study)
            ]
            answers.append(wire.store(data_set(slice_of()), generate_uid()))
            answers.append(wire.store(b"no data set at all", generate_uid()))
            answers.append(wire.store(data_set(slice_of()), "1.2/../../3"))
            answers.append(wire.store(data_set(slice_of()), "1." + "2" * 63))
            answers.append(wire.store(data_set(slice_of()), ""))
            answers.append(wire.store(data_set(slice_of()), generate_uid(), VERIFICATION))
        seen[path] = [(f"{one.status:04X}", one.comment) for one in answers]

    assert seen["own"] == seen["shared"]
    statuses = [status for status, _ in seen["own"]]
    assert statuses[:2] == ["0000", "0000"]
    assert statuses[2:4] == ["0111", "0111"]
    assert statuses[4:6] == ["0000", "0000"]
    assert statuses[6:] == ["A900", "A900", "C000", "0117", "0117", "0117", "0122"]
    assert all(comment for status, comment in seen["own"] if status != "0000")
    assert all(len(comment) <= 64 for _, comment in seen["own"])


def test_what_was_agreed_on_is_the_same_on_both_paths(served):
    """Same results, items and limits, but for the context that makes the difference."""
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid, role.scu_role, role.scp_role = MRImageStorage, True, True
    answers = {}
    for path in ("own", "shared"):
        contexts = [
            *contexts_of(path),
            (11, "1.2.840.10008.5.1.1.9", [ImplicitVRLittleEndian]),
            (13, "1.2.3.4.5.6", [ImplicitVRLittleEndian]),
        ]
        with Wire(served.port) as wire:
            accept = wire.associate(contexts, items=[role])
        primitive = accept.to_primitive()
        results = {
            one.context_id: (one.result, str(one.transfer_syntax[0]))
            for one in primitive.presentation_context_definition_results_list
            if one.context_id != FIND_ID
        }
        items = [
            (type(item).__name__, {k: str(v) for k, v in vars(item).items()})
            for item in primitive.user_information
        ]
        answers[path] = (results, items, accept.calling_ae_title, accept.called_ae_title)

    assert answers["own"] == answers["shared"]
    results, items, *_ = answers["own"]
    assert {number: result for number, (result, _) in results.items()} == {
        ECHO_ID: 0,
        MR_ID: 0,
        11: 3,
        13: 3,
    }
    assert "HILUM" in str(items)
    roles = [values for name, values in items if "Role" in name]
    assert roles == [
        {"_sop_class_uid": str(MRImageStorage), "_scu_role": "True", "_scp_role": "False"}
    ]


def test_an_unknown_operation_is_answered_and_the_association_goes_on(wire):
    dataset = slice_of()

    wire.send(p_data(pdv(MR_ID, 3, command(0x0666, MRImageStorage, data_set=False))))
    unknown = wire.answer()
    wire.send(
        p_data(
            pdv(ECHO_ID, 3, command(0x0020, VERIFICATION, message=2)), pdv(ECHO_ID, 2, b"abcdefgh")
        )
    )
    misplaced = wire.answer()
    stored = wire.store(data_set(dataset), dataset.SOPInstanceUID)

    assert (unknown.status, unknown.field) == (0x0211, 0x8666)
    assert (misplaced.status, misplaced.answers) == (0x0211, 2)
    assert stored.status == 0


def test_a_command_that_lies_about_its_data_set_is_answered(wire):
    dataset = slice_of()

    wire.send(
        p_data(pdv(MR_ID, 3, command(1, MRImageStorage, dataset.SOPInstanceUID, data_set=False)))
    )
    without = wire.answer()
    wire.send(p_data(pdv(ECHO_ID, 3, command(0x30, VERIFICATION, message=2))))
    wire.send(p_data(pdv(ECHO_ID, 2, b"unwanted")))
    echo = wire.answer()

    assert without.status == 0xC000
    assert "data set" in without.comment
    assert (echo.status, echo.answers) == (0, 2)


def test_message_ids_may_be_used_again_and_a_storm_of_cancels_is_ignored(wire):
    dataset = slice_of()
    cancel = elements((0x0100, b"\xff\x0f"), (0x0120, struct.pack("<H", 1)), (0x0800, b"\x01\x01"))

    first = wire.store(data_set(dataset), dataset.SOPInstanceUID, message=1)
    wire.send(p_data(pdv(MR_ID, 3, cancel)) * 2000)
    again = wire.store(data_set(dataset), dataset.SOPInstanceUID, message=1)

    assert (first.status, again.status) == (0, 0)
    assert wire.release()


def test_stores_of_both_paths_are_in_the_audit_alike(served, path):
    dataset = slice_of()
    title = f"AUDIT{path.upper()}"

    with Wire(served.port) as wire:
        wire.associate(contexts_of(path), title=title)
        wire.store(data_set(dataset), dataset.SOPInstanceUID)
        assert wire.release()

    assert soon(lambda: dataset.StudyInstanceUID in served.audit())
    lines = [line for line in served.audit().splitlines() if dataset.StudyInstanceUID in line]
    assert len(lines) == 1
    assert title in lines[0]
    assert "stored: 1" in lines[0]


def test_a_username_with_response_requested_is_confirmed_or_ignored_but_never_in_the_way(
    served, path
):
    identity = UserIdentityNegotiation()
    identity.user_identity_type, identity.primary_field = 1, b"somebody"
    identity.positive_response_requested = False

    with Wire(served.port) as wire:
        wire.associate(contexts_of(path), items=[identity])
        wire.send(echo_request())

        assert wire.answer().status == 0
