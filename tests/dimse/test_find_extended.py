"""What goes beyond baseline queries is done when both sides have agreed on it, and not else."""

from __future__ import annotations

import pytest
from pynetdicom import AE
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation

from dimse.query.request import STUDY_ROOT
from tests.archive.phantom import slice_of
from tests.dimse.test_find import ask, finder, found, patient, store

__all__ = ["finder", "patient"]


def test_relational_and_fuzzy_matching_are_done_when_negotiated(finder, archive, patient):
    store(archive, slice_of(PatientID=patient, PatientName="Müller^Hans Peter"))
    keys = {"QueryRetrieveLevel": "SERIES", "PatientID": patient, "SeriesInstanceUID": ""}

    baseline = ask(finder, **keys)
    relational = ask(finder, extended=b"\1\0\1", PatientName="peter mull", **keys)

    assert baseline[-1][0].Status == 0xA900
    assert len(found(relational)) == 1


def test_extended_negotiation_promises_only_what_is_done(finder):
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid = STUDY_ROOT
    item.service_class_application_information = b"\1\1\1\1\1\1\1"
    ae = AE("ASKER")
    ae.add_requested_context(STUDY_ROOT)
    association = ae.associate("127.0.0.1", finder.port, ext_neg=[item])

    answer = association.acceptor.sop_class_extended[STUDY_ROOT]
    association.release()

    assert answer == b"\1\1\1\1\0\0\0"


@pytest.mark.parametrize(("extended", "finds"), [(b"\0\0", False), (b"\0\1", True), (None, False)])
def test_date_and_time_are_one_period_only_when_negotiated(
    finder, archive, patient, extended, finds
):
    """From the first at 22:00 to the second at 11:00: 10:15 of the second is inside."""
    store(archive, slice_of(PatientID=patient))

    answers = ask(
        finder,
        extended=extended,
        QueryRetrieveLevel="STUDY",
        PatientID=patient,
        StudyDate="20260101-20260102",
        StudyTime="2200-1100",
    )

    assert bool(answers[:-1]) is finds


def test_times_are_compared_across_zones_when_negotiated(finder, archive, patient):
    """10:15 at +0100 is 18:15 at +0900."""
    store(archive, slice_of(PatientID=patient, TimezoneOffsetFromUTC="+0100"))
    keys = {
        "QueryRetrieveLevel": "STUDY",
        "PatientID": patient,
        "StudyDate": "20260102-20260102",
        "StudyTime": "1800-1830",
        "TimezoneOffsetFromUTC": "+0900",
    }

    (answer,) = found(ask(finder, extended=b"\0\1\0\1", **keys))
    plain = found(ask(finder, **keys))

    assert (answer.StudyTime, answer.TimezoneOffsetFromUTC) == ("101500", "+0100")
    assert plain == []


def test_an_attribute_that_the_site_keeps_is_a_key_like_any_other(finder, archive, patient):
    archive.query_tags.add("InstitutionAddress", "series")
    try:
        store(archive, slice_of(PatientID=patient, InstitutionAddress="North"))
        while archive.query_tags.index_some():
            pass
        keys = {"QueryRetrieveLevel": "SERIES", "PatientID": patient, "SeriesInstanceUID": ""}

        answers = ask(finder, extended=b"\1", InstitutionAddress="Nor*", **keys)
        none = found(ask(finder, extended=b"\1", InstitutionAddress="South", **keys))
    finally:
        archive.query_tags.remove("InstitutionAddress")

    assert answers[0][0].Status == 0xFF00
    assert found(answers)[0].InstitutionAddress == "North"
    assert none == []
