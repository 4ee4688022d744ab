"""C-FIND: what matches is found, what is asked for comes back, and wrong questions are told so."""

from __future__ import annotations

import gc
import subprocess
import time
import tracemalloc

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE

from dimse import DimseConfig
from dimse.query.request import PATIENT_ROOT, PATIENT_STUDY_ONLY, STUDY_ROOT
from dimse.query.scp import QueryConfig, service
from tests.archive.phantom import bytes_of, slice_of
from tests.fixtures.peers import needs


def store(archive, *datasets):
    from archive import Source

    for dataset in datasets:
        with archive.receive() as incoming:
            incoming.write(bytes_of(dataset))
            archive.store(incoming, Source("local"))


@pytest.fixture
def finder(open_door):
    """A server that answers queries."""
    return open_door(services=lambda archive, ledger: [service(archive, ledger, QueryConfig())])


@pytest.fixture
def patient(archive):
    """A patient ID of the test's own."""
    return f"F{generate_uid()[-12:]}"


def ask(door, model=STUDY_ROOT, extended=None, charset=None, **keys):
    """All answers of a C-FIND: [(status, identifier)]."""
    from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation

    identifier = Dataset()
    for name, value in keys.items():
        setattr(identifier, name, value)
    if charset:
        identifier.SpecificCharacterSet = charset
    ae = AE("ASKER")
    ae.add_requested_context(model)
    items = []
    if extended is not None:
        item = SOPClassExtendedNegotiation()
        item.sop_class_uid, item.service_class_application_information = model, extended
        items.append(item)
    association = ae.associate("127.0.0.1", door.port, ext_neg=items)
    assert association.is_established
    try:
        return list(association.send_c_find(identifier, model))
    finally:
        association.release()


def found(answers):
    """The identifiers, after checking that the query ended with success."""
    assert answers[-1][0].Status == 0x0000
    return [identifier for status, identifier in answers[:-1]]


def test_every_key_asked_for_comes_back_and_computed_ones_are_computed(finder, archive, patient):
    study, series = generate_uid(), generate_uid()
    same = {"PatientID": patient, "StudyInstanceUID": study}
    store(
        archive,
        slice_of(**same, SeriesInstanceUID=series, PatientName="Doe^Jane"),
        slice_of(**same, SeriesInstanceUID=series, InstanceNumber=2),
        slice_of(**same, Modality="SR"),
    )

    answers = ask(
        finder,
        QueryRetrieveLevel="STUDY",
        PatientID=patient,
        PatientName="",
        StudyInstanceUID="",
        StudyDate="",
        AccessionNumber="",
        ModalitiesInStudy="",
        NumberOfStudyRelatedSeries="",
        NumberOfStudyRelatedInstances="",
    )

    (answer,) = found(answers)
    assert answers[0][0].Status == 0xFF00
    assert (answer.StudyInstanceUID, answer.PatientName) == (study, "Doe^Jane")
    assert sorted(answer.ModalitiesInStudy) == ["MR", "SR"]
    assert (answer.NumberOfStudyRelatedSeries, answer.NumberOfStudyRelatedInstances) == (2, 3)
    assert answer.AccessionNumber == ""
    assert (answer.QueryRetrieveLevel, answer.RetrieveAETitle) == ("STUDY", "HILUM")
    assert answer.InstanceAvailability == "ONLINE"


@pytest.fixture
def family(archive, patient):
    """A patient with two studies; the UIDs of one study, a series of it, an instance of that."""
    study, series, instance = generate_uid(), generate_uid(), generate_uid()
    same = {"PatientID": patient, "StudyInstanceUID": study, "SeriesInstanceUID": series}
    store(
        archive,
        slice_of(**same, SOPInstanceUID=instance, InstanceNumber=7),
        slice_of(**same, InstanceNumber=8),
        slice_of(PatientID=patient, StudyInstanceUID=study),
        slice_of(PatientID=patient),
    )
    return study, series, instance


def test_a_patient_is_one_answer_with_counts_of_all_that_is_its(finder, patient, family):
    (one,) = found(
        ask(
            finder,
            PATIENT_ROOT,
            QueryRetrieveLevel="PATIENT",
            PatientID=patient,
            NumberOfPatientRelatedStudies="",
            NumberOfPatientRelatedSeries="",
            NumberOfPatientRelatedInstances="",
        )
    )

    assert one.NumberOfPatientRelatedStudies == 2
    assert one.NumberOfPatientRelatedSeries == 3
    assert one.NumberOfPatientRelatedInstances == 4


