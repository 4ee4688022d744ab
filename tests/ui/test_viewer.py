"""OHIF from our server in a real browser, and the static files it is made of."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.dicomweb.server import file_of
from tests.fixtures.browser import Watched
from tests.ui.conftest import BUNDLE, PASSWORD
from tests.ui.phantom import mr_series, pdf_of, report_of, segmentation_of

needs_bundle = pytest.mark.skipif(
    not (BUNDLE / "index.html").is_file(),
    reason="OHIF was not prepared (make setup, with npm)",
)


@pytest.fixture(scope="module")
def study(site):
    """A study with its segmentation in the archive; its UID."""
    series = mr_series()
    stored = site.stow(*map(file_of, series), file_of(segmentation_of(series)))
    assert stored.status_code == 200
    return series[0].StudyInstanceUID


@pytest.fixture(scope="module")
def documents(site):
    """A study with a structured report and an encapsulated PDF; its UID."""
    series = mr_series()
    files = [*series, report_of(series[0]), pdf_of(series[0])]
    assert site.stow(*map(file_of, files)).status_code == 200
    return series[0].StudyInstanceUID


@needs_bundle
@pytest.mark.slow
def test_ohif_opens_a_study_and_shows_its_segmentation(site, root, study, chromium, tmp_path):
    token = site.token_for("system/ImagingStudy.rs", studies=[study])
    watched = Watched(chromium)

    watched.page.goto(f"{root}/ohif/segmentation?StudyInstanceUIDs={study}&token={token}")
    watched.page.get_by_text("Tumor segmentation").first.wait_for(timeout=90_000)
    watched.wait_for_pixels()
    before = watched.coloured()
    watched.page.get_by_text("Tumor segmentation").first.dblclick()
    watched.page.get_by_text("Tumor", exact=True).first.wait_for(timeout=60_000)
    watched.page.wait_for_timeout(2000)
    after = watched.coloured()
    watched.page.screenshot(path=tmp_path / "viewer.png")
    url = watched.page.url
    watched.page.close()

    assert watched.errors == []
    assert "token" not in url
    assert after > before + 500
    assert all(one.startswith((root, "blob:", "data:")) for one in watched.requests)


@needs_bundle
@pytest.mark.slow
def test_the_study_list_shows_what_is_stored(site, root, study, chromium):
    # OHIF takes ?token= on a study's pages only; its list needs what a session will bring.
    watched = Watched(chromium, **site.headers)

    watched.page.goto(f"{root}/ohif/")
    watched.page.get_by_text("Phantom").first.wait_for(timeout=60_000)
    watched.page.get_by_text("Brain MR").first.wait_for(timeout=10_000)
    watched.page.close()

    assert watched.errors == []


def sign_in(page, root, target):
    page.goto(f"{root}{target}")
    page.wait_for_url(f"{root}/login?next=*")
    page.get_by_label("Username").fill("anna")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


@needs_bundle
@pytest.mark.slow
def test_after_signing_in_the_study_list_opens_and_a_lost_session_asks_again(
    site, root, study, chromium, tmp_path
):
    watched = Watched(chromium)

    sign_in(watched.page, root, "/ohif/")
    watched.page.get_by_text("Phantom").first.wait_for(timeout=60_000)
    watched.page.screenshot(path=tmp_path / "list.png")
    assert watched.errors == []
    watched.page.context.clear_cookies()
    watched.page.goto(f"{root}/ohif/viewer?StudyInstanceUIDs={study}")
    watched.page.wait_for_url(f"{root}/login?next=*viewer*")
    watched.page.close()


@needs_bundle
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["viewer", "segmentation"])
def test_reports_are_shown_without_warning_signs(site, root, documents, chromium, tmp_path, mode):
    watched = Watched(chromium)

    sign_in(watched.page, root, f"/ohif/{mode}?StudyInstanceUIDs={documents}")
    watched.page.get_by_text("Measurements SR").first.wait_for(timeout=90_000)
    watched.page.get_by_text("Report PDF").first.wait_for(timeout=30_000)
    watched.wait_for_pixels()
    signs = watched.page.locator("[id^=display-set-tooltip]").count()
    # OHIF's tour for first visitors lies over everything.
    watched.page.add_style_tag(content="[class*=shepherd] { display: none !important }")
    watched.page.get_by_text("Report PDF").first.dblclick()
    watched.page.locator("object, iframe, embed").first.wait_for(timeout=30_000)
    watched.page.screenshot(path=tmp_path / f"{mode}.png")
    watched.page.close()

    assert watched.errors == []
    assert signs == 0


def fetch(root, path, **headers):
    return httpx.get(f"{root}{path}", headers=headers, trust_env=False, timeout=60)


@needs_bundle
def test_hashed_files_are_kept_and_the_entry_points_are_not(site, root):
    name = next(path.name for path in BUNDLE.glob("app.bundle.*.js"))

    script = fetch(root, f"/ohif/{name}")
    index = fetch(root, "/ohif/", **site.headers)
    config = fetch(root, "/ohif/app-config.js")
    again = fetch(root, f"/ohif/{name}", **{"If-None-Match": script.headers["etag"]})
    plain = fetch(root, f"/ohif/{name}", **{"Accept-Encoding": "identity"})

    assert "immutable" in script.headers["cache-control"]
    assert script.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers and plain.content == script.content
    assert [one.headers["cache-control"] for one in (index, config)] == ["no-cache", "no-cache"]
    assert again.status_code == 304
    assert (
        re.search(r"script-src [^;]*'unsafe-inline'", index.headers["content-security-policy"])
        is None
    )


@needs_bundle
@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        ("/ohif/viewer?StudyInstanceUIDs=1.2", 200, "text/html"),
        ("/ohif/segmentation", 200, "text/html"),
        ("/ohif/missing.bundle.js", 404, "text/plain"),
        ("/ohif/..%2f..%2fpyproject.toml", 200, "text/html"),
        ("/ohif/.stamp", 200, "text/html"),
    ],
)
def test_unknown_pages_are_the_application_and_unknown_files_are_404(
    site, root, path, status, kind
):
    answer = fetch(root, path, **site.headers)

    assert answer.status_code == status
    assert answer.headers["content-type"].startswith(kind)
    assert "requires-python" not in answer.text


def test_a_server_without_the_bundle_says_so(root):
    answer = fetch(root, "/missing/viewer")

    assert answer.status_code == 503
    assert "make" in answer.text and "npm" in answer.text
