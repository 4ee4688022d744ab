"""Sign-in, pickers and consent, as a browser without scripts goes through them."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from access import AuditEventKind
from authorization.clients import CODE
from tests.authorization.site import claims_of
from tests.smart.clinic import APP, Person, rows, ticked, told

READ = "launch/patient openid fhirUser patient/*.rs"


@pytest.fixture
def anna(clinic):
    return clinic.person("clinic-anna")


def choose(person, title, do="patient"):
    found = rows(person.page.text)
    return person.send(do, value=found[title])


def search(person, **fields):
    return person.send("search", **{"name": "", "birthdate": "", "identifier": "", **fields})


def test_a_stranger_signs_in_first_and_comes_back_to_the_same_request(clinic):
    app, stranger = clinic.register(), Person(clinic.base)

    page = stranger.ask(app, READ)

    assert "Sign in" in page.text
    assert page.url.params["next"].startswith("/auth/steps/")


def test_a_patient_scope_is_never_granted_without_a_patient(clinic, anna):
    app = clinic.register()

    first = anna.ask(app, "patient/*.rs")
    too_early = anna.send("consent", scope="patient/*.rs")
    search(anna, name="zweig")
    choose(anna, "Zweig, Änne")
    anna.send("consent", scope="patient/*.rs")
    granted = anna.tokens(app)

    assert "Choose a patient" in first.text
    assert "Choose a patient" in too_early.text
    assert granted["patient"] == clinic.patients["Zweig"]
    assert granted["need_patient_banner"] is True


def test_a_visit_and_a_study_are_chosen_from_those_of_the_patient(clinic, anna):
    app = clinic.register()
    scope = f"{READ} launch/encounter launch/imagingstudy"

    anna.ask(app, scope)
    search(anna, name="zweig")
    choose(anna, "Zweig, Änne")
    visits = rows(anna.page.text)
    choose(anna, "ambulatory", "encounter")
    studies = told(anna.page.text)
    anna.send("study", value="")
    asked = ticked(anna.page.text)
    anna.send("consent", scope=READ.split())
    granted = anna.tokens(app)

    assert list(visits) == ["ambulatory"]
    assert "No studies" in studies
    assert "launch/imagingstudy" not in asked
    assert granted["encounter"] == clinic.encounter
    assert "fhirContext" not in granted


def test_the_chosen_study_is_in_the_fhir_context_and_belongs_to_the_patient(clinic, anna):
    app = clinic.register()
    scope = "launch/imagingstudy patient/*.rs"

    anna.ask(app, scope)
    foreign = anna.send("patient", value=clinic.patients["Zweig"])
    refused = anna.send("study", value=clinic.study["id"])
    person = clinic.person("clinic-anna")
    person.ask(app, scope)
    person.send("patient", value=clinic.patients["Study"])
    listed = person.page.text
    person.send("study", value=clinic.study["id"])
    chosen = told(person.page.text)
    person.send("consent", scope="patient/*.rs")
    granted = person.tokens(app)

    assert "Choose an imaging study" in foreign.text
    assert refused.status_code == 404
    assert f'value="{clinic.study["id"]}"' in listed
    assert "It will begin with" in chosen
    assert granted["fhirContext"] == [{"reference": f"ImagingStudy/{clinic.study['id']}"}]
    assert granted["patient"] == clinic.patients["Study"]


def test_a_user_who_is_a_patient_gets_their_own_record_without_a_picker(clinic):
    app, aenne = clinic.register(), clinic.person("clinic-aenne")

    page = aenne.ask(app, READ)
    aenne.send("patient", value=clinic.patients["Zimmer"])
    aenne.send("consent", scope=READ.split())
    granted = aenne.tokens(app)

    assert "Allow Growth chart?" in page.text
    assert granted["patient"] == clinic.patients["Zweig"]


def test_consent_says_each_scope_in_words_and_grants_what_stays_ticked(clinic, anna):
    app = clinic.register()
    scope = "launch/patient openid patient/ImagingStudy.rs patient/Observation.crus"
    granular = "patient/Condition.rs?category=problem-list-item"

    anna.ask(app, f"{scope} {granular}")
    anna.send("patient", value=clinic.patients["Zweig"])
    page = anna.page.text
    anna.send("consent", scope=["patient/ImagingStudy.rs", "patient/Patient.rs"])
    granted = anna.tokens(app)

    words = told(page)
    assert "See imaging studies and their pictures, of this patient" in words
    assert "the problem list only" in words
    assert "Zweig, Änne born 1950-02-03" in words
    assert "changes data" in words
    assert granted["scope"] == "launch/patient patient/ImagingStudy.rs"
    assert "id_token" not in granted


def test_granular_scopes_are_asked_for_one_by_one(clinic, anna):
    app = clinic.register()
    first = "patient/Observation.rs?category=laboratory"
    second = "patient/Observation.rs?category=vital-signs"

    anna.ask(app, f"{first} {second} patient/Observation.rs?value-quantity=1")
    anna.send("patient", value=clinic.patients["Zweig"])
    offered = ticked(anna.page.text)
    anna.send("consent", scope=[first, second])
    both = anna.tokens(app)["scope"]
    anna.ask(app, f"{first} {second}")
    anna.send("patient", value=clinic.patients["Zweig"])
    anna.send("consent", scope=[second])

    assert offered == both.split() == [first, second]
    assert anna.tokens(app)["scope"] == second


def test_consent_is_remembered_until_the_scopes_grow(clinic, anna):
    app = clinic.register()
    small, large = "user/Patient.rs openid", "user/Patient.rs openid user/Observation.rs"

    anna.ask(app, small)
    anna.send("consent", scope=small.split(), remember="1")
    first = anna.tokens(app)
    again = anna.ask(app, small)
    second = anna.tokens(app)
    grown = anna.ask(app, large)
    forced = anna.ask(app, small, prompt="consent")
    other = clinic.person("clinic-bert").ask(app, small)

    assert first["scope"] == second["scope"] == small
    assert "Allow" not in again.text
    assert "Allow Growth chart?" in grown.text
    assert "Allow Growth chart?" in forced.text
    assert "Allow Growth chart?" in other.text


def test_what_was_unticked_and_remembered_stays_refused(clinic, anna):
    app = clinic.register()

    anna.ask(app, "user/Patient.rs user/Observation.rs")
    anna.send("consent", scope="user/Patient.rs", remember="1")
    anna.ask(app, "user/Patient.rs user/Observation.rs")

    assert anna.tokens(app)["scope"] == "user/Patient.rs"


def test_a_trusted_client_asks_for_no_consent(clinic, anna):
    app = clinic.register(trusted=True)

    anna.ask(app, "user/Patient.rs openid")

    assert anna.tokens(app)["scope"] == "user/Patient.rs openid"


@pytest.mark.parametrize("fields", [{"do": "deny"}, {"do": "consent"}])
def test_a_no_goes_back_to_the_app_and_is_in_the_trail(clinic, anna, fields):
    app = clinic.register()

    anna.ask(app, "user/Patient.rs")
    anna.send(**fields)

    answered = anna.answered()
    assert (answered["error"], answered["state"]) == ("access_denied", "s t/ä")
    assert "code" not in answered


def test_the_scopes_offered_are_those_that_the_user_may_have(clinic):
    from access.users import User

    clinic.add_user(User("clinic-view", "", "viewer"))
    view, app = clinic.person("clinic-view"), clinic.register()

    view.ask(app, "user/ImagingStudy.rs user/Observation.rs patient/Observation.cruds")
    offered = ticked(view.page.text)
    view.ask(app, "user/Observation.rs")

    assert offered == ["user/ImagingStudy.rs"]
    assert view.answered()["error"] == "access_denied"


def test_another_browser_cannot_answer_a_request(clinic, anna):
    app = clinic.register()
    anna.ask(app, "user/Patient.rs")
    other = clinic.person("clinic-bert")

    page = other.http.get(anna.page.url.path)
    sent = other.http.post(anna.page.url.path, data={"do": "consent", "scope": "user/Patient.rs"})

    assert (page.status_code, sent.status_code) == (410, 410)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", ""])
def test_a_form_of_another_site_grants_nothing(clinic, anna, origin):
    app = clinic.register()
    anna.ask(app, "user/Patient.rs")
    anna.http.headers["Origin"] = origin

    answer = anna.send("consent", scope="user/Patient.rs")

    assert answer.status_code == 403
    assert "location" not in answer.headers


def test_a_form_without_its_secret_grants_nothing(clinic, anna):
    app = clinic.register()
    anna.ask(app, "user/Patient.rs")

    answer = anna.send("consent", scope="user/Patient.rs", csrf="guessed")

    assert answer.status_code == 403


def test_an_answer_counts_once(clinic, anna):
    app = clinic.register()
    first = anna.ask(app, "user/Patient.rs")
    anna.send("consent", scope="user/Patient.rs")
    anna.page = first

    assert anna.send("consent", scope="user/Patient.rs").status_code == 410


def test_a_login_is_asked_for_again_where_the_app_wants_it(clinic, anna):
    app = clinic.register()

    page = anna.ask(app, "user/Patient.rs", prompt="login")
    anna.sign_in("clinic-anna")
    after = anna.follow(anna.http.get(dict(page.url.params)["next"]))

    assert "Sign in" in page.text
    assert "Allow Growth chart?" in after.text


def test_a_login_that_is_older_than_an_app_takes_is_asked_for_again(clinic):
    app, person = clinic.register(trusted=True), clinic.person("clinic-anna")
    with psycopg.connect(clinic.dsn) as connection:
        connection.execute(
            "update access.session set (created_at, signed_in_at) ="
            " (now() - interval '1 hour', now() - interval '1 hour') where username = %s",
            ["clinic-anna"],
        )

    older = person.ask(app, "openid user/Patient.rs", max_age="7200").status_code
    first = claims_of(person.tokens(app)["id_token"])["auth_time"]
    page = person.ask(app, "openid user/Patient.rs", max_age="1800")
    person.sign_in("clinic-anna")
    person.follow(person.http.get(dict(page.url.params)["next"]))
    second = claims_of(person.tokens(app)["id_token"])["auth_time"]

    assert older == 200
    assert "Sign in" in page.text
    assert second - first >= 3_600


def test_an_app_that_takes_no_login_from_before_gets_a_new_one_and_no_more(clinic, anna):
    app = clinic.register(trusted=True)

    page = anna.ask(app, "user/Patient.rs", max_age="0")
    anna.sign_in("clinic-anna")
    anna.follow(anna.http.get(dict(page.url.params)["next"]))

    assert "Sign in" in page.text
    assert "code" in anna.answered()


def test_a_client_disabled_in_the_meantime_is_sent_away(clinic, anna):
    app = clinic.register()
    anna.ask(app, "user/Patient.rs")
    clinic.clients.change(replace(app, disabled=True))
    anna.send("consent", scope="user/Patient.rs")

    assert anna.answered()["error"] == "unauthorized_client"
    assert "code" not in anna.answered()


def test_nobody_is_sent_to_an_address_that_was_taken_from_the_app_meanwhile(clinic, anna):
    app = clinic.register()
    anna.ask(app, "user/Patient.rs")
    clinic.clients.change(replace(app, redirect_uris=("https://app.example.org/other",)))

    answer = anna.send("consent", scope="user/Patient.rs")

    assert answer.status_code == 410
    assert "location" not in answer.headers and "code=" not in answer.text


def test_no_page_lets_scripts_or_frames_in_and_none_is_stored(clinic, anna):
    page = anna.ask(clinic.register(), READ)

    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "form-action 'self' https://app.example.org;" in policy
    assert page.headers["cache-control"] == "no-store"
    assert "<script" not in page.text and "style=" not in page.text


def test_an_app_whose_name_is_markup_is_shown_as_text(clinic, anna):
    app = clinic.register(name="<img src=x onerror=alert(1)>")

    page = anna.ask(app, "user/Patient.rs")

    assert "<img src=x" not in page.text
    assert "&lt;img src=x" in page.text


def test_the_style_is_served_and_its_url_names_its_content(clinic, anna):
    from authorization.pages.style import Style

    app = clinic.register(trusted=True)
    anna.ask(app, "user/Patient.rs")
    url = anna.tokens(app)["smart_style_url"]

    answer = anna.http.get(url, headers={"Origin": "https://app.example.org"})

    assert answer.status_code == 200
    assert answer.json()["color_background"].startswith("#")
    assert answer.headers["access-control-allow-origin"]
    assert "immutable" in answer.headers["cache-control"]
    assert Style(clinic.base).url == url
    assert Style(clinic.base, {"color_text": "#000000"}).url != url
    assert anna.http.get(f"{clinic.base}/auth/style/0123456789abcdef.json").status_code == 404


def test_the_trail_names_the_app_the_user_and_the_patient_of_a_refusal(clinic, anna):
    app = clinic.register(grant_types=(CODE,))
    anna.ask(app, READ)
    anna.send("patient", value=clinic.patients["Zweig"])
    anna.send("deny")

    records = _denials(clinic)
    assert records[-1].caller.subject == "clinic-anna"
    assert records[-1].caller.client == APP.client_id
    assert records[-1].patient == f"Patient/{clinic.patients['Zweig']}"


def _denials(clinic):
    from access import SpoolReader

    folder = clinic.stack.folder / "var" / "audit"
    batch = SpoolReader(folder).next_batch(100_000)
    return [
        one.record
        for one in batch.records
        if one.record.event is AuditEventKind.DENIED and "said no" in (one.record.detail or "")
    ]
