"""Requests that once went around the FHIR door's rules, each refused or harmless."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.fhir_gateway.resources import assert_refused, bundle, entry
from tests.fixtures.two_patients import CATEGORY, SYSTEM, load, provenance_about


@pytest.fixture(scope="module")
def data(everything):
    return load(everything)


@pytest.fixture(scope="module")
def untouched(everything):
    return load(everything)


@pytest.fixture(scope="module")
def writer(client_for, data):
    """An app that may do everything with Anna's record."""
    return client_for("patient/*.cruds", patient=data.anna.patient)


def ids(answer):
    assert answer.status_code == 200, answer.text
    return {one["resource"]["id"] for one in answer.json().get("entry", [])}


def next_of(answer):
    return [one["url"] for one in answer.json()["link"] if one["relation"] == "next"]


def at(client, method, path, **more):
    """Send a path as it is: clients resolve dot segments by themselves."""
    base = httpx.URL(str(client.base_url))
    return client.request(method, base.copy_with(raw_path=base.raw_path + path.encode()), **more)


@pytest.mark.parametrize("path", ["Observation/%2e%2e", "Observation/%2e", "Patient%2f%2e%2e",
                                  "Observation/%2e%2e/_history/1"])  # fmt: skip
def test_dots_are_no_id(everything, data, path):
    for method, more in (("GET", {}), ("DELETE", {}), ("PUT", {"json": {"id": ".."}})):
        answer = at(everything, method, path, **more)
        assert answer.status_code in (404, 405), answer.text


def test_nothing_is_written_about_another_patient_by_naming_oneself_as_performer(writer, data):
    anna, bert = data.anna.patient, data.bert.patient
    me, other = {"reference": f"Patient/{anna}"}, {"reference": f"Patient/{bert}"}

    about_bert = writer.post("Observation", json=data.observation(bert, performer=[me]))
    nameless = data.observation(bert, performer=[me], subject={"display": "Bert"})
    by_bert = writer.post("Observation", json=data.observation(anna, performer=[other]))

    assert_refused(about_bert, 403)
    assert_refused(writer.post("Observation", json=nameless), 403)
    assert by_bert.status_code == 201


def test_what_a_patient_did_for_another_is_the_others_record(client_for, everything, data):
    me = {"reference": f"Patient/{data.anna.patient}"}
    stored = everything.post("Observation", json=data.observation(data.bert, performer=[me]))
    path = f"Observation/{stored.json()['id']}"

    assert_refused(client_for("patient/*.rs", patient=data.anna.patient).get(path), 404)
    assert client_for("patient/*.rs", patient=data.bert.patient).get(path).status_code == 200


def test_provenance_is_written_only_of_what_its_writer_may_see(writer, data):
    own = writer.post("Provenance", json=provenance_about(data.anna.lab, data.anna.image))
    both = writer.post("Provenance", json=provenance_about(data.anna.lab, data.bert.lab))

    assert own.status_code == 201, own.text
    assert_refused(both, 403)


def test_validation_does_not_tell_what_is_stored(writer, everything, data):
    nothing = {"resourceType": "Parameters"}
    for name in (data.bert.patient, "no-such-patient"):
        for query in ("", "?mode=delete", "?mode=update"):
            answer = writer.post(f"Patient/{name}/$validate{query}", json=nothing)
            assert_refused(answer, 403)

    used = everything.post(f"Patient/{data.bert.patient}/$validate?mode=delete", json=nothing)
    made = writer.post("Observation/$validate", json=data.observation(data.anna))

    assert (used.status_code, made.status_code) == (409, 200)


def test_a_condition_of_includes_alone_is_no_condition(everything, data):
    body = data.observation(data.anna)

    for asked in ("_include=Observation:subject", "_revinclude=Provenance:target"):
        assert_refused(everything.put(f"Observation?{asked}", json=body), 400)
        assert_refused(everything.delete(f"Observation?{asked}"), 400)
        header = {"If-None-Exist": asked}
        assert_refused(everything.post("Observation", json=body, headers=header), 400)


def test_the_page_of_another_does_not_hide_behind_an_own_one(client_for, data):
    app = client_for("patient/*.rs", patient=data.anna.patient)
    [own] = next_of(app.get("Observation?_count=1"))
    other = client_for("system/*.rs").get(f"Observation?_count=1&patient={data.bert.patient}")
    [foreign] = next_of(other)
    page = httpx.URL(foreign).params["_getpages"]

    assert_refused(app.get(own.replace("?", f"?_getpages={page}&", 1)), 400)
    assert_refused(app.get(f"{own}&_getpages={page}"), 400)
    assert app.get(own).status_code == 200


def test_a_reference_opens_nothing_to_who_wrote_it(writer, everything, data):
    device = everything.post("Device", json={"resourceType": "Device", "serialNumber": "hidden"})
    name = f"Device/{device.json()['id']}"
    own = data.observation(data.anna, device={"reference": name})

    refused = writer.post("Observation", json=own)
    assert_refused(refused, 403)
    assert_refused(
        writer.post("Observation", json={**own, "device": {"reference": "Device/no"}}), 403
    )
    assert_refused(writer.get(name), 404)
    study = data.imaging_study(
        data.anna, endpoint=[{"reference": f"Endpoint/{data.bert.endpoint}"}]
    )
    assert_refused(writer.post("ImagingStudy", json=study), 403)

    # What others have tied to the record may be named again.
    everything.post("Observation", json=own).raise_for_status()
    assert writer.get(name).status_code == 200
    assert writer.post("Observation", json=own).status_code == 201


