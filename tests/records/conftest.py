"""Fixtures of the records client's tests: a real HAPI."""

from __future__ import annotations

import pytest

from records import Records


@pytest.fixture
async def records(hapi):
    async with Records(hapi.config.base_url, hapi.config.secret) as opened:
        yield opened