def test_each_level_answers_with_its_own_rows(finder, patient, family):
    study, series, instance = family
    keys = {"PatientID": patient, "StudyInstanceUID": ""}

    studies = found(ask(finder, PATIENT_ROOT, QueryRetrieveLevel="STUDY", **keys))
    keys |= {"StudyInstanceUID": study, "SeriesInstanceUID": ""}
    keys["NumberOfSeriesRelatedInstances"] = ""
    series_found = found(ask(finder, PATIENT_ROOT, QueryRetrieveLevel="SERIES", **keys))
    del keys["NumberOfSeriesRelatedInstances"]
    keys |= {"SeriesInstanceUID": series, "SOPInstanceUID": "", "InstanceNumber": "7"}
    images = found(ask(finder, PATIENT_ROOT, QueryRetrieveLevel="IMAGE", **keys))

    assert len(studies) == 2
    assert {one.NumberOfSeriesRelatedInstances for one in series_found} == {1, 2}
    assert [image.SOPInstanceUID for image in images] == [instance]


@pytest.mark.parametrize(
    ("model", "keys", "offending"),
    [
        (STUDY_ROOT, {"PatientID": "1"}, 0x00080052),
        (STUDY_ROOT, {"QueryRetrieveLevel": "PATIENT"}, 0x00080052),
        (STUDY_ROOT, {"QueryRetrieveLevel": "study"}, 0x00080052),
        (PATIENT_STUDY_ONLY, {"QueryRetrieveLevel": "SERIES"}, 0x00080052),
        (PATIENT_ROOT, {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": ""}, 0x00100020),
        (STUDY_ROOT, {"QueryRetrieveLevel": "SERIES", "SeriesInstanceUID": ""}, 0x0020000D),
        (STUDY_ROOT, {"QueryRetrieveLevel": "IMAGE", "StudyInstanceUID": "1.2"}, 0x0020000E),
    ],
)
def test_an_identifier_that_does_not_fit_is_refused_with_the_element(
    finder, model, keys, offending
):
    ((status, identifier),) = ask(finder, model, **keys)

    assert (status.Status, identifier) == (0xA900, None)
    assert status.OffendingElement == offending
    assert status.ErrorComment


@pytest.mark.parametrize("value", ["2026-13-01", "-", "20261301", "20260201-20260101", "x"])
def test_a_date_that_is_none_is_refused_not_a_failure_of_ours(finder, value):
    answers = ask(finder, QueryRetrieveLevel="STUDY", StudyDate=value)

    assert answers[-1][0].Status == 0xA900


@pytest.mark.parametrize(
    ("keys", "matches"),
    [
        ({"StudyDate": "20260102"}, True),
        ({"StudyDate": "2026.01.02"}, True),
        ({"StudyDate": "20260101-20260131"}, True),
        ({"StudyDate": "-20260101"}, False),
        ({"StudyDate": "20260102-", "StudyTime": "1015-1016"}, True),
        ({"StudyTime": "101500.5-"}, False),
        ({"PatientName": "DOE^*"}, True),
        ({"PatientName": "doe^jane"}, True),
        ({"PatientName": "?oe^Jan?"}, True),
        ({"PatientName": "Jane"}, False),
        ({"ModalitiesInStudy": "MR"}, True),
        ({"ModalitiesInStudy": "CT"}, False),
        ({"AccessionNumber": "A-1"}, True),
        ({"StudyDescription": "head*"}, False),
        ({"StudyDescription": "Head*"}, True),
        ({"ReferringPhysicianName": "house*"}, True),
    ],
)
def test_matching_is_that_of_the_standard(finder, archive, patient, keys, matches):
    store(
        archive,
        slice_of(PatientID=patient, AccessionNumber="A-1", StudyDescription="Head and neck",
                 ReferringPhysicianName="House^Gregory"),
    )  # fmt: skip

    answers = found(
        ask(
            finder,
            QueryRetrieveLevel="STUDY",
            **{"PatientID": patient, **keys},
            StudyInstanceUID="",
        )
    )

    assert bool(answers) is matches


def test_a_list_of_uids_finds_each_of_them(finder, archive):
    uids = [generate_uid() for _ in range(3)]
    store(archive, *(slice_of(StudyInstanceUID=uid) for uid in uids))

    answers = found(
        ask(finder, QueryRetrieveLevel="STUDY", StudyInstanceUID=[uids[0], uids[2], "1.2.3.999"])
    )

    assert {answer.StudyInstanceUID for answer in answers} == {uids[0], uids[2]}


def test_a_key_that_is_not_kept_comes_back_empty_with_the_warning_that_says_so(
    finder, archive, patient
):
    store(archive, slice_of(PatientID=patient))

    answers = ask(
        finder, QueryRetrieveLevel="STUDY", PatientID=patient, InstitutionAddress="anywhere"
    )

    assert answers[0][0].Status == 0xFF01
    assert answers[0][1].InstitutionAddress == ""
    assert answers[-1][0].Status == 0x0000


def test_no_match_is_success_without_an_identifier(finder):
    assert found(ask(finder, QueryRetrieveLevel="STUDY", PatientID="nobody-has-this")) == []


def test_sequence_keys_match_in_one_item_and_come_back(finder, archive, patient):
    def request(number, description):
        item = Dataset()
        item.ScheduledProcedureStepID, item.RequestedProcedureDescription = number, description
        return item

    study, series = generate_uid(), generate_uid()
    store(
        archive,
        slice_of(PatientID=patient, StudyInstanceUID=study, SeriesInstanceUID=series,
                 RequestAttributesSequence=[request("S1", "a"), request("S2", "b")]),
    )  # fmt: skip
    key = Dataset()
    key.ScheduledProcedureStepID = "S2"

    (answer,) = found(
        ask(
            finder,
            QueryRetrieveLevel="SERIES",
            StudyInstanceUID=study,
            SeriesInstanceUID="",
            RequestAttributesSequence=[key],
        )
    )
    key.ScheduledProcedureStepID = "S3"
    none = found(
        ask(
            finder,
            QueryRetrieveLevel="SERIES",
            StudyInstanceUID=study,
            SeriesInstanceUID="",
            RequestAttributesSequence=[key],
        )
    )

    items = answer.RequestAttributesSequence
    assert [item.ScheduledProcedureStepID for item in items] == ["S1", "S2"]
    assert "RequestedProcedureDescription" not in items[0]
    assert none == []


def test_a_peer_without_the_right_cannot_query(open_door):
    from dimse.association.admission import Admission, AdmissionConfig

    admission = Admission(AdmissionConfig(unknown_callers=frozenset({"store"})))
    door = open_door(
        admission, services=lambda archive, ledger: [service(archive, ledger, QueryConfig())]
    )
    ae = AE("ASKER")
    ae.add_requested_context(STUDY_ROOT)
    ae.add_requested_context("1.2.840.10008.1.1")

    association = ae.associate("127.0.0.1", door.port)

    assert [c.abstract_syntax for c in association.accepted_contexts] == ["1.2.840.10008.1.1"]
    association.release()


def test_a_limit_on_matches_ends_with_a_refusal_never_with_success(open_door, archive, patient):
    store(archive, *(slice_of(PatientID=patient) for _ in range(4)))
    door = open_door(
        services=lambda archive, ledger: [service(archive, ledger, QueryConfig(limit=3))]
    )

    answers = ask(door, QueryRetrieveLevel="STUDY", PatientID=patient, StudyInstanceUID="")

    assert [status.Status for status, _ in answers] == [0xFF00] * 3 + [0xA700]
    assert "more than 3 matches" in answers[-1][0].ErrorComment


def test_a_query_is_audited_by_its_keys_not_by_their_values(finder, archive, patient):
    ask(finder, QueryRetrieveLevel="STUDY", PatientID=patient, PatientName="Secret^Name")

    lines = finder.audit()
    assert "C-FIND STUDY: 00100010 00100020" in lines
    assert patient not in lines
    assert "Secret" not in lines


@needs("findscu")
def test_dcmtk_finds_and_reads_the_answer(finder, archive, patient, tmp_path):
    study = generate_uid()
    store(archive, slice_of(PatientID=patient, StudyInstanceUID=study, PatientName="Äpfel^Uwe"))

    done = subprocess.run(
        ["findscu", "-S", "-aec", "HILUM", "127.0.0.1", str(finder.port), "-X", "-od", tmp_path,
         "-k", "QueryRetrieveLevel=STUDY", "-k", f"PatientID={patient}", "-k", "PatientName",
         "-k", "StudyInstanceUID", "-k", "SpecificCharacterSet=ISO_IR 100"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    from pydicom import dcmread

    (answer,) = [dcmread(path, force=True) for path in tmp_path.glob("rsp*.dcm")]
    assert answer.StudyInstanceUID == study
    assert answer.SpecificCharacterSet == "ISO_IR 100"
    assert str(answer.PatientName) == "Äpfel^Uwe"


def test_an_ended_association_keeps_no_buffer(finder, patient):
    ask(finder, QueryRetrieveLevel="STUDY", PatientID=patient)  # what is made once is made
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(5):
            ask(finder, QueryRetrieveLevel="STUDY", PatientID=patient)
        while finder.server.associations:
            time.sleep(0.01)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()

    assert kept < DimseConfig().maximum_pdu
