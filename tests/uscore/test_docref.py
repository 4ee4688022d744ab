"""U1: `$docref` finds a patient's documents, by GET and by POST."""

from __future__ import annotations

import pytest

from tests.uscore.data.making import LOINC, PREFIX

pytestmark = [pytest.mark.slow, pytest.mark.stack]

AMELIA = f"{PREFIX}amelia"
NOTE, DRAFT = f"{PREFIX}note", f"{PREFIX}draft"
PROFILE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-documentreference"


@pytest.fixture(scope="module")
def ask(client, loaded):
    """Asks by GET; gives the ids that are found."""

    def get(**parameters):
        answer = client.get("/fhir/DocumentReference/$docref", params=parameters)
        assert answer.status_code == 200, answer.text
        bundle = answer.json()
        assert bundle["type"] == "searchset"
        return [entry["resource"]["id"] for entry in bundle.get("entry", [])]

    return get


def parameters(*pairs):
    return {
        "resourceType": "Parameters",
        "parameter": [{"name": name, **value} for name, value in pairs],
    }


def test_without_dates_the_current_documents_are_found(ask):
    assert ask(patient=AMELIA) == [NOTE]


@pytest.mark.parametrize(
    ("dates", "found"),
    [
        ({"start": "2024-03-01"}, {NOTE, DRAFT}),
        ({"start": "2024"}, {NOTE, DRAFT}),
        ({"start": "2024-03-10"}, {NOTE}),
        ({"end": "2024-03-09T23:59:59Z"}, {DRAFT}),
        ({"start": "2024-03-10T00:00:00Z", "end": "2024-03-11T00:00:00Z"}, {NOTE}),
        ({"end": "2023"}, set()),
    ],
)
def test_dates_are_those_of_the_care(ask, dates, found):
    assert set(ask(patient=AMELIA, **dates)) == found


def test_the_type_and_the_profile_narrow(ask):
    assert ask(patient=AMELIA, type=f"{LOINC}|18748-4") == [NOTE]
    assert ask(patient=AMELIA, type=f"{LOINC}|34133-9") == []
    assert ask(patient=AMELIA, profile=PROFILE) == [NOTE]
    assert ask(patient=AMELIA, profile="https://example.org/none") == []


def test_a_patient_who_is_not_there_has_no_documents(ask):
    assert ask(patient="nobody-here") == []


def test_nothing_is_made_on_demand(ask):
    assert ask(patient=AMELIA, **{"on-demand": "true"}) == []
    assert ask(patient=AMELIA, **{"on-demand": "false"}) == [NOTE]


def test_post_says_the_same_as_get(client, loaded, ask):
    asked = parameters(
        ("patient", {"valueId": AMELIA}),
        ("start", {"valueDateTime": "2024-03-10T00:00:00Z"}),
        ("type", {"valueCoding": {"system": LOINC, "code": "18748-4"}}),
        ("on-demand", {"valueBoolean": False}),
    )

    answer = client.post("/fhir/DocumentReference/$docref", json=asked)

    found = [entry["resource"]["id"] for entry in answer.json()["entry"]]
    assert found == ask(patient=AMELIA, start="2024-03-10", type=f"{LOINC}|18748-4") == [NOTE]


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"patient": ""},
        {"patient": AMELIA, "colour": "red"},
        {"patient": AMELIA, "on-demand": "perhaps"},
        {"patient": [AMELIA, "b"]},
    ],
)
def test_what_is_not_understood_is_refused(client, query):
    answer = client.get("/fhir/DocumentReference/$docref", params=query)

    assert answer.status_code == 400
    assert answer.json()["resourceType"] == "OperationOutcome"


@pytest.mark.parametrize(
    "body",
    [
        {"resourceType": "Patient"},
        {"resourceType": "Parameters", "parameter": [{"name": "patient", "valueInteger": 1}]},
        {"resourceType": "Parameters", "parameter": [{"valueId": "x"}]},
        {"resourceType": "Parameters", "parameter": [{"name": "type", "valueCoding": "x"}]},
        {"resourceType": "Parameters", "parameter": ["patient"]},
        ["x"],
    ],
)
def test_a_body_of_another_kind_is_refused(client, body):
    answer = client.post("/fhir/DocumentReference/$docref", json=body)

    assert answer.status_code == 400
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_a_token_without_documents_is_refused(stack):
    with stack.client("system/Patient.rs") as other:
        answer = other.get("/fhir/DocumentReference/$docref", params={"patient": AMELIA})

    assert answer.status_code == 403
