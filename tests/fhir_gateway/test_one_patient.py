"""What an app with one patient's data sees through the FHIR door: that, and nothing beside it."""

from __future__ import annotations

import base64
import json

import pytest

from tests.fhir_gateway.resources import assert_refused, bundle, entry
from tests.fixtures.two_patients import CATEGORY, SYSTEM, load

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def data(everything):
    return load(everything)


@pytest.fixture
def fresh(everything):
    return load(everything)


@pytest.fixture(scope="module")
def app(client_for, data):
    """An app that Anna, or her doctor, has let read her record."""
    return client_for("patient/*.rs", patient=data.anna.patient)


def ids(answer):
    assert answer.status_code == 200, answer.text
    return {one["resource"]["id"] for one in answer.json().get("entry", [])}


def test_the_own_record_is_read_and_found(app, data):
    anna = data.anna

    assert app.get(f"Patient/{anna.patient}").status_code == 200
    assert ids(app.get("Patient")) == {anna.patient}
    assert ids(app.get("Observation")) == anna.observations
    assert ids(app.get(f"Observation?patient={anna.patient}")) == anna.observations
    assert ids(app.get(f"Observation?subject=Patient/{anna.patient}")) == anna.observations
    assert ids(app.post("Observation/_search", content=b"status=final", headers=FORM)) == (
        anna.observations
    )
    assert len(app.get(f"Observation/{anna.lab}/_history").json()["entry"]) == 1


@pytest.mark.parametrize(
    "query",
    [
        "Observation?patient={bert}",
        "Observation?patient=Patient/{bert}",
        "Observation?patient={base}/Patient/{bert}",
        "Observation?patient:Patient={bert}",
        "Observation?patient={anna},{bert}",
        "Observation?subject=Patient/{bert}",
        "Observation?subject={bert}",
        "Observation?subject:Patient={bert}",
        "ImagingStudy?patient={bert}",
        "DiagnosticReport?subject=Patient/{bert}",
        "Patient?_id={bert}",
        "Patient?_id={anna},{bert}",
        "Patient/{bert}",
        "Patient/{bert}/_history",
        "Patient/{bert}/_history/1",
        "Patient/{bert}/$everything",
        "Patient/no-such-patient",
        "Observation?patient:missing=true",
        "Observation?patient:identifier=x|y",
        "Observation?patient.identifier=x",
        "Observation?subject:Patient.name=x",
        "Patient?_has:Observation:patient:status=final",
        "Practitioner?_has:Observation:performer:status=final",
        "Observation/_history",
        "Group",
        "AuditEvent",
        "Schedule",
        "Person",
    ],
)
def test_another_patient_is_refused_and_not_an_empty_answer(app, data, door, query):
    url = query.format(anna=data.anna.patient, bert=data.bert.patient, base=door)

    assert_refused(app.get(url), 403)


@pytest.mark.parametrize(
    "path", ["Observation/{lab}", "ImagingStudy/{study}", "DiagnosticReport/{report}",
             "Endpoint/{endpoint}", "Provenance/{provenance}", "Binary/{binary}",
             "Observation/{lab}/_history", "ImagingStudy/{study}/_history/1"],
)  # fmt: skip
def test_a_foreign_resource_looks_like_one_that_is_not_there(app, data, path):
    own = app.get(path.format(**vars(data.anna)))
    foreign = app.get(path.format(**vars(data.bert)))
    nothing = app.get(path.format(**dict.fromkeys(vars(data.bert), "no-such-thing")))

    assert own.status_code == 200
    assert foreign.status_code == nothing.status_code == 404
    assert foreign.json() == nothing.json()


@pytest.mark.parametrize("query", ["Observation?patient={a}&patient={a}",
                                   "Observation?subject=Patient/{a}&subject=Patient/{b}",
                                   "Observation?access_token=x"])  # fmt: skip
def test_what_two_programs_may_read_differently_is_refused(app, data, query):
    assert_refused(app.get(query.format(a=data.anna.patient, b=data.bert.patient)), 400)


def test_a_method_is_what_it_says(app, data):
    for header in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        assert_refused(app.get("Observation", headers={header: "DELETE"}), 400)
    body = app.post(
        f"Observation/_search?patient={data.anna.patient}", content=b"status=final", headers=FORM
    )
    assert_refused(body, 400)


def test_totals_count_the_own_record_only(app, data):
    anna = data.anna

    assert app.get("Observation?_summary=count").json()["total"] == len(anna.observations)
    assert app.get("Observation?_total=accurate").json()["total"] == len(anna.observations)
    assert_refused(app.get("Endpoint?_summary=count"), 403)
    assert_refused(app.get("Provenance?_total=accurate"), 403)
    assert_refused(app.get("Provenance?_count=0"), 403)


