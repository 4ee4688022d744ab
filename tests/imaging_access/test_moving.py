"""A study that moves to another patient is denied to the first one at once."""

from __future__ import annotations

import time

import pytest

from tests.dicomweb.server import slice_of
from tests.imaging_access.people import levels, retrievals, until

FHIR = {"Content-Type": "application/fhir+json"}
pytestmark = [pytest.mark.slow, pytest.mark.stack]


def statuses(app, person) -> set[int]:
    return {
        app.get(url, headers=headers).status_code
        for url, headers in retrievals(person.study, person.series, person.instance)
    }


def test_a_corrected_subject_counts_from_the_answer_on(imaging, ann, ben):
    moved = imaging.person_with(ann.patient_id)
    with imaging.app_of(ann) as hers, imaging.app_of(ben) as his:
        url = f"/dicomweb/studies/{moved.study}/metadata"
        assert (hers.get(url).status_code, his.get(url).status_code) == (200, 403)
        path = f"/fhir/ImagingStudy/{moved.imaging_study}"
        resource = imaging.operator.get(path).json()
        resource["subject"] = {"reference": f"Patient/{ben.id}"}

        answer = imaging.operator.put(path, json=resource, headers=FHIR)

        assert answer.status_code == 200, answer.text
        assert statuses(hers, moved) == {403}
        assert his.get(url).status_code == 200


def test_a_transaction_moves_a_study_as_an_update_does(imaging, ann, ben):
    moved = imaging.person_with(ann.patient_id)
    with imaging.app_of(ann) as hers:
        assert 200 in statuses(hers, moved)
        path = f"ImagingStudy/{moved.imaging_study}"
        resource = imaging.operator.get(f"/fhir/{path}").json()
        resource["subject"] = {"reference": f"Patient/{ben.id}"}
        bundle = {
            "resourceType": "Bundle",
            "type": "transaction",
            "entry": [{"resource": resource, "request": {"method": "PUT", "url": path}}],
        }

        answer = imaging.operator.post("/fhir", json=bundle, headers=FHIR)

        assert answer.status_code == 200, answer.text
        assert statuses(hers, moved) == {403}
        assert (
            hers.get("/dicomweb/studies", params={"StudyInstanceUID": moved.study}).status_code
            == 204
        )


def test_a_study_stored_again_for_another_patient_is_never_shown_to_the_first(imaging, ann, ben):
    """IOCM: the images are rejected and come again with the right PatientID."""
    moved = imaging.person_with(ann.patient_id)
    with imaging.app_of(ann) as hers, imaging.app_of(ben) as his:
        url = f"/dicomweb/studies/{moved.study}/metadata"
        assert hers.get(url).status_code == 200

        assert imaging.operator.delete(f"/dicomweb/studies/{moved.study}").status_code == 204
        imaging.store(slice_of(moved.study, moved.series, PatientID=ben.patient_id))

        seen, end = [], time.monotonic() + 60
        while his.get(url).status_code != 200 and time.monotonic() < end:
            seen.append(hers.get(url).status_code)
        assert 200 not in seen
        assert hers.get(url).status_code == 403
        assert his.get(url).status_code == 200


def test_a_study_is_open_again_soon_after_one_of_its_instances_was_deleted(imaging, ann):
    mine = imaging.person_with(ann.patient_id, slices=2)
    with imaging.app_of(ann) as app:
        url = f"/dicomweb/studies/{mine.study}/metadata"
        one = mine.slices[1]
        gone = levels(mine.study, one.SeriesInstanceUID, one.SOPInstanceUID)[2]
        assert app.get(url).status_code == 200

        assert imaging.operator.delete(gone).status_code == 204

        first = app.get(url)
        assert first.status_code in (200, 503)
        assert first.status_code == 200 or "retry-after" in first.headers
        assert until(lambda: app.get(url).status_code == 200, 60)
        assert len(app.get(url).json()) == 1


def test_writing_the_uid_of_a_foreign_study_into_a_resource_of_ones_own_opens_nothing(
    imaging, ann, ben
):
    false = {
        "resourceType": "ImagingStudy",
        "status": "available",
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{ben.study}"}],
        "subject": {"reference": f"Patient/{ann.id}"},
    }
    with imaging.app_of(ann, "patient/ImagingStudy.cruds") as app:
        app.post("/fhir/ImagingStudy", json=false, headers=FHIR)
        # With an operator's rights it is certainly there.
        made = imaging.operator.post("/fhir/ImagingStudy", json=false, headers=FHIR)
        assert made.status_code == 201
        try:
            assert statuses(app, ben) == {403}
            listed = app.get("/dicomweb/studies", params={"StudyInstanceUID": ben.study})
            assert listed.status_code == 204
        finally:
            imaging.operator.delete(f"/fhir/ImagingStudy/{made.json()['id']}")
