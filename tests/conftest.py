"""Fixtures of the whole session: one PostgreSQL, one HAPI, one running stack."""

from tests.fixtures.browser import chromium
from tests.fixtures.running import demo_study, stack
from tests.fixtures.stores import hapi, postgres

__all__ = ["chromium", "demo_study", "hapi", "postgres", "stack"]
