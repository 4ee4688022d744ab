"""Apps in a browser: discovery, the Authorization header alone, other origins; and the trail."""

from __future__ import annotations

import httpx
import pytest
from pydicom.uid import generate_uid

from tests.dicomweb.server import parts_of
from tests.fixtures.running import search, wait_for
from tests.imaging_access.people import B, levels

pytestmark = [pytest.mark.slow, pytest.mark.stack]

ORIGIN, FOREIGN = "https://viewer.example.org", "https://elsewhere.example.org"
OCTETS = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
CAPABILITY = "http://fhir.org/argonaut/smart-imaging/capabilities/"


@pytest.fixture(scope="module")
def registered(stack):
    """A viewer whose page is at ORIGIN."""
    done = stack.run(
        "clients", "add", "imaging-viewer", "--name", "Viewer", "--kind", "public",
        "--redirect-uri", f"{ORIGIN}/back", "--origin", ORIGIN,
        "--scope", "launch/patient patient/*.rs",
    )  # fmt: skip
    assert done.returncode == 0 or "there is a client" in done.stderr, done.stderr


def test_discovery_names_imaging_and_both_modes(stack):
    found = httpx.get(
        f"{stack.base}/fhir/.well-known/smart-configuration", trust_env=False, timeout=60
    ).json()

    assert "smart-imaging-access" in found["capabilities"]
    assert f"{CAPABILITY}app-launch" in found["capabilities"]
    assert f"{CAPABILITY}backend-services" in found["capabilities"]
    assert {"authorization_code", "client_credentials"} <= set(found["grant_types_supported"])
    assert "system/ImagingStudy.rs" in found["scopes_supported"]
    assert {"patient/ImagingStudy.rs", "patient/*.rs"} & set(found["scopes_supported"])


def test_a_viewer_works_with_the_header_alone_and_no_cookie_is_set(imaging, ann):
    """The requests of a zero-footprint viewer: find, metadata, frames, bulk data, ranges."""
    study, series, one = levels(ann.study, ann.series, ann.instance)
    with imaging.app_of(ann) as app:
        [found] = app.get("/dicomweb/studies", params={"StudyInstanceUID": ann.study}).json()
        assert found["0020000D"]["Value"] == [ann.study]
        answers = [
            app.get(f"{study}/series", params={"includefield": "all"}),
            app.get(f"{series}/metadata"),
            app.get(f"{one}/frames/1", headers={"Accept": OCTETS}),
            app.get(one, headers={"Accept": "application/dicom", "Range": "bytes=128-131"}),
        ]
        assert not app.cookies

    assert [one.status_code for one in answers] == [200, 200, 200, 206]
    [(_, frame)] = parts_of(answers[2])
    assert frame == ann.slices[0].PixelData
    assert answers[3].content == b"DICM"
    assert not any("set-cookie" in one.headers for one in answers)


def test_a_token_goes_before_a_cookie_and_a_false_one_is_not_mended_by_it(imaging, ann):
    with imaging.bearing("nonsense") as app:
        answer = app.get(f"/dicomweb/studies/{ann.study}", headers={"Cookie": "hilum=x"})

    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "asked"),
    [
        ("GET", "/dicomweb/studies", "authorization"),
        ("GET", "/dicomweb/studies/1.2/metadata", "authorization,range"),
        ("POST", "/dicomweb/studies", "authorization,content-type"),
        ("DELETE", "/dicomweb/studies/1.2", "authorization"),
        ("GET", "/wado", "authorization"),
        ("GET", "/fhir/ImagingStudy", "authorization"),
        ("PUT", "/fhir/ImagingStudy/1", "authorization,content-type,if-match"),
    ],
)
def test_pages_of_registered_origins_may_ask_and_others_may_not(
    stack, registered, method, path, asked
):
    def preflight(origin: str) -> httpx.Response:
        headers = {
            "Origin": origin,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": asked,
        }
        return httpx.options(f"{stack.base}{path}", headers=headers, trust_env=False)

    good = wait_for(
        lambda: (answer := preflight(ORIGIN)).status_code < 300 and answer, "the origin", 10
    )
    bad = preflight(FOREIGN)

    assert good.headers["access-control-allow-origin"] == ORIGIN
    assert method in good.headers["access-control-allow-methods"]
    allowed = good.headers["access-control-allow-headers"].lower().replace(" ", "").split(",")
    assert set(asked.split(",")) <= set(allowed)
    assert "access-control-allow-origin" not in bad.headers


def test_a_page_can_read_pixels_and_what_it_needs_of_the_headers(imaging, registered, ann):
    _, _, one = levels(ann.study, ann.series, ann.instance)
    with imaging.app_of(ann) as app:
        headers = {"Origin": ORIGIN, "Accept": "application/dicom", "Range": "bytes=0-9"}
        answer = app.get(one, headers=headers)
        foreign = app.get(one, headers={**headers, "Origin": FOREIGN})
        denied = app.get(f"/dicomweb/studies/{generate_uid()}", headers={"Origin": ORIGIN})

    assert answer.status_code == 206
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    exposed = {one.strip() for one in answer.headers["access-control-expose-headers"].split(",")}
    needed = {"ETag", "Content-Range", "Content-Location", "Warning", "Retry-After"}
    assert exposed == {"*"} or needed <= exposed
    assert "access-control-allow-origin" not in foreign.headers
    assert denied.headers["access-control-allow-origin"] == ORIGIN  # the page can show why


def test_a_page_elsewhere_cannot_use_the_session_of_our_viewer(stack):
    answer = httpx.post(
        f"{stack.base}/dicomweb/studies",
        headers={"Origin": FOREIGN, "Cookie": "hilum=x", "Content-Type": B},
        trust_env=False,
        timeout=60,
    )

    assert answer.status_code == 401


def test_the_trail_names_client_user_patient_and_study(imaging, ann):
    mine = imaging.person_with(ann.patient_id)
    with imaging.app_of(ann) as app:
        assert app.get(f"/dicomweb/studies/{mine.study}").status_code == 200

    def about() -> list[dict]:
        events = search(imaging.operator, "AuditEvent", patient=f"Patient/{ann.id}")
        return [one for one in events if mine.study in str(one) and "an-app" in str(one)]

    [event, *_] = wait_for(about, "an AuditEvent", 60)
    assert "someone" in str(event)
