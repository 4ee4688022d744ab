"""OHIF, served by us, shows the demo study with the segmentation that the model made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fixtures.browser import Watched
from tests.fixtures.running import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.stack,
    pytest.mark.skipif(
        not (ROOT / "build" / "ohif" / "index.html").is_file(),
        reason="OHIF was not prepared (make setup, with npm)",
    ),
]


def test_ohif_shows_the_segmentation_of_the_demo_study(stack, demo_study, chromium, tmp_path):
    uid = demo_study["uid"]
    token = stack.token("system/ImagingStudy.rs", study=uid)
    watched = Watched(chromium)

    painted = show(watched, stack.base, uid, token, tmp_path / "viewer.png")
    url = watched.page.url
    watched.page.close()

    assert watched.errors == []
    assert painted > 500
    assert token not in url


def show(watched: Watched, base: str, uid: str, token: str, picture: Path) -> int:
    """Open the study on its segmentation; `HILUM_SCREENSHOT` puts the picture elsewhere."""
    watched.page.goto(f"{base}/ohif/segmentation?StudyInstanceUIDs={uid}&token={token}")
    thumbnail = watched.page.get_by_text("AI segmentation (draft)").first
    thumbnail.wait_for(timeout=90_000)
    watched.wait_for_pixels()
    before = watched.coloured()
    thumbnail.dblclick()
    segment = watched.page.get_by_text("Oedema").first
    segment.wait_for(timeout=90_000)
    watched.page.wait_for_timeout(2000)
    segment.click()  # jumps to its middle
    watched.page.wait_for_timeout(3000)
    painted = watched.coloured() - before
    watched.page.screenshot(path=os.environ.get("HILUM_SCREENSHOT", picture))
    return painted