def test_includes_bring_the_endpoint_and_the_provenance(client_for, app, data):
    anna = data.anna
    images = client_for("patient/ImagingStudy.rs", patient=anna.patient)

    pixels = ids(images.get("ImagingStudy?_include=ImagingStudy:endpoint"))
    told = ids(app.get("Observation?_revinclude=Provenance:target"))

    assert pixels == {anna.study, anna.endpoint}
    assert told == anna.observations | {anna.provenance}
    assert images.get(f"Endpoint/{anna.endpoint}").status_code == 200
    assert_refused(images.get(f"Endpoint/{data.bert.endpoint}"), 404)
    assert_refused(images.get("Endpoint"), 403)
    assert_refused(images.get(f"Patient/{anna.patient}"), 403)


def test_everything_is_the_own_record(app, data):
    shown = ids(app.get(f"Patient/{data.anna.patient}/$everything?_count=500"))

    assert data.anna.observations | {data.anna.patient, data.anna.study} <= shown
    assert not shown & {*data.bert.observations, data.bert.patient, data.bert.study}


def test_shared_things_are_read_and_not_written(app, client_for, data):
    writer = client_for("patient/*.cruds", patient=data.anna.patient)
    body = {"resourceType": "Organization", "id": data.organization, "name": "Mine"}

    assert app.get(f"Organization/{data.organization}").status_code == 200
    assert app.get(f"Practitioner/{data.practitioner}").status_code == 200
    assert_refused(writer.put(f"Organization/{data.organization}", json=body), 403)
    assert_refused(writer.delete(f"Practitioner/{data.practitioner}"), 403)


def test_pages_lead_through_the_own_record_and_stay_with_their_reader(app, client_for, data):
    first = app.get("Observation?_count=1")
    found, answer = set(), first
    while True:
        found |= ids(answer)
        following = [one["url"] for one in answer.json()["link"] if one["relation"] == "next"]
        if not following:
            break
        answer = app.get(following[0])

    assert found == data.anna.observations
    link = next(one["url"] for one in first.json()["link"] if one["relation"] == "next")
    others = [
        client_for("patient/*.rs", patient=data.bert.patient),
        client_for("patient/Observation.rs", patient=data.anna.patient),
        client_for("system/*.rs"),
        client_for("patient/*.rs", patient=data.anna.patient, subject="somebody else"),
    ]
    for other in others:
        assert_refused(other.get(link), 403)


def test_granular_scopes_are_a_union_and_each_is_held_to(client_for, data):
    anna = data.anna
    lab = f"patient/Observation.rs?category={CATEGORY}|lab"
    image = f"patient/Observation.rs?category={CATEGORY}|imaging"
    thing = f"patient/Observation.rs?code={CATEGORY}|thing"

    def app(scope):
        return client_for(scope, patient=anna.patient)

    assert ids(app(lab).get("Observation")) == {anna.lab}
    assert ids(app(f"{lab} {image}").get("Observation")) == {anna.lab, anna.image}
    assert ids(app(f"{lab} {thing}").get("Observation")) == anna.observations
    assert app(lab).get(f"Observation/{anna.lab}").status_code == 200
    assert_refused(app(lab).get(f"Observation/{anna.image}"), 404)
    assert ids(app(lab).get(f"Observation?category={CATEGORY}|imaging")) == set()
    assert app(lab).get("Observation?_summary=count").json()["total"] == 1
    assert app(f"{lab} {image}").get("Observation?_summary=count").json()["total"] == 2
    assert_refused(app(f"{lab} {thing}").get("Observation?_summary=count"), 403)


def test_contexts_are_not_mixed(client_for, data):
    both = client_for("patient/Observation.rs user/ImagingStudy.rs", patient=data.anna.patient)

    assert ids(both.get("Observation")) == data.anna.observations
    assert both.get(f"ImagingStudy/{data.bert.study}").status_code == 200
    assert_refused(both.get(f"Observation/{data.bert.lab}"), 404)


def test_a_patient_who_signs_in_is_held_to_their_own_record(client_for, data):
    anna = client_for("user/*.rs", fhirUser=f"Patient/{data.anna.patient}")

    assert ids(anna.get("Observation")) == data.anna.observations
    assert_refused(anna.get(f"Patient/{data.bert.patient}"), 403)


def test_a_patient_scope_without_a_patient_is_nothing(client_for, data):
    nobody = client_for("patient/*.cruds")

    for path in ("Patient", f"Patient/{data.anna.patient}", "Observation", "ImagingStudy"):
        assert_refused(nobody.get(path), 403)


