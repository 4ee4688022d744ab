"""The `fhirclient` JavaScript library, unmodified, in headless Chromium: an app of others."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from pathlib import Path
from urllib.parse import urlencode

import pytest

from authorization.clients import CODE, REFRESH, Client
from tests.fixtures.browser import Watched
from tests.smart import library
from tests.smart.clinic import PASSWORD, SYSTEM

pytestmark = pytest.mark.slow

PAGES = Path(__file__).parent / "app"
STANDALONE = "launch/patient openid fhirUser online_access patient/*.rs"


@pytest.fixture(scope="module")
def app_host():
    """The app's own web server, on another port and so another origin."""
    script = library.script()

    class Pages(http.server.SimpleHTTPRequestHandler):
        def translate_path(self, path):
            is_library = path.partition("?")[0] == "/fhir-client.js"
            return str(script) if is_library else super().translate_path(path)

        def log_message(self, format, *arguments):
            pass

    handler = functools.partial(Pages, directory=str(PAGES))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def app(clinic, app_host):
    return clinic.register(
        Client(
            client_id="js-app",
            name="Browser app",
            kind="public",
            scopes=f"launch launch/imagingstudy {STANDALONE}",
            redirect_uris=(f"{app_host}/index.html",),
            launch_url=f"{app_host}/launch.html",
            grant_types=(CODE, REFRESH),
            origins=(app_host,),
        )
    )


@pytest.fixture
def watched(chromium):
    found = Watched(chromium)
    found.page.set_default_timeout(60_000)
    yield found
    found.page.close()


def sign_in(page):
    page.fill("#username", "clinic-anna")
    page.fill("#password", PASSWORD)
    page.keyboard.press("Enter")


def ready(page):
    """The app's own page, once it has done its work; fails with what it says went wrong."""
    page.wait_for_function("() => ['ready', 'failed'].includes(document.title)")
    assert page.title() == "ready", page.inner_text("body")
    return json.loads(page.inner_text("#context"))


def uid_of(clinic):
    return next(
        one["value"].removeprefix("urn:oid:")
        for one in clinic.study["identifier"]
        if one.get("system") == "urn:dicom:uid"
    )


def test_standalone_launch_by_keyboard_and_refresh(clinic, app, app_host, watched):
    page = watched.page
    asked = {"iss": f"{clinic.base}/fhir", "scope": STANDALONE}

    page.goto(f"{app_host}/launch.html?{urlencode(asked)}")
    sign_in(page)
    page.wait_for_selector("#name:focus")
    page.keyboard.type("zweig")
    page.keyboard.press("Enter")
    page.wait_for_selector("button.row")
    page.focus("button.row")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Allow Browser app?")
    page.uncheck("input[value='patient/*.rs']")
    page.check("input[value='patient/*.rs']")
    page.click("button:text-is('Allow')")
    context = ready(page)
    page.click("#refresh")
    page.wait_for_function("() => document.getElementById('refreshed').textContent")

    assert page.inner_text("#who") == f"Zweig {clinic.patients['Zweig']}"
    assert context["user"] == "Practitioner/clinic-anna"
    assert context["banner"] is True
    assert "patient/*.rs" in context["scope"].split()
    assert page.inner_text("#refreshed") == f"true {clinic.patients['Zweig']}"
    assert watched.errors == []


def test_ehr_launch_from_the_study_page_opens_ohif_on_the_right_study(
    clinic, app, app_host, watched
):
    page = watched.page

    page.goto(f"{clinic.base}/auth/launch?study={uid_of(clinic)}")
    sign_in(page)
    page.click("button.row:has-text('Browser app')")
    page.wait_for_selector("text=Allow Browser app?")
    banner = page.inner_text("[data-testid=banner]")
    page.click("button:text-is('Allow')")
    context = ready(page)
    studies = page.locator("#studies li").all_inner_texts()
    page.click("#viewer")
    page.wait_for_url("**/ohif/viewer*")
    watched.wait_for_pixels()

    opened = f"/dicomweb/studies/{uid_of(clinic)}/"
    assert banner
    assert {"reference": f"ImagingStudy/{clinic.study['id']}"} in context["fhirContext"]
    assert f"urn:oid:{uid_of(clinic)}" in studies
    assert any(opened in url and "/frames/" in url for url in watched.requests)


def test_a_refusal_reaches_the_app_as_an_error(clinic, app, app_host, watched):
    page = watched.page
    asked = {"iss": f"{clinic.base}/fhir", "scope": "launch/patient patient/Patient.rs"}

    page.goto(f"{app_host}/launch.html?{urlencode(asked)}")
    sign_in(page)
    page.click("text=Cancel and go back")
    page.wait_for_function("() => document.title === 'failed'")

    assert page.inner_text("#who") == "access_denied: the user said no"


def test_every_field_has_a_label_and_problems_are_announced(clinic, app, app_host, watched):
    page = watched.page
    asked = {"iss": f"{clinic.base}/fhir", "scope": "launch/patient patient/Patient.rs"}

    page.goto(f"{app_host}/launch.html?{urlencode(asked)}")
    sign_in(page)
    page.wait_for_selector("#name")
    page.click("button:text-is('Search')")
    page.wait_for_selector("[role=alert]")
    unlabelled = page.evaluate(
        "() => [...document.querySelectorAll('input:not([type=hidden]), select, textarea')]"
        ".filter(e => !e.labels || !e.labels.length).map(e => e.name)"
    )

    assert unlabelled == []
    assert page.locator("h1").count() == 1
    assert SYSTEM not in page.content()
