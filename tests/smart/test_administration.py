"""The registries of users and apps: pages for administrators, and the same rules by command."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
from html import unescape

import pytest
from starlette.requests import Request

from access import AuditEventKind, AuditSpool
from access.audit import AuditUnavailable
from access.users import User
from authorization.pages.door import Door
from tests.smart.clinic import PASSWORD, Person, field, told


@pytest.fixture
def root(clinic):
    return clinic.person("clinic-root")


@pytest.fixture
def name():
    return f"a-{secrets.token_hex(4)}"


def post(person, path, **fields):
    page = person.http.get(path)
    fields = {"csrf": field(page.text, "csrf"), **fields}
    return person.http.post(path, data={n: v for n, v in fields.items() if v is not None})


def hilum(clinic, *words, typed=""):
    done = subprocess.run(
        [sys.executable, "-m", "hilum", *words],
        env=clinic.stack.environment,
        input=typed,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


APP = {
    "name": "An app",
    "kind": "public",
    "scopes": "launch/patient patient/*.rs",
    "redirect_uris": "https://a.example/x\nhttps://a.example/y",
    "origins": "https://a.example",
    "refresh": "1",
}


@pytest.mark.parametrize("path", ["/admin/clients", "/admin/users", "/admin/clients/clinic-app"])
def test_only_administrators_come_in(clinic, path):
    stranger, anna = Person(clinic.base), clinic.person("clinic-anna")

    assert stranger.http.get(path).headers["location"].startswith("/login?next=")
    assert stranger.http.post(path, data={"do": "remove"}).status_code == 303
    assert anna.http.get(path).status_code == 403
    assert anna.http.post(path, data={"do": "remove"}).status_code == 403


def test_an_app_is_registered_changed_and_removed(clinic, root, name):
    added = post(root, "/admin/clients", client_id=name, **APP)
    page = root.http.get(f"/admin/clients/{name}")
    changed = post(
        root, f"/admin/clients/{name}", **{**APP, "do": "change", "name": "Other", "trusted": "1"}
    )
    after = clinic.clients.find(name)
    removed = post(root, f"/admin/clients/{name}", do="remove")

    assert (added.status_code, changed.status_code, removed.status_code) == (303, 303, 303)
    assert "https://a.example/y" in page.text
    assert after.redirect_uris == ("https://a.example/x", "https://a.example/y")
    assert (after.name, after.trusted) == ("Other", True)
    assert clinic.clients.find(name) is None


def test_a_secret_is_shown_once_and_ends_with_the_next(clinic, root, name):
    first = post(root, "/admin/clients", client_id=name, **{**APP, "kind": "symmetric"})
    again = root.http.get(f"/admin/clients/{name}")
    second = post(root, f"/admin/clients/{name}", do="rotate")

    secrets_shown = [_secret(one.text) for one in (first, second)]
    assert _secret(again.text) is None
    assert not clinic.clients.is_secret(name, secrets_shown[0])
    assert clinic.clients.is_secret(name, secrets_shown[1])


def _secret(page):
    found = re.search(r'data-testid="secret">([^<]+)<', page)
    return unescape(found[1]) if found else None


@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uris": "http://a.example/x"},
        {"scopes": ""},
        {"kind": "king"},
        {"kind": "asymmetric"},
        {"jwks": "{not json"},
        {"jwks": '{"a":' * 1_500 + "1" + "}" * 1_500},
        {"client_id": "a b"},
        {"backend": "1"},
        {"name": ""},
    ],
)
def test_what_is_wrong_is_said_and_what_was_typed_stays(clinic, root, name, changes):
    fields = {"client_id": name, **APP, "launch_url": "https://a.example/kept", **changes}

    page = post(root, "/admin/clients", **fields)

    assert page.status_code == 400
    assert 'role="alert"' in page.text
    assert "https://a.example/kept" in page.text
    assert clinic.clients.find(name) is None


def test_a_disabled_app_loses_its_tokens_at_once(clinic, root, name):
    post(root, "/admin/clients", client_id=name, **{**APP, "trusted": "1", "scopes": "user/*.rs"})
    app, anna = clinic.clients.find(name), clinic.person("clinic-anna")
    anna.ask(app, "user/Patient.rs")
    headers = {"Authorization": f"Bearer {anna.tokens(app)['access_token']}"}
    before = Person(clinic.base).http.get("/fhir/Patient?_count=1", headers=headers)

    post(root, f"/admin/clients/{name}", do="change", **{**APP, "disabled": "1"})
    after = Person(clinic.base).http.get("/fhir/Patient?_count=1", headers=headers)

    assert (before.status_code, after.status_code) == (200, 401)


def test_a_user_is_added_changed_and_disabled_with_what_apps_were_allowed(clinic, root, name):
    fields = {"name": "N", "role": "radiologist", "fhir_user": "Practitioner/clinic-anna"}
    added = post(root, "/admin/users", username=name, password=PASSWORD, **fields)
    person, app = clinic.person(name), clinic.register(trusted=True)
    person.ask(app, "user/Patient.rs openid fhirUser")
    headers = {"Authorization": f"Bearer {person.tokens(app)['access_token']}"}
    before = Person(clinic.base).http.get("/fhir/Patient?_count=1", headers=headers)

    changed = post(root, f"/admin/users/{name}", do="change", disabled="1", **fields)
    after = Person(clinic.base).http.get("/fhir/Patient?_count=1", headers=headers)

    assert (added.status_code, changed.status_code) == (303, 303)
    assert (before.status_code, after.status_code) == (200, 401)
    assert person.sign_in(name).status_code == 401


@pytest.mark.parametrize(
    "fields",
    [
        {"role": "patient", "fhir_user": "Practitioner/1"},
        {"role": "viewer", "fhir_user": "Patient/1"},
        {"role": "king"},
        {"role": "viewer", "password": "short"},
    ],
)
def test_what_is_no_user_is_refused_on_the_page(clinic, root, name, fields):
    page = post(root, "/admin/users", **{"username": name, "password": PASSWORD, **fields})

    assert page.status_code == 400
    assert 'role="alert"' in page.text
    assert PASSWORD not in page.text


def test_a_lock_out_is_reset(clinic, root, name):
    clinic.add_user(User(name, "", "viewer"))
    person = Person(clinic.base)
    wrong = [person.sign_in(name, "wrong password 1").status_code for _ in range(7)]

    post(root, f"/admin/users/{name}", do="unlock")

    assert wrong[-1] == 429
    assert person.sign_in(name).status_code == 303


def test_forms_of_other_sites_change_nothing(clinic, root, name):
    clinic.add_user(User(name, "", "viewer"))
    page = root.http.get(f"/admin/users/{name}")
    fields = {"csrf": field(page.text, "csrf"), "do": "remove"}
    path = f"/admin/users/{name}"

    foreign = root.http.post(path, data=fields, headers={"Origin": "https://evil.example"})
    guessed = root.http.post(path, data={**fields, "csrf": "guessed"})

    assert (foreign.status_code, guessed.status_code) == (403, 403)
    assert clinic.users.find(name).role == "viewer"


def test_changes_are_in_the_trail(clinic, root, name):
    fields = {"role": "radiologist", "fhir_user": "Practitioner/clinic-anna"}
    post(root, "/admin/users", username=name, password=PASSWORD, role="viewer")
    post(root, f"/admin/users/{name}", do="change", **fields, disabled="1")
    post(root, f"/admin/users/{name}", do="password", password="short")
    post(root, "/admin/clients", client_id=name, **APP)
    post(root, f"/admin/clients/{name}", do="remove")

    found = changes_of(clinic, name)
    assert {who for who, _, _ in found} == {"clinic-root"}
    assert [(outcome, what) for _, outcome, what in found] == [
        ("success", f"user {name} added: role viewer"),
        ("success", f"user {name}: changed: role radiologist, Practitioner/clinic-anna, disabled"),
        ("success", f"user {name}: new password"),
        ("minor", f"not done: user {name}: new password: WeakPassword"),
        (
            "success",
            f"client {name} registered: public, scopes launch/patient patient/*.rs,"
            " https://a.example/x, https://a.example/y",
        ),
        ("success", f"client {name} removed"),
    ]


def test_what_cannot_be_written_down_is_not_changed(tmp_path):
    audit, done = AuditSpool(tmp_path / "audit", "test"), []
    (tmp_path / "audit").rmdir()
    (tmp_path / "audit").write_text("no folder")
    request = Request({"type": "http", "headers": [], "client": ("127.0.0.1", 1)})
    door = Door(None, None, None, audit)

    with pytest.raises(AuditUnavailable):
        door.recorded(request, User("root", "", "administrator"), "x", lambda: done.append(1))

    assert done == []


def changes_of(clinic, name):
    """Who, outcome and detail of each change of rights in the trail that names this."""
    return [
        (one.caller.subject, one.outcome, one.detail)
        for one in clinic.trail()
        if one.event is AuditEventKind.UPDATE
        and name in (one.detail or "").replace(":", "").split()
    ]


def test_a_new_password_ends_what_apps_were_allowed(clinic, root, name):
    clinic.add_user(User(name, "", "radiologist"))
    person, app = clinic.person(name), clinic.register(trusted=True)
    person.ask(app, "user/Patient.rs")
    headers = {"Authorization": f"Bearer {person.tokens(app)['access_token']}"}

    post(root, f"/admin/users/{name}", do="password", password=f"another {PASSWORD}")

    assert root.http.get("/fhir/Patient", headers=headers).status_code == 401


def test_what_an_app_was_allowed_is_shown_and_taken_back(clinic):
    anna, app = clinic.person("clinic-anna"), clinic.register(client_id="clinic-taken")
    anna.ask(app, "user/Patient.rs offline_access")
    anna.send("consent", scope=["user/Patient.rs", "offline_access"], remember="1")
    tokens = anna.tokens(app)
    shown = told(anna.http.get("/auth/apps").text)

    answer = post(anna, "/auth/apps", client_id=app.client_id)
    written = changes_of(clinic, app.client_id)
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    read = Person(clinic.base).http.get("/fhir/Patient?_count=1", headers=headers)
    form = {
        "grant_type": "refresh_token",
        "refresh_token": tokens["refresh_token"],
        "client_id": app.client_id,
    }
    refreshed = Person(clinic.base).http.post("/auth/token", data=form)

    assert "Growth chart" in shown and "personal details" in shown
    assert answer.status_code == 303
    assert [who for who, _, what in written if "took back" in what] == ["clinic-anna"]
    assert (read.status_code, refreshed.status_code) == (401, 400)
    assert "Allow Growth chart?" in anna.ask(app, "user/Patient.rs").text


@pytest.mark.slow
def test_the_commands_do_the_same(clinic, name, tmp_path):
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"keys": []}))
    good = ["--redirect-uri", "https://a.example/x", "--scope", "user/Patient.rs", "--trusted"]

    added = hilum(clinic, "clients", "add", name, "--kind", "symmetric", *good)
    twice = hilum(clinic, "clients", "add", name, *good)
    no_keys = hilum(
        clinic, "clients", "add", "x", "--kind", "asymmetric", "--jwks", str(keys), *good
    )
    rotated = hilum(clinic, "clients", "rotate-secret", name)
    changed = hilum(clinic, "clients", "set", name, "--name", "Other [/dr]", "--no-refresh")
    listed = hilum(clinic, "clients", "list")
    client = clinic.clients.find(name)
    removed = hilum(clinic, "clients", "remove", name)
    missing = hilum(clinic, "clients", "remove", name)

    assert [one[0] for one in (added, rotated, changed, listed, removed)] == [0] * 5
    assert [one[0] for one in (twice, no_keys, missing)] == [1] * 3
    assert "secret, shown only now" in added[1] and "secret, shown only now" in rotated[1]
    assert (client.name, client.grant_types) == ("Other [/dr]", ("authorization_code",))
    assert "[/dr]" in listed[1]
    assert [what.partition(":")[0] for _, _, what in changes_of(clinic, name)] == [
        f"client {name} registered",
        f"client {name} registered",
        "not done",
        f"client {name}",
        f"client {name} changed",
        f"client {name} removed",
    ]
    assert "Traceback" not in twice[1] + no_keys[1] + missing[1]


@pytest.mark.slow
def test_disabling_by_command_ends_what_apps_were_allowed_within_seconds(clinic, name):
    from tests.fixtures.running import wait_for

    added = hilum(clinic, "users", "add", name, "--role", "radiologist", typed=f"{PASSWORD}\n")
    person, app = clinic.person(name), clinic.register(trusted=True)
    person.ask(app, "user/Patient.rs")
    headers = {"Authorization": f"Bearer {person.tokens(app)['access_token']}"}
    http = Person(clinic.base).http

    disabled = hilum(clinic, "users", "disable", name)

    assert (added[0], disabled[0]) == (0, 0)
    wait_for(
        lambda: http.get("/fhir/Patient?_count=1", headers=headers).status_code == 401,
        "the token to end",
        20,
    )
