"""Two patients on the running stack, for all tests of this folder."""

from __future__ import annotations

import pytest

from tests.imaging_access.people import Imaging


@pytest.fixture(scope="session")
def imaging(stack):
    with stack.client() as operator:
        yield Imaging(stack, operator)


@pytest.fixture(scope="session")
def ann(imaging):
    return imaging.new_person("Ann")


@pytest.fixture(scope="session")
def ben(imaging):
    return imaging.new_person("Ben")
