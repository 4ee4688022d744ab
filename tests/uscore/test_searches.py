"""U3: every search of the bar, in all its forms, over HTTP, judged independently."""

from __future__ import annotations

import pytest

from tests.uscore.bar import VERSIONS, groups

pytestmark = [pytest.mark.slow, pytest.mark.stack]

SEARCHES = [
    search
    for version in VERSIONS
    for one in groups(version)
    for search in one.searches("SHALL", "SHOULD")
]


@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_a_search_of_the_bar_finds_all_that_satisfies_it_and_nothing_else(searcher, search):
    assert searcher.problems(search) == []
