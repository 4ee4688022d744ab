"""When the FHIR store is slow or away, and when a token ends while its answer is being sent."""

from __future__ import annotations

import os
import signal
import time

import httpx
import numpy as np
import pytest

from access.tokens import LEEWAY_S
from tests.dicomweb.server import slice_of
from tests.fixtures.running import wait_for
from tests.imaging_access.people import READ, retrievals

pytestmark = [pytest.mark.slow, pytest.mark.stack]

SIDE, SLICES, LEFT_S = 1024, 24, 8


def test_an_answer_that_has_begun_is_finished_after_the_token_ends_and_a_new_one_is_not_begun(
    imaging, ann
):
    pixels = np.zeros((SIDE, SIDE), dtype="<u2").tobytes()
    first = slice_of(PatientID=ann.patient_id, Rows=SIDE, Columns=SIDE, PixelData=pixels)
    more = [
        slice_of(
            first.StudyInstanceUID, first.SeriesInstanceUID, PatientID=ann.patient_id,
            Rows=SIDE, Columns=SIDE, PixelData=pixels,
        )
        for _ in range(SLICES - 1)
    ]  # fmt: skip
    imaging.store(first, *more)
    imaging.published(first.StudyInstanceUID)
    url = f"/dicomweb/studies/{first.StudyInstanceUID}"
    with imaging.app_of(ann) as app:
        wait_for(lambda: app.get(f"{url}/metadata").status_code == 200, "the study")

    # Tokens are good for a while after their end, for clocks that differ: this one ended before.
    ends_soon = imaging.token(READ, LEFT_S, minted_s_ago=LEEWAY_S, patient=ann.id)
    with imaging.bearing(ends_soon) as app:
        with app.stream("GET", url) as answer:
            assert answer.status_code == 200
            chunks = answer.iter_raw(64 * 1024)
            size = len(next(chunks))
            time.sleep(LEFT_S + 1)
            assert app.get(url).status_code == 401
            size += sum(len(chunk) for chunk in chunks)
        assert size == int(answer.headers["content-length"]) > SLICES * len(pixels)
        again = app.get(url)

    assert again.status_code == 401
    assert again.headers["www-authenticate"].startswith("Bearer")


def test_while_the_fhir_store_does_not_answer_pixels_are_put_off_and_nothing_is_guessed(
    imaging, ann, ben
):
    hapi = imaging.stack.addresses["pids"]["hapi"]
    study = slice_of(PatientID=ann.patient_id)
    with (
        imaging.app_of(ann, "patient/ImagingStudy.crs") as app,
        imaging.client("system/ImagingStudy.rs") as backend,
    ):
        # An answer that was given before may be used for as long as it is kept, not another's.
        assert app.get(f"/dicomweb/studies/{ann.study}/metadata").status_code == 200
        os.kill(hapi, signal.SIGSTOP)
        try:
            known = app.get(f"/dicomweb/studies/{ann.study}/metadata")
            refused = [
                app.get(f"/dicomweb/studies/{ben.study}/metadata"),
                app.get("/dicomweb/studies"),
                imaging.store(study, client=app),
            ]
            unlimited = backend.get(f"/dicomweb/studies/{ann.study}/metadata")
        finally:
            os.kill(hapi, signal.SIGCONT)

        assert known.status_code == 200
        assert [one.status_code for one in refused] == [503, 503, 503]
        assert all(one.headers["retry-after"] for one in refused[:2])
        assert ben.patient_id not in "".join(one.text for one in refused)
        assert unlimited.status_code == 200
        wait_for(lambda: app.get("/dicomweb/studies").status_code == 200, "searches again")
        assert app.get(f"/dicomweb/studies/{ben.study}/metadata").status_code == 403


def test_while_the_fhir_store_is_gone_search_and_retrieval_say_when_to_come_again(
    imaging, ann, ben
):
    stack = imaging.stack
    old = stack.addresses["pids"]["hapi"]
    ben = imaging.person_with(ben.patient_id)  # of whom nothing has been decided yet
    with imaging.app_of(ann) as app:
        stack.kill("hapi")
        search = app.get("/fhir/ImagingStudy", params={"patient": ann.id})
        forms = retrievals(ben.study, ben.series, ben.instance)
        answers: list[httpx.Response] = [search, *(app.get(u, headers=h) for u, h in forms)]
        stack.restarted("hapi", old)

        assert {one.status_code for one in answers} == {503}
        assert all(one.headers["retry-after"] for one in answers)
        wait_for(
            lambda: app.get(f"/dicomweb/studies/{ann.study}/metadata").status_code == 200, "again"
        )
        assert app.get(f"/dicomweb/studies/{ben.study}/metadata").status_code == 403
