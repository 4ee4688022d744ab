"""Fixtures of the records client's tests: a real HAPI."""

from __future__ import annotations

import pytest

from records import Records
from tests.fixtures.stores import everything_allowed


@pytest.fixture
async def records(hapi):
    async with Records(hapi.config.base_url, everything_allowed()) as opened:
        yield opened
