"""Signing in and out: by HTTP as an attacker would, and in a real browser as people do."""

from __future__ import annotations

import re
import shutil

import httpx
import pytest
from starlette.applications import Starlette

from access import AuditEventKind, AuditSpool
from access.browser import Cookie, WithSession
from access.sessions import Sessions
from access.users import Users
from tests.dicomweb.server import file_of, multipart, serving
from tests.fixtures.browser import Watched
from tests.ui.conftest import PASSWORD
from tests.ui.phantom import mr_series
from ui import login

COOKIE = "hilum-80"
STOW = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=test-boundary'}


@pytest.fixture
def browser(root):
    """A client that keeps cookies and tells where it comes from, like a browser."""
    with httpx.Client(
        base_url=root, headers={"Origin": root}, trust_env=False, timeout=60
    ) as client:
        yield client


def sign_in(client, username="anna", password=PASSWORD, target="/", **changes):
    form = client.get("/login").text
    nonce = re.search(r'name="form" value="([^"]+)"', form)[1]
    fields = {"form": nonce, "next": target, "username": username, "password": password}
    return client.post("/login", data={**fields, **changes})


def test_a_login_gives_a_cookie_that_scripts_and_other_sites_cannot_have(browser):
    answer = sign_in(browser, target="/ohif/")

    kept = answer.headers["set-cookie"]
    assert (answer.status_code, answer.headers["location"]) == (303, "/ohif/")
    assert kept.startswith(f"{COOKIE}=")
    assert "HttpOnly" in kept and "SameSite=lax" in kept and "Path=/" in kept


def test_over_tls_the_cookie_is_bound_to_this_host_and_to_tls():
    from starlette.responses import Response

    response = Response()
    Cookie("https://hilum.example").give(response, "x")

    assert response.headers["set-cookie"].startswith("__Host-hilum=x;")
    assert "Secure" in response.headers["set-cookie"]
    assert "Domain" not in response.headers["set-cookie"]


def test_a_session_opens_dicomweb_with_the_rights_of_its_role(browser, site):
    before = browser.get("/dicomweb/studies")
    sign_in(browser)
    after = browser.get("/dicomweb/studies")

    assert (before.status_code, after.status_code) in [(401, 200), (401, 204)]
    assert browser.delete("/dicomweb/studies/1.2.3").status_code == 403


def test_a_token_in_the_header_goes_before_the_cookie(browser, site):
    sign_in(browser)

    answer = browser.get("/dicomweb/studies", headers={"Authorization": "Bearer nonsense"})

    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("headers", "accepted"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://127.0.0.1:1"}, False),
        ({"Origin": ""}, False),
        ({}, True),
    ],
)
def test_only_our_own_pages_change_something_by_cookie(browser, root, headers, accepted):
    sign_in(browser)
    body = multipart(file_of(mr_series()[0]))

    answer = browser.post("/dicomweb/studies", content=body, headers={**STOW, **headers})

    assert answer.status_code == (200 if accepted else 403)


def test_a_request_without_any_origin_changes_nothing_by_cookie(browser, root):
    sign_in(browser)
    bare = httpx.Client(base_url=root, cookies=browser.cookies, trust_env=False, timeout=60)

    answer = bare.post("/dicomweb/studies", content=b"x", headers=STOW)

    assert answer.status_code == 403


def test_signing_out_ends_the_session_everywhere(browser):
    sign_in(browser)
    token = browser.cookies[COOKIE]
    csrf = re.search(r'name="csrf" value="([^"]+)"', browser.get("/logout").text)[1]

    by_link = browser.get("/logout")
    forged = browser.post("/logout", data={"csrf": "x"})
    still = browser.get("/dicomweb/studies").status_code
    done = browser.post("/logout", data={"csrf": csrf})
    browser.cookies.set(COOKIE, token, domain="127.0.0.1")

    assert (by_link.status_code, forged.status_code) == (200, 403)
    assert still in (200, 204)
    assert (done.status_code, done.headers["location"]) == (303, "/login")
    assert browser.get("/dicomweb/studies").status_code == 401


def test_a_session_planted_before_the_login_does_not_become_the_users(browser, root):
    sign_in(browser, "root")
    planted = browser.cookies[COOKIE]
    browser.cookies.set(f"{COOKIE}-form", "nonce", domain="127.0.0.1")

    browser.post(
        "/login", data={"form": "nonce", "username": "anna", "password": PASSWORD, "next": "/"}
    )

    assert browser.cookies[COOKIE] != planted
    old = httpx.Client(base_url=root, cookies={COOKIE: planted}, trust_env=False, timeout=60)
    assert old.get("/logout").status_code == 303  # nobody is signed in with it


@pytest.mark.parametrize(
    "changes",
    [{"form": "guessed"}, {"form": ""}, {"username": ["anna", "root"]}],
)
def test_a_form_that_is_not_ours_signs_nobody_in(browser, changes):
    answer = sign_in(browser, **changes)

    assert answer.status_code in (401, 403)
    assert COOKIE not in browser.cookies


def test_a_form_sent_by_another_site_signs_nobody_in(browser):
    browser.headers["Origin"] = "https://evil.example"

    assert sign_in(browser).status_code == 403
    assert COOKIE not in browser.cookies


