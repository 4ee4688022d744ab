"""Followers of the FHIR store: every change is given, and a store at rest is left in peace."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta

import pytest

from fhir_gateway import following
from fhir_gateway.following import Follower
from records import Records
from tests.fixtures.stores import everything_allowed

KIND = "Linkage"  # which nothing else writes


class Counting(Records):
    """Counts what it is given by pages."""

    given = 0

    async def pages(self, resource_type, params=()):
        async for found in super().pages(resource_type, params):
            self.given += 1
            yield found


@pytest.fixture
async def counting(config):
    async with Counting(config.records_url, everything_allowed(), attempts=3) as opened:
        yield opened


def linkage():
    item = {"type": "source", "resource": {"display": "one"}}
    return {"resourceType": KIND, "item": [item]}


async def test_a_store_at_rest_is_not_read_again_and_again(counting, records, pool, monkeypatch):
    monkeypatch.setattr(following, "OVERLAP", timedelta(seconds=0.5))
    follower = Follower(counting, pool, f"test {uuid.uuid4().hex}", KIND, {})
    made = [(await records.create(linkage()))["id"] for _ in range(4)]

    first = [one["id"] async for one in follower.changes()]
    await asyncio.sleep(0.6)
    before = counting.given
    again = [one["id"] async for one in follower.changes()]
    read = counting.given - before
    late = (await records.create(linkage()))["id"]
    found = [one["id"] async for one in follower.changes()]

    assert first[-4:] == made
    assert again == []
    assert read == 1  # the newest, which tells nothing new
    assert found == [late]
