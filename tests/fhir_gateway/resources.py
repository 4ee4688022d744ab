"""Resources and Bundles that the tests of the FHIR door send, and what they expect back."""

from __future__ import annotations

SYSTEM = "https://hilum.dev/fhir/sid/test"


def new_patient(unique, **changes):
    return {
        "resourceType": "Patient",
        "identifier": [{"system": SYSTEM, "value": unique}],
        "name": [{"family": "Müller", "given": ["Zoë"]}],
        "gender": "female",
        "birthDate": "1980-06-15",
        **changes,
    }


def new_observation(patient, **changes):
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "size"},
        "subject": {"reference": f"Patient/{patient['id']}"},
        **changes,
    }


def assert_refused(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.json()["resourceType"] == "OperationOutcome"
    assert answer.json()["issue"][0]["severity"] == "error"


def entry(method, url, resource=None, **request):
    made = {"request": {"method": method, "url": url, **request}}
    return made | ({"resource": resource} if resource else {})


def bundle(kind, *entries):
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}