@pytest.mark.parametrize(
    ("target", "goes_to"),
    [
        ("/ohif/viewer?StudyInstanceUIDs=1.2", "/ohif/viewer?StudyInstanceUIDs=1.2"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("/\\evil.example/", "/"),
        ("/\t/evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/\r\nSet-Cookie: x=y", "/"),
        ("//[bad", "/"),
        ("/ohif/?patientName=\u4e2d%20x", "/ohif/?patientName=%E4%B8%AD%20x"),
        ("", "/"),
    ],
)
def test_after_the_login_nobody_is_sent_to_another_site(browser, target, goes_to):
    assert sign_in(browser, target=target).headers["location"] == goes_to


def test_wrong_names_and_passwords_look_the_same_and_are_slowed_down(browser):
    answers = [sign_in(browser, name, "wrong password 1") for name in ("nobody-1", "root")]
    for _ in range(5):
        last = sign_in(browser, "nobody-2", "wrong password 1")
    locked = sign_in(browser, "nobody-2", "wrong password 1")

    pages = {re.sub(r'value="[^"]*"', "", one.text) for one in answers}
    assert len(pages) == 1
    assert [one.status_code for one in (*answers, last)] == [401] * 3
    assert locked.status_code == 429
    assert re.search(r"try again in \d+ seconds", locked.text)


def test_the_audit_knows_who_signed_in_and_never_what_was_typed_wrong(browser, site):
    sign_in(browser)
    browser.cookies.clear()
    sign_in(browser, "anna", "wrong password 7")
    sign_in(browser, "my password by mistake", "x")

    logins = [one for one in site.audits() if one.event is AuditEventKind.LOGIN]
    assert [one.outcome for one in logins[-3:]] == ["success", "minor", "minor"]
    assert [one.caller.subject for one in logins[-3:]] == ["anna", "anna", "unknown user"]
    assert logins[-1].caller.address == "127.0.0.1"
    assert "password 7" not in str(logins) and "by mistake" not in str(logins)


@pytest.mark.parametrize("body", [b"\xff" * 100, b"a=1&" * 1000, b"x" * 100_000])
def test_a_body_that_is_no_form_is_refused(browser, body):
    assert browser.post("/login", content=body).status_code == 403


def test_what_was_typed_comes_back_escaped_or_not_at_all(browser):
    answer = browser.get("/login", params={"next": '/"><script>alert(1)</script>'})

    assert "<script>alert" not in answer.text
    assert "form-action 'self'" in answer.headers["content-security-policy"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"


@pytest.fixture
def fragile(site, postgres, tmp_path):
    """The login alone, with a database and an audit folder that a test takes away."""
    dsn, folder = postgres.dsn("ui_tests"), tmp_path / "audit"
    users, sessions, audit = Users(dsn), Sessions(dsn), AuditSpool(folder, "test")
    cookie = Cookie("http://127.0.0.1")
    app = Starlette(routes=login.make(users, sessions, cookie, audit, "a provider").routes())
    app.add_middleware(WithSession, sessions=sessions, cookie=cookie)

    class Fragile:
        def lose_the_database(self):
            users._dsn = "postgresql://nobody@127.0.0.1:1/none"

        def lose_the_trail(self):
            audit.close()
            shutil.rmtree(folder)
            folder.write_text("no folder")

    with serving(app) as root:
        client = httpx.Client(base_url=root, headers={"Origin": root}, trust_env=False, timeout=60)
        with client:
            found = Fragile()
            found.browser = client
            yield found
    sessions.shut()


@pytest.mark.parametrize("what", ["lose_the_database", "lose_the_trail"])
@pytest.mark.parametrize("password", [PASSWORD, "a wrong password"])
def test_while_a_part_is_away_nobody_signs_in_and_the_page_says_so(fragile, what, password):
    getattr(fragile, what)()

    answer = sign_in(fragile.browser, password=password, target="/ohif/")

    assert answer.status_code == 503
    assert "try again in a moment" in answer.text
    assert 'name="next" value="/ohif/"' in answer.text
    assert COOKIE not in fragile.browser.cookies


def test_a_sign_out_that_cannot_be_written_down_is_not_called_done(fragile):
    sign_in(fragile.browser)
    csrf = re.search(r'name="csrf" value="([^"]+)"', fragile.browser.get("/logout").text)[1]
    fragile.lose_the_trail()

    answer = fragile.browser.post("/logout", data={"csrf": csrf})

    assert answer.status_code == 503
    assert "try again in a moment" in answer.text


def test_who_has_to_sign_in_again_is_asked_again_elsewhere_too(fragile):
    asked = fragile.browser.get("/login", params={"next": "/auth/steps/x", "again": "1"}).text
    usual = fragile.browser.get("/login", params={"next": "/auth/steps/x"}).text

    assert 'href="/login/federated?again=1&amp;next=/auth/steps/x"' in asked
    assert 'href="/login/federated?next=/auth/steps/x"' in usual


def test_people_sign_in_and_out_with_a_browser(root, chromium, tmp_path):
    watched = Watched(chromium)
    page = watched.page

    page.goto(f"{root}/")
    page.get_by_role("link", name="Sign in").click()
    page.get_by_label("Username").fill("anna")
    page.get_by_label("Password").fill("wrong password 3")
    page.keyboard.press("Enter")
    alert = page.get_by_role("alert").inner_text()
    page.screenshot(path=tmp_path / "login.png")
    page.get_by_label("Username").fill("anna")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("Dr Anna Muster").wait_for()
    page.screenshot(path=tmp_path / "landing.png")
    page.get_by_role("link", name="Sign out").click()
    page.screenshot(path=tmp_path / "logout.png")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(f"{root}/login")
    page.close()

    assert "wrong" in alert
    # The one refused attempt is the only thing the browser had to complain about.
    assert [one for one in watched.errors if "401" not in one] == []
