"""Fixtures of the records client's tests: a real HAPI."""

from __future__ import annotations

import pytest

from records import Records
from tests.fixtures.stores import hapi, postgres

__all__ = ["hapi", "postgres"]


@pytest.fixture
async def records(hapi):
    async with Records(hapi.config.base_url, hapi.config.secret) as opened:
        yield opened
