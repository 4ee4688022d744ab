"""The change feed: ordered, resumable, only of what the caller may see, and worth waiting for."""

from __future__ import annotations

import threading
import time

import pytest

from tests.dicomweb.server import file_of, slice_of


@pytest.fixture
def begin(web):
    """Sequence number before the test's own changes."""
    return web.get("/changefeed/latest").json()["sequence"]


def test_changes_come_in_order_and_are_resumed_where_one_stopped(server, web, begin):
    made = [slice_of() for _ in range(5)]
    for one in made:
        server.stow(file_of(one))

    seen, after = [], begin
    while True:
        page = web.get(f"/changefeed?after={after}&limit=2").json()
        if not page["changes"]:
            break
        seen += page["changes"]
        after = page["next"]

    assert [one["instance"] for one in seen] == [one.SOPInstanceUID for one in made]
    assert [one["sequence"] for one in seen] == sorted(one["sequence"] for one in seen)
    assert {one["kind"] for one in seen} == {"instance_stored"}
    assert seen[0]["study"] == made[0].StudyInstanceUID and "T" in seen[0]["time"]
    assert after == web.get("/changefeed/latest").json()["sequence"]


def test_a_restricted_caller_sees_its_studies_only_and_still_gets_on(server, web, begin):
    mine, other = slice_of(), slice_of()
    server.stow(file_of(other), file_of(mine))
    token = server.token_for("system/ImagingStudy.s", studies=[mine.StudyInstanceUID])

    with server.client(Authorization=f"Bearer {token}") as restricted:
        page = restricted.get(f"/changefeed?after={begin}").json()
        again = restricted.get(f"/changefeed?after={page['next']}").json()
        latest = restricted.get("/changefeed/latest")

    assert [one["instance"] for one in page["changes"]] == [mine.SOPInstanceUID]
    assert again["changes"] == []
    assert latest.status_code == 403


def test_a_waiting_client_is_answered_when_something_comes(server, web, begin):
    dataset = slice_of()
    timer = threading.Timer(0.5, lambda: server.stow(file_of(dataset)))
    timer.start()

    page = web.get(f"/changefeed?after={begin}&wait=20").json()
    timer.join()

    assert [one["instance"] for one in page["changes"]] == [dataset.SOPInstanceUID]


def test_waiting_in_vain_ends_with_an_empty_answer(web, begin):
    started = time.monotonic()
    page = web.get(f"/changefeed?after={begin}&wait=1").json()

    assert page == {"changes": [], "next": begin}
    assert time.monotonic() - started >= 1


@pytest.mark.parametrize("query", ["after=-1", "after=x", "limit=1001", "wait=61", "wait=0.5"])
def test_parameters_out_of_range_are_400(web, query):
    assert web.get(f"/changefeed?{query}").status_code == 400


def test_the_scope_is_that_of_a_search(server):
    token = server.token_for("system/ImagingStudy.r")
    with server.client(Authorization=f"Bearer {token}") as reader:
        assert reader.get("/changefeed").status_code == 403
