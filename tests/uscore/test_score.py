"""The score of each version, as docs/reference/us-core.md shows it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.uscore.bar import IN_FORCE, VERSIONS, groups
from tests.uscore.supporting import items, of_profile, present

pytestmark = [pytest.mark.slow, pytest.mark.stack]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "us-core.md"
ROW = re.compile(r"^\| (\d\.\d\.\d) \| (\d+/\d+) \| (\d+/\d+) \| (\d+/\d+) \| (\d+/\d+) \|", re.M)


def score(searcher, stored, follower, version):
    """Passed and total of: SHALL searches, SHOULD searches, must-support items, references."""
    found = groups(version)
    searches = [
        [not searcher.problems(search) for one in found for search in one.searches(how)]
        for how in ("SHALL", "SHOULD")
    ]
    supported, references = [], []
    for one in found:
        resources = of_profile(one, stored[one.resource])
        supported += [present(one, item, resources) for _, item in items(one)]
        references += [
            follower.resolves(one, resources, r["path"].partition(".")[2], r["profiles"])
            for r in one.content["references"]
        ]
    return tuple(f"{sum(part)}/{len(part)}" for part in (*searches, supported, references))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_score_is_the_one_that_the_page_shows(searcher, stored, follower, version, capsys):
    shown = {row[0]: tuple(row[1:]) for row in ROW.findall(PAGE.read_text())}

    measured = score(searcher, stored, follower, version)

    with capsys.disabled():
        parts = ", ".join(measured)
        sys.stdout.write(
            f"\nUS Core {version}: {parts} (SHALL, SHOULD, must-support, references)\n"
        )
    assert measured == shown[version]


def test_the_version_in_force_passes_whole(searcher, stored, follower):
    measured = score(searcher, stored, follower, IN_FORCE)

    assert measured == ("42/42", "25/25", "173/173", "111/111")
