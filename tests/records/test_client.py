"""The FHIR store seen through the records client, on a real HAPI."""

from __future__ import annotations

import asyncio
import gc
import uuid

import pytest
from aiohttp import web

from access.grants import HEADER, GrantSigner
from access.internal_rights import OPERATOR
from records import Denied, NotFound, Records, RecordsUnavailable, Rejected, VersionConflict
from records import identifiers as ids

SYSTEM = "https://hilum.dev/fhir/sid/test-records"


@pytest.fixture
def value():
    return uuid.uuid4().hex


def patient(value):
    return {
        "resourceType": "Patient",
        "identifier": [{"system": SYSTEM, "value": value}],
        "name": [{"family": "山田"}],
        "gender": "unknown",
    }


async def test_a_resource_lives_and_dies(records, value):
    created = await records.create(patient(value))
    updated = await records.update({**created, "active": True})

    assert (await records.read("Patient", created["id"])) == updated
    assert updated["name"][0]["family"] == "山田"
    await records.delete("Patient", created["id"])
    await records.delete("Patient", created["id"])
    with pytest.raises(NotFound):
        await records.read("Patient", created["id"])


async def test_an_answer_goes_when_its_reader_is_done_with_it(records, value):
    created = await records.create(patient(value))
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            await records.read("Patient", created["id"])
        dicts = [one for one in gc.get_objects() if isinstance(one, dict) and one is not created]
        kept = [one for one in dicts if str(dict.get(one, "id")) == created["id"]]
    finally:
        gc.enable()

    assert kept == []


async def test_a_change_by_somebody_else_is_noticed(records, value):
    created = await records.create(patient(value))
    await records.update({**created, "active": True})

    with pytest.raises(VersionConflict):
        await records.update({**created, "active": False})
    with pytest.raises(ValueError, match="versionId"):
        await records.update({"resourceType": "Patient", "id": created["id"]})


@pytest.mark.parametrize("suffix", ["", "a|b", "a,b", "a$b", "a\\b", "ä&x=y", "a b+c"])
async def test_a_conditional_create_makes_one_whatever_the_identifier(records, value, suffix):
    text = value + suffix
    query = ids.by_identifier(SYSTEM, text)

    made = await asyncio.gather(
        *(records.create(patient(text), if_none_exist=query) for _ in range(2)),
        return_exceptions=True,
    )

    made = [one for one in made if not isinstance(one, VersionConflict)]
    again = await records.create(patient(text), if_none_exist=query)
    assert {one["id"] for one in made} == {again["id"]}
    found = await records.search("Patient", {"identifier": ids.token(SYSTEM, text)})
    assert [one["id"] for one in found] == [again["id"]]


async def test_conditional_creates_at_once_make_one_and_all_get_it(records, value):
    resource = patient(value)
    condition = ids.by_identifier(SYSTEM, value)

    made = await asyncio.gather(
        *(records.create(resource, if_none_exist=condition) for _ in range(6))
    )

    assert len({one["id"] for one in made}) == 1


async def test_a_search_follows_every_page(records, value):
    entries = [
        {
            "fullUrl": ids.urn_uuid(value, str(n)),
            "resource": patient(value),
            "request": {"method": "POST", "url": "Patient"},
        }
        for n in range(7)
    ]
    answers = await records.transaction(entries)

    params = {"identifier": ids.token(SYSTEM, value), "_count": 3}
    found = await records.search("Patient", params)

    assert {one["id"] for one in found} == {a["resource"]["id"] for a in answers}
    assert await records.count("Patient", {"identifier": ids.token(SYSTEM, value)}) == 7
    assert (await records.first("Patient", params))["id"] in {one["id"] for one in found}
    assert await records.first("Patient", {"identifier": "no|such"}) is None


async def test_a_transaction_is_all_or_nothing(records, value):
    good = {"resource": patient(value), "request": {"method": "POST", "url": "Patient"}}
    broken = {
        "resource": {
            "resourceType": "Observation",
            "status": "final",
            "code": {"text": "x"},
            "subject": {"reference": "Patient/no-such-patient"},
        },
        "request": {"method": "POST", "url": "Observation"},
    }

    with pytest.raises(Rejected) as refusal:
        await records.transaction([good, broken])

    assert "no-such-patient" in refusal.value.diagnostics
    assert "no-such-patient" not in str(refusal.value)
    assert await records.search("Patient", {"identifier": ids.token(SYSTEM, value)}) == []


async def test_validation_tells_its_issues(records):
    wrong = {"resourceType": "Observation", "status": "final"}

    issues = await records.validate(wrong)

    assert any(one["severity"] == "error" and "code" in one["diagnostics"] for one in issues)


async def test_without_a_grant_of_ours_nothing_is_given(hapi, tmp_path):
    forger = GrantSigner.load_or_create(tmp_path).credentials(OPERATOR)

    for credentials in (None, forger, lambda method, path: {HEADER: "x.y.z"}):
        async with Records(hapi.config.base_url, credentials) as stranger:
            with pytest.raises(Denied):
                await stranger.read("Patient", "1")


async def test_fhirpy_works_on_the_same_connections(records, value):
    created = await records.create(patient(value))

    found = await records.fhirpy.resources("Patient").search(_id=created["id"]).fetch_all()

    assert [one["id"] for one in found] == [created["id"]]


async def test_nobody_there_is_told_after_the_attempts():
    async with Records("http://127.0.0.1:9/fhir", None, attempts=2) as records:
        with pytest.raises(RecordsUnavailable):
            await records.read("Patient", "1")


@pytest.fixture
async def flaky():
    """A server that answers 503 twice, then 200; counts what it got."""
    got = []

    async def answer(request):
        got.append(request.method)
        if len(got) < 3:
            return web.Response(status=503)
        return web.json_response({"resourceType": "Patient", "id": "1"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/fhir", got
    await runner.cleanup()


async def test_a_server_that_comes_back_is_waited_for(flaky):
    url, got = flaky

    async with Records(url, None) as records:
        assert (await records.read("Patient", "1"))["id"] == "1"

    assert len(got) == 3