def test_writes_stay_in_the_own_record(client_for, everything, fresh):
    anna, bert = fresh.anna, fresh.bert
    app = client_for("patient/Observation.cruds", patient=anna.patient)
    own, foreign = fresh.observation(anna), fresh.observation(bert)

    assert app.post("Observation", json=own).status_code == 201
    assert_refused(app.post("Observation", json=foreign), 403)
    assert_refused(app.put(f"Observation/{bert.lab}", json={**own, "id": bert.lab}), 403)
    assert_refused(app.put(f"Observation/{anna.lab}", json={**foreign, "id": anna.lab}), 403)
    assert_refused(app.delete(f"Observation/{bert.lab}"), 403)
    reader = client_for("patient/Observation.rs", patient=anna.patient)
    for answer in (reader.post("Observation", json=own), reader.delete(f"Observation/{anna.lab}")):
        assert_refused(answer, 403)
    assert everything.get(f"Observation/{bert.lab}").json()["meta"]["versionId"] == "1"


def test_a_condition_finds_the_own_record_only(client_for, everything, fresh):
    anna, bert = fresh.anna, fresh.bert
    app = client_for("patient/Observation.cruds", patient=anna.patient)
    foreign = {"If-None-Exist": f"identifier={SYSTEM}%7C{bert.lab_number}"}
    own = {"If-None-Exist": f"identifier={SYSTEM}%7C{anna.lab_number}"}

    # The store takes a conditional create only of what satisfies its own condition.
    same = fresh.observation(anna, identifier=[{"system": SYSTEM, "value": bert.lab_number}])
    created = app.post("Observation", json=same, headers=foreign)
    found = app.post("Observation", json=fresh.observation(anna), headers=own)
    app.delete("Observation", params={"identifier": f"{SYSTEM}|{bert.lab_number}"})
    without_search = client_for("patient/Observation.c", patient=anna.patient)

    assert (created.status_code, found.status_code) == (201, 200), created.text
    assert everything.get(f"Observation/{bert.lab}").status_code == 200
    refused = without_search.post("Observation", json=fresh.observation(anna), headers=own)
    assert_refused(refused, 403)


def test_each_entry_of_a_batch_is_judged_alone(client_for, everything, fresh):
    anna, bert = fresh.anna, fresh.bert
    app = client_for("patient/Observation.cruds", patient=anna.patient)
    entries = (
        entry("GET", f"Observation/{anna.lab}"),
        entry("GET", f"Observation/{bert.lab}"),
        entry("GET", "Observation?_count=5"),
        entry("GET", f"Patient/{anna.patient}"),
        entry("POST", "Observation", fresh.observation(bert)),
    )

    batch = app.post("", json=bundle("batch", *entries)).json()["entry"]
    both = (entries[-1], entry("POST", "Observation", fresh.observation(anna)))
    whole = app.post("", json=bundle("transaction", *both))

    states = [one["response"]["status"][:3] for one in batch]
    assert states == ["200", "404", "200", "403", "403"]
    shown = {one["resource"]["id"] for one in batch[2]["resource"]["entry"]}
    assert shown == anna.observations
    assert_refused(whole, 403)
    assert ids(everything.get(f"Observation?patient={anna.patient}")) == anna.observations


def test_a_reference_by_search_is_for_those_who_may_search_all(client_for, fresh):
    app = client_for("patient/Observation.cruds patient/Patient.rs", patient=fresh.anna.patient)
    probing = {
        **fresh.observation(fresh.anna),
        "performer": [{"reference": f"Patient?identifier={SYSTEM}|{fresh.bert.family}"}],
    }

    answer = app.post("", json=bundle("transaction", entry("POST", "Observation", probing)))

    assert_refused(answer, 403)


def test_a_study_that_moves_is_lost_at_once(client_for, everything, fresh):
    app = client_for("patient/ImagingStudy.rs", patient=fresh.anna.patient)
    path = f"ImagingStudy/{fresh.anna.study}"
    study = app.get(path).json()

    moved = {**study, "subject": {"reference": f"Patient/{fresh.bert.patient}"}}
    everything.put(path, json=moved).raise_for_status()

    for gone in (path, f"{path}/_history", f"{path}/_history/1", f"{path}/_history/2"):
        assert_refused(app.get(gone), 404)
    assert ids(app.get("ImagingStudy")) == set()


def changed(token, **claims):
    head, body, signature = token.split(".")
    told = json.loads(base64.urlsafe_b64decode(body + "=="))
    body = base64.urlsafe_b64encode(json.dumps(told | claims).encode()).decode().rstrip("=")
    return f"{head}.{body}.{signature}"


def test_a_token_whose_patient_was_changed_is_no_token(client_for, door, data, authority):
    import httpx

    token = authority.mint(
        subject="x", scope="patient/*.rs", lifetime_s=60, context={"patient": data.anna.patient}
    )

    answer = httpx.get(
        f"{door}/Patient",
        headers={"Authorization": f"Bearer {changed(token, patient=data.bert.patient)}"},
        trust_env=False,
        timeout=60,
    )

    assert_refused(answer, 401)
    assert answer.headers["www-authenticate"].startswith("Bearer")
