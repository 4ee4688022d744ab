"""What `$validate` finds with the profiles and terminology of `profiles/`."""

from __future__ import annotations

import pytest

from records import codes
from tools import code_profiles
from tools.code_profiles import PROFILES

US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition/"
OURS = "https://hilum.dev/fhir/StructureDefinition/"
LOINC = "http://loinc.org"


def issues(hapi, resource, severity=("error", "fatal")):
    answer = hapi.client.post(f"{resource['resourceType']}/$validate", json=resource)
    assert answer.status_code in (200, 412), answer.text
    return [i["diagnostics"] for i in answer.json()["issue"] if i["severity"] in severity]


def us_core_patient(**changes):
    return {
        "resourceType": "Patient",
        "meta": {"profile": [f"{US_CORE}us-core-patient"]},
        "text": {
            "status": "generated",
            "div": '<div xmlns="http://www.w3.org/1999/xhtml">Test Phantom</div>',
        },
        "identifier": [{"system": "https://hilum.dev/fhir/sid/test", "value": "1"}],
        "name": [{"family": "Phantom", "given": ["Test"]}],
        "gender": "female",
    } | changes


def race(code, display):
    category = {"system": "urn:oid:2.16.840.1.113883.6.238", "code": code, "display": display}
    return {
        "url": f"{US_CORE}us-core-race",
        "extension": [
            {"url": "ombCategory", "valueCoding": category},
            {"url": "text", "valueString": display},
        ],
    }


def report(category, *profiles):
    return {
        "resourceType": "DiagnosticReport",
        "meta": {"profile": list(profiles)},
        "identifier": [{"system": "https://hilum.dev/fhir/sid/report", "value": "1"}],
        "status": "preliminary",
        "category": [{"coding": [category]}],
        "code": {"coding": [codes.IMAGING_NARRATIVE.coding]},
        "subject": {"reference": "Patient/x"},
        "effectiveDateTime": "2024-01-01T10:00:00Z",
        "imagingStudy": [{"reference": "ImagingStudy/x"}],
    }


def observation(**changes):
    return {
        "resourceType": "Observation",
        "meta": {"profile": [f"{US_CORE}us-core-observation-clinical-result"]},
        "status": "preliminary",
        "category": [{"coding": [codes.IMAGING.coding]}],
        "code": codes.concept(codes.TUMOUR_SIZE, codes.VOLUME),
        "subject": {"reference": "Patient/x"},
        "effectiveDateTime": "2024-01-01T10:00:00Z",
        "valueQuantity": codes.quantity(1.5, codes.MILLILITRE),
    } | changes


def test_a_right_us_core_patient_passes(hapi):
    right = us_core_patient(extension=[race("2106-3", "White")], birthDate="1970-01-01")

    assert issues(hapi, right) == []


def test_a_us_core_patient_without_gender_fails(hapi):
    wrong = us_core_patient()
    del wrong["gender"]

    [problem] = issues(hapi, wrong)
    assert "Patient.gender" in problem


def test_a_race_code_that_does_not_exist_fails(hapi):
    wrong = us_core_patient(extension=[race("9999-9", "Martian")])

    assert any("9999-9" in problem for problem in issues(hapi, wrong))


def test_a_report_in_the_radiology_category_passes_us_core_and_ours(hapi):
    right = report(
        codes.RADIOLOGY.coding,
        f"{US_CORE}us-core-diagnosticreport-note",
        f"{OURS}hilum-diagnostic-report",
    )

    assert issues(hapi, right) == []


@pytest.mark.parametrize("code", ["LP29684-4", "LP7839-6", "18748-4"])
def test_a_report_with_a_wrong_category_fails_ours(hapi, code):
    wrong = report({"system": LOINC, "code": code}, f"{OURS}hilum-diagnostic-report")

    assert any("category" in problem for problem in issues(hapi, wrong))


def test_a_measurement_passes(hapi):
    assert issues(hapi, observation()) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"valueQuantity": {"value": 1, "system": codes.UCUM, "code": "mLL"}}, "mLL"),
        ({"effectiveDateTime": "2024-13-01"}, "2024-13-01"),
        ({"subject": None}, "subject"),
        ({"code": codes.concept(codes.Code(codes.BRAIN_LESION, "colour", "Colour"))}, "colour"),
    ],
)
def test_a_wrong_measurement_fails(hapi, change, word):
    wrong = {k: v for k, v in observation(**change).items() if v is not None}

    answer = hapi.client.post("Observation/$validate", json=wrong)

    assert answer.status_code in (200, 400, 412)
    assert any(
        i["severity"] in ("error", "fatal") and word in i["diagnostics"]
        for i in answer.json()["issue"]
    )


@pytest.mark.parametrize("code", ["18842-5", "34133-9"])
def test_a_right_document_type_that_we_never_write_passes(hapi, code):
    document = {
        "resourceType": "DocumentReference",
        "meta": {"profile": [f"{US_CORE}us-core-documentreference"]},
        "status": "current",
        "type": {"coding": [{"system": LOINC, "code": code}]},
        "category": [
            {
                "coding": [
                    {
                        "system": "http://hl7.org/fhir/us/core/CodeSystem/"
                        "us-core-documentreference-category",
                        "code": "clinical-note",
                    }
                ]
            }
        ],
        "subject": {"reference": "Patient/x"},
        "content": [{"attachment": {"contentType": "application/pdf", "data": "QUJD"}}],
    }

    assert issues(hapi, document) == []


def test_the_profiles_hold_exactly_the_codes_that_we_write():
    written = {str(path): text for path, text in code_profiles.files().items()}

    folders = ("codesystem", "valueset")
    found = [path for folder in folders for path in (PROFILES / folder).glob("*.json")]
    stored = {str(path.relative_to(PROFILES)): path.read_text() for path in found}

    assert stored == written, "run: python -m tools.code_profiles"


@pytest.mark.parametrize(
    ("system", "right", "wrong"),
    [(LOINC, "718-7", "718-8"), (codes.SCT, "25064002", "25064003")],
)
def test_a_code_with_a_wrong_check_digit_fails_and_a_possible_one_does_not(
    hapi, system, right, wrong
):
    possible = observation(code={"coding": [{"system": system, "code": right}]})
    mistyped = observation(code={"coding": [{"system": system, "code": wrong}]})

    assert issues(hapi, possible) == []
    assert any(wrong in problem for problem in issues(hapi, mistyped))
