"""Fixtures of the whole path; see tests/fixtures/running.py."""

from tests.fixtures.running import demo_study, stack

__all__ = ["demo_study", "stack"]
