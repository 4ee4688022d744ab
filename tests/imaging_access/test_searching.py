"""QIDO-RS under a patient's token: what is not the patient's is not there, nor counted."""

from __future__ import annotations

import httpx
import pytest
from pydicom.uid import generate_uid

from tests.imaging_access.people import READ

pytestmark = [pytest.mark.slow, pytest.mark.stack]

STUDY, SERIES, INSTANCE = "0020000D", "0020000E", "00080018"
LEVELS = (("studies", STUDY), ("series", SERIES), ("instances", INSTANCE))


def found(client: httpx.Client, path: str, tag: str, **query: str) -> list[str]:
    answer = client.get(f"/dicomweb/{path}", params=query)
    assert answer.status_code in (200, 204), answer.text
    return [one[tag]["Value"][0] for one in answer.json()] if answer.content else []


@pytest.fixture(scope="module")
def ann(imaging):
    """One whose studies no other test changes."""
    return imaging.new_person("Anna")


@pytest.fixture(scope="module")
def app(imaging, ann, ben):
    with imaging.app_of(ann) as client:
        yield client


@pytest.mark.parametrize(("level", "tag"), LEVELS)
def test_a_search_finds_all_of_the_patients_and_nothing_else(imaging, app, ann, level, tag):
    attribute = {"studies": "StudyInstanceUID", "series": "SeriesInstanceUID"}
    wanted = {str(getattr(o, attribute.get(level, "SOPInstanceUID"))) for o in ann.slices}

    got = found(app, level, tag, PatientID=ann.patient_id)

    assert set(got) == wanted
    assert len(got) == len(wanted)
    everything = found(app, level, STUDY)
    everyone = found(imaging.operator, level, STUDY)
    assert ann.study in everything
    assert len(everyone) > len(everything)


@pytest.mark.parametrize(("level", "tag"), LEVELS)
def test_asking_for_somebody_else_by_any_attribute_finds_nothing(app, ben, level, tag):
    one = ben.slices[0]
    for query in (
        {"PatientID": ben.patient_id},
        {"PatientName": "Ben*"},
        {"PatientName": "ben", "fuzzymatching": "true"},
        {"StudyInstanceUID": ben.study},
        {"StudyInstanceUID": f"{ben.study},{generate_uid()}"},
        {"SeriesInstanceUID": str(one.SeriesInstanceUID)},
        {"SOPInstanceUID": str(one.SOPInstanceUID)},
    ):
        answer = app.get(f"/dicomweb/{level}", params={**query, "includefield": "all"})
        assert answer.status_code == 204, query
        assert not answer.content
        assert "warning" not in answer.headers


def test_pages_cover_the_patients_instances_once_each_and_end_there(app, ann):
    wanted = found(app, "instances", INSTANCE)
    pages, offset = [], 0
    while page := found(app, "instances", INSTANCE, limit="2", offset=str(offset)):
        pages += page
        offset += 2

    assert pages == wanted
    assert len(set(pages)) == len(pages) >= len(ann.slices)
    beyond = app.get("/dicomweb/instances", params={"limit": "2", "offset": str(len(pages))})
    assert beyond.status_code == 204
    assert "warning" not in beyond.headers


def test_counts_in_a_warning_are_of_the_patients_own(imaging, app):
    """The server gives fewer than asked for: how many remain is told, of the visible ones only."""
    own = len(found(app, "instances", INSTANCE))
    asked = app.get("/dicomweb/instances", params={"limit": "100000"})

    assert len(asked.json()) == own
    assert "warning" not in asked.headers


def test_a_study_that_is_not_the_patients_is_denied_in_the_path(app, ben):
    for path in (f"studies/{ben.study}/series", f"studies/{ben.study}/instances"):
        assert app.get(f"/dicomweb/{path}").status_code == 403


def test_without_the_letter_s_nothing_is_searched(imaging, ann):
    with imaging.app_of(ann, "patient/ImagingStudy.r") as reader:
        assert reader.get("/dicomweb/studies").status_code == 403
        assert reader.get(f"/dicomweb/studies/{ann.study}/series").status_code == 403
        assert reader.get(f"/dicomweb/studies/{ann.study}/metadata").status_code == 200


def test_the_sizes_that_a_search_tells_are_those_of_the_study(app, ann):
    [study] = app.get("/dicomweb/studies", params={"StudyInstanceUID": ann.study}).json()

    assert study["00201208"]["Value"] == [len(ann.slices)]


def test_two_patients_tokens_see_disjoint_studies(imaging, ann, ben):
    with imaging.app_of(ann, READ) as hers, imaging.app_of(ben, READ) as his:
        first, second = found(hers, "studies", STUDY), found(his, "studies", STUDY)

    assert ann.study in first
    assert ben.study in second
    assert not set(first) & set(second)
