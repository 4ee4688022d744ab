"""The first page: doors, health, and nothing from elsewhere."""

from __future__ import annotations

import httpx


def test_the_page_lists_doors_and_the_state_of_each_part(root):
    answer = httpx.get(f"{root}/", trust_env=False, timeout=60)

    assert answer.status_code == 200
    for text in (
        "Hilum",
        "/ohif/",
        "Sign in",
        "/fhir/metadata",
        "HAPI FHIR",
        "needs attention",
        "1.2.3",
    ):
        assert text in answer.text
    assert "&lt;b&gt;not started" in answer.text


def test_the_page_loads_nothing_from_elsewhere_and_runs_no_script(root, chromium):
    page = chromium.new_page(viewport={"width": 1100, "height": 800})
    seen, errors = [], []
    page.on("request", lambda request: seen.append(request.url))
    page.on("console", lambda message: errors.append(message.text))

    page.goto(f"{root}/")
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.close()

    assert colour in ("rgb(11, 18, 23)", "rgb(245, 248, 250)")
    assert all(url.startswith(root) for url in seen)
    assert errors == []


def test_the_page_forbids_scripts_and_framing(root):
    policy = httpx.get(f"{root}/", trust_env=False, timeout=60).headers["content-security-policy"]

    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy
