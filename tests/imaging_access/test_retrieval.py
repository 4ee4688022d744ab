"""One token for FHIR and pixels: what a patient's app may have, in every form of DICOMweb."""

from __future__ import annotations

import pytest
from pydicom.uid import generate_uid

from tests.dicomweb.server import slice_of
from tests.imaging_access.people import READ, levels, retrievals, until

pytestmark = [pytest.mark.slow, pytest.mark.stack]


def test_an_app_has_its_own_patients_study_in_every_form(imaging, ann):
    with imaging.app_of(ann) as app:
        refused = {
            f"{url} {headers}": answer.status_code
            for url, headers in retrievals(ann.study, ann.series, ann.instance)
            # Not every form fits every object; a refusal of the form is 406.
            if (answer := app.get(url, headers=headers)).status_code not in (200, 206, 406)
        }

    assert not refused


def test_a_study_of_somebody_else_is_denied_in_every_form_and_as_if_it_were_not_there(
    imaging, ann, ben
):
    nobody = (str(generate_uid()), str(generate_uid()), str(generate_uid()))
    with imaging.app_of(ann) as app:
        for (url, headers), (absent, _) in zip(
            retrievals(ben.study, ben.series, ben.instance), retrievals(*nobody), strict=True
        ):
            for method in ("GET", "HEAD"):
                theirs = app.request(method, url, headers=headers)
                none = app.request(method, absent, headers=headers)
                assert theirs.status_code == none.status_code == 403, url
                assert theirs.content == none.content
                assert set(theirs.headers) == set(none.headers)
                assert theirs.headers["content-length"] == none.headers["content-length"]


@pytest.mark.parametrize("scope", ["patient/Patient.rs", "patient/ImagingStudy.cud", "launch"])
def test_the_scope_must_say_imaging_study_and_read(imaging, ann, scope):
    with imaging.app_of(ann, scope) as app:
        for url, headers in retrievals(ann.study, ann.series, ann.instance):
            assert app.get(url, headers=headers).status_code == 403


def test_a_patient_scope_without_a_patient_opens_nothing(imaging, ann):
    with imaging.client("patient/ImagingStudy.rs patient/*.rs") as app:
        for url, headers in retrievals(ann.study, ann.series, ann.instance):
            assert app.get(url, headers=headers).status_code == 403


def test_a_patient_who_signs_in_as_a_user_reaches_their_own_study_only(imaging, ann, ben):
    who = f"Patient/{ann.id}"
    with imaging.client("user/ImagingStudy.rs", fhirUser=who) as app:
        own = app.get(f"/dicomweb/studies/{ann.study}/metadata")
        other = app.get(f"/dicomweb/studies/{ben.study}/metadata")

    assert (own.status_code, other.status_code) == (200, 403)


def test_one_grants_context_does_not_widen_another(imaging, ann, ben):
    with imaging.client(f"{READ} user/Patient.rs", patient=ann.id) as app:
        assert app.get(f"/dicomweb/studies/{ben.study}").status_code == 403
        assert app.get(f"/dicomweb/studies/{ann.study}/metadata").status_code == 200


def test_a_filter_holds_for_pixels_too(imaging, ann):
    with (
        imaging.client("user/ImagingStudy.rs?status=available") as matching,
        imaging.client("user/ImagingStudy.rs?status=cancelled") as other,
    ):
        url = f"/dicomweb/studies/{ann.study}/metadata"
        assert matching.get(url).status_code == 200
        assert other.get(url).status_code == 403


def test_derived_objects_follow_the_study_that_they_lie_in(imaging, ann, ben):
    derived = [one for one in ben.slices if one.Modality in ("SEG", "SR")]
    own = [one for one in ann.slices if one.Modality in ("SEG", "SR")]
    with imaging.app_of(ann) as app:
        for one in derived:
            url = levels(one.StudyInstanceUID, one.SeriesInstanceUID, one.SOPInstanceUID)[2]
            for path in (url, f"{url}/metadata", f"{url}/rendered"):
                assert app.get(path).status_code == 403
        for one in own:
            url = levels(one.StudyInstanceUID, one.SeriesInstanceUID, one.SOPInstanceUID)[2]
            assert app.get(url, headers={"Accept": "application/dicom"}).status_code == 200


def test_a_study_with_instances_of_two_patients_is_given_to_neither(imaging, ann):
    first = slice_of(PatientID=ann.patient_id)
    second = slice_of(first.StudyInstanceUID, PatientID="IA-SOMEBODY-ELSE")
    imaging.store(first)
    study = imaging.published(first.StudyInstanceUID)
    assert study["subject"]["reference"] == f"Patient/{ann.id}"
    with imaging.app_of(ann) as app:
        url = f"/dicomweb/studies/{first.StudyInstanceUID}"
        assert until(lambda: app.get(f"{url}/metadata").status_code == 200)

        imaging.store(second)

        whole = [
            app.get(path, headers=headers).status_code
            for path, headers in retrievals(
                first.StudyInstanceUID, first.SeriesInstanceUID, first.SOPInstanceUID
            )
        ]
        listed = app.get("/dicomweb/studies", params={"StudyInstanceUID": first.StudyInstanceUID})
    assert set(whole) == {403}
    assert listed.status_code == 204
    with imaging.client("user/ImagingStudy.rs") as clinician:
        assert clinician.get(f"{url}/metadata").status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/dicomweb/changefeed"),
        ("GET", "/dicomweb/changefeed/latest"),
        ("GET", "/dicomweb/extendedquerytags"),
        ("POST", "/dicomweb/extendedquerytags"),
        ("GET", "/dicomweb/workitems"),
        ("GET", "/dicomweb/workitems/1.2.3"),
        ("POST", "/dicomweb/workitems"),
        ("PUT", "/dicomweb/workitems/1.2.3/state"),
        ("POST", "/dicomweb/workitems/1.2.3/cancelrequest"),
        ("POST", "/dicomweb/workitems/1.2.3/subscribers/APP"),
    ],
)
def test_what_is_not_about_one_study_is_not_for_a_patients_app(imaging, ann, method, path):
    with imaging.app_of(ann, "patient/*.cruds") as app:
        assert app.request(method, path, json={}).status_code == 403