@pytest.mark.parametrize("patch", ["json", "parameters"])
def test_a_patch_does_not_ask_who_there_is(writer, everything, fresh_observation, data, patch):
    found = {"reference": f"Patient?identifier={SYSTEM}|{data.bert.family}"}
    path = f"Observation/{fresh_observation}"
    if patch == "json":
        steps = [{"op": "add", "path": "/focus", "value": [found]}]
        headers = {"Content-Type": "application/json-patch+json"}
        answer = writer.patch(path, content=json.dumps(steps), headers=headers)
    else:
        part = [
            {"name": "type", "valueCode": "add"},
            {"name": "path", "valueString": "Observation"},
            {"name": "name", "valueString": "focus"},
            {"name": "value", "valueReference": found},
        ]
        asked = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": part}]}
        answer = writer.post("", json=bundle("transaction", entry("PATCH", path, asked)))

    assert_refused(answer, 403)
    assert "focus" not in everything.get(path).json()


@pytest.fixture
def fresh_observation(everything, data):
    return everything.post("Observation", json=data.observation(data.anna)).json()["id"]


def test_pages_of_what_is_seen_by_reference_do_not_count_that_of_others(client_for, untouched):
    anna, bert = untouched.anna, untouched.bert
    app = client_for("patient/*.rs", patient=anna.patient)

    for asked in ("Provenance?_count=1", "Provenance?recorded=gt2000-01-01", "Device?status=active",
                  "Endpoint", f"Provenance?target=Patient/{bert.patient}",
                  f"Device?patient={bert.patient}&_id=x", "Endpoint?_id:not=x"):  # fmt: skip
        assert_refused(app.get(asked), 403)

    assert ids(app.get(f"Provenance?target=Observation/{anna.lab}")) == {anna.provenance}
    assert ids(app.get(f"Endpoint?_id={anna.endpoint},{bert.endpoint}")) == {anna.endpoint}


def test_scopes_about_different_people_are_searched_one_by_one(client_for, untouched):
    anna, bert = untouched.anna, untouched.bert
    lab = f"{CATEGORY}|lab"
    both = client_for(
        f"patient/Observation.rs user/Observation.rs?category={lab}", patient=anna.patient
    )

    assert_refused(both.get(f"Observation?patient={bert.patient}&_count=1"), 403)
    assert_refused(both.get("Observation"), 403)
    assert ids(both.get(f"Observation?patient={anna.patient}")) == anna.observations
    own = ids(both.get(f"Observation?category={lab}&_sort=-_lastUpdated&_count=1000"))
    assert own & (anna.observations | bert.observations) == {anna.lab, bert.lab}


@pytest.mark.parametrize("kind", ["Practitioner", "Patient"])
def test_who_signed_in_is_read_with_the_scope_that_says_so(client_for, data, kind):
    own, other = {
        "Practitioner": (data.practitioner, "somebody"),
        "Patient": (data.anna.patient, data.bert.patient),
    }[kind]
    context = {"patient": data.anna.patient, "fhirUser": f"{kind}/{own}"}
    app = client_for("openid fhirUser patient/Observation.rs", **context)
    untold = client_for("openid patient/Observation.rs", **context)

    assert app.get(f"{kind}/{own}").status_code == 200
    assert_refused(app.get(f"{kind}/{other}"), 403 if kind == "Patient" else 404)
    assert_refused(app.get(f"{kind}?_id={own}"), 403)
    assert_refused(untold.get(f"{kind}/{own}"), 403)


def test_parameters_of_docref_that_are_none_are_refused(everything):
    for value in ("x", ["x"], None, 1):
        told = {"name": "type", "valueCoding": value}
        body = {"resourceType": "Parameters", "parameter": [told]}
        assert_refused(everything.post("DocumentReference/$docref", json=body), 400)


@pytest.mark.parametrize(
    ("told", "given"),
    [
        ("text/plain; charset=utf-8", "text/plain; charset=utf-8"),
        ("application/pdf", "application/pdf"),
        ("text/plain\r\nX-Smuggled: yes", "application/octet-stream"),
        ("text/html \N{EN DASH}", "application/octet-stream"),
    ],
)
def test_the_type_of_an_attachment_does_not_become_another_header(everything, told, given):
    body = {"resourceType": "Binary", "contentType": told, "data": "eA=="}
    headers = {"Content-Type": "application/fhir+json"}
    stored = everything.post("Binary", json=body, headers=headers)

    answer = everything.get(f"Binary/{stored.json()['id']}", headers={"Accept": "*/*"})

    assert (answer.status_code, answer.content) == (200, b"x")
    assert answer.headers["content-type"] == given
    assert "x-smuggled" not in answer.headers
