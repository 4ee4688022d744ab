"""The search of the patient picker: what is found, page by page, and what cannot be asked."""

from __future__ import annotations

import pytest

from tests.smart.clinic import field, rows

READ = "launch/patient openid fhirUser patient/*.rs"


@pytest.fixture
def anna(clinic):
    return clinic.person("clinic-anna")


def search(person, **fields):
    return person.send("search", **{"name": "", "birthdate": "", "identifier": "", **fields})


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"name": "zweig"}, {"Zweig, Änne"}),
        ({"name": "änne zweig"}, {"Zweig, Änne"}),
        ({"birthdate": "1961-07-08"}, {"Zimmer, Otto"}),
        ({"identifier": "clinic-zimmer-otto"}, {"Zimmer, Otto"}),
        ({"name": "zweig", "birthdate": "1961-07-08"}, set()),
        ({"name": "nobody-of-this-name"}, set()),
    ],
)
def test_patients_are_found_by_name_birth_date_and_identifier(clinic, anna, wanted, found):
    anna.ask(clinic.register(), READ)

    page = search(anna, **wanted)

    assert page.status_code == 200
    assert set(rows(page.text)) == found


@pytest.mark.parametrize(
    "wanted", [{}, {"birthdate": "8.7.1961"}, {"name": "x" * 200}, {"identifier": "a\tb"}]
)
def test_a_search_that_cannot_be_made_says_why(clinic, anna, wanted):
    anna.ask(clinic.register(), READ)

    page = search(anna, **wanted)

    assert page.status_code == 400
    assert 'role="alert"' in page.text


def test_many_patients_come_page_by_page_and_none_twice(clinic, anna):
    anna.ask(clinic.register(), READ)
    page = search(anna, name="zahlreich")
    seen = list(rows(page.text))
    while "More patients" in page.text:
        page = search(anna, name="zahlreich", page=field(page.text, "page"))
        seen += rows(page.text)

    assert len(seen) == len(set(seen)) == 23
    assert seen == sorted(seen)


@pytest.mark.parametrize(
    "link", ["//[", "/fhir/../auth/apps?x", "https://evil.example/fhir?x", "/fhir?a\nb", "/fhirs?x"]
)
def test_a_page_of_a_search_that_is_none_of_ours_is_refused(clinic, anna, link):
    anna.ask(clinic.register(), READ)

    assert search(anna, name="zweig", page=link).status_code == 400


def test_a_page_of_other_things_lists_no_patients(clinic, anna):
    anna.ask(clinic.register(), READ)

    page = search(anna, name="zweig", page="/fhir/Encounter?_id=clinic-visit")

    assert (page.status_code, rows(page.text)) == (200, {})
