"""STOW-RS, DELETE and storage commitment under a patient's token."""

from __future__ import annotations

import pytest
from pydicom.uid import generate_uid

from tests.dicomweb.server import slice_of
from tests.imaging_access.people import until

pytestmark = [pytest.mark.slow, pytest.mark.stack]

NOT_AUTHORIZED = 0x0124


def reasons(answer) -> list[int]:
    return [one["00081197"]["Value"][0] for one in answer.json()["00081198"]["Value"]]


def test_with_c_an_app_brings_a_new_study_of_its_own_patient(imaging, ann):
    study, series = str(generate_uid()), str(generate_uid())
    slices = [slice_of(study, series, PatientID=ann.patient_id) for _ in range(4)]
    with imaging.app_of(ann, "patient/ImagingStudy.crs") as app:
        together = imaging.store(*slices[:3], client=app)
        later = imaging.store(slices[3], client=app)
        assert (together.status_code, later.status_code) == (200, 200)
        published = imaging.published(study)
        assert published["subject"]["reference"] == f"Patient/{ann.id}"

        def refused():
            more = slice_of(study, series, PatientID=ann.patient_id)
            answer = imaging.store(more, client=app)
            return answer.status_code == 403 and answer

        # Seen in FHIR a moment before it is known to be published.
        once_published = until(refused)

    assert reasons(once_published) == [NOT_AUTHORIZED]


def test_with_u_an_app_adds_to_its_patients_study_and_begins_none(imaging, ann):
    more = slice_of(ann.study, PatientID=ann.patient_id)
    new = slice_of(PatientID=ann.patient_id)
    with imaging.app_of(ann, "patient/ImagingStudy.rus") as app:
        added = imaging.store(more, client=app)
        begun = imaging.store(new, client=app)
        url = f"/dicomweb/studies/{ann.study}"
        assert added.status_code == 200
        assert begun.status_code == 403
        assert until(lambda: app.get(f"{url}/series/{more.SeriesInstanceUID}").status_code == 200)


@pytest.mark.parametrize("scope", ["patient/ImagingStudy.cu", "patient/*.cruds"])
def test_nothing_of_another_patient_gets_in_and_nothing_gets_into_anothers_study(
    imaging, ann, ben, scope
):
    with imaging.app_of(ann, scope) as app:
        for one in (
            slice_of(PatientID=ben.patient_id),  # a new study of somebody else
            slice_of(ben.study, PatientID=ann.patient_id),  # mine, in somebody else's study
            slice_of(ben.study, PatientID=ben.patient_id),
            slice_of(ann.study, PatientID=ben.patient_id),  # somebody else's, in my study
            slice_of(PatientID="IA-NOBODY-KNOWS"),
            slice_of(PatientID=""),
            slice_of(PatientID=ann.patient_id, IssuerOfPatientID="ANOTHER-HOSPITAL"),
        ):
            for path in ("/dicomweb/studies", f"/dicomweb/studies/{one.StudyInstanceUID}"):
                answer = imaging.store(one, client=app, path=path)
                assert answer.status_code == 403, (path, one.PatientID)
                assert reasons(answer) == [NOT_AUTHORIZED]
            there = imaging.operator.get(
                "/dicomweb/instances", params={"SOPInstanceUID": str(one.SOPInstanceUID)}
            )
            assert there.status_code == 204


def test_an_instance_uid_that_is_used_elsewhere_is_refused_without_saying_where(imaging, ann, ben):
    taken = ben.slices[0]
    stolen = slice_of(
        PatientID=ann.patient_id, SOPInstanceUID=taken.SOPInstanceUID, SOPClassUID=taken.SOPClassUID
    )
    with imaging.app_of(ann, "patient/ImagingStudy.cu") as app:
        answer = imaging.store(stolen, client=app)

    assert answer.status_code == 403
    assert reasons(answer) == [NOT_AUTHORIZED]
    assert ben.study not in answer.text
    assert taken.SeriesInstanceUID not in answer.text


def test_part_of_a_request_may_be_stored_and_the_rest_refused(imaging, ann, ben):
    mine, other = slice_of(PatientID=ann.patient_id), slice_of(PatientID=ben.patient_id)
    with imaging.app_of(ann, "patient/ImagingStudy.c") as app:
        answer = imaging.store(mine, other, client=app)

    assert answer.status_code == 202
    assert reasons(answer) == [NOT_AUTHORIZED]
    assert len(answer.json()["00081199"]["Value"]) == 1


def test_reading_is_not_writing(imaging, ann):
    with imaging.app_of(ann) as app:
        assert imaging.store(slice_of(PatientID=ann.patient_id), client=app).status_code == 403
        assert app.delete(f"/dicomweb/studies/{ann.study}").status_code == 403


def test_a_deletion_reaches_the_patients_own_study_only(imaging, ann, ben):
    mine = imaging.person_with(ann.patient_id)
    with imaging.app_of(ann, "patient/ImagingStudy.rds") as app:
        for url in (f"/dicomweb/studies/{ben.study}", f"/dicomweb/studies/{generate_uid()}"):
            assert app.delete(url).status_code == 403
        assert app.delete(f"/dicomweb/studies/{mine.study}").status_code == 204
    assert imaging.operator.get(f"/dicomweb/studies/{ben.study}/metadata").status_code == 200


def test_commitment_to_what_is_not_the_patients_is_as_if_it_were_not_there(imaging, ann, ben):
    def item(one):
        return {
            "00081150": {"vr": "UI", "Value": [str(one.SOPClassUID)]},
            "00081155": {"vr": "UI", "Value": [str(one.SOPInstanceUID)]},
        }

    absent = slice_of()
    with imaging.app_of(ann, "patient/ImagingStudy.crs") as app:
        answer = app.post(
            f"/dicomweb/commitment-requests/{generate_uid()}",
            json={
                "00081199": {
                    "vr": "SQ",
                    "Value": [item(one) for one in (ann.slices[0], ben.slices[0], absent)],
                }
            },
            headers={"Content-Type": "application/dicom+json"},
        ).json()

    committed = [one["00081155"]["Value"][0] for one in answer["00081199"]["Value"]]
    failed = {
        one["00081155"]["Value"][0]: one["00081197"]["Value"][0]
        for one in answer["00081198"]["Value"]
    }
    assert committed == [ann.slices[0].SOPInstanceUID]
    assert failed == {ben.slices[0].SOPInstanceUID: 0x0112, absent.SOPInstanceUID: 0x0112}
