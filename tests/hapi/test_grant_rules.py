"""What a signed grant lets through at the FHIR store itself, and what it does not."""

from __future__ import annotations

import uuid

import orjson
import pytest

from access.grants import Rights, Rule
from tests.fixtures.stores import client_of
from tests.fixtures.two_patients import CATEGORY, load, provenance_about

NOBODY = Rights(mode="system", subject="x", rules=())


# What is not covered leaves gaps in a page, and other tests have filled the store.
NEWEST = "_sort=-_lastUpdated&_count=1000"


@pytest.fixture(scope="module")
def data(hapi):
    return load(hapi.client)


@pytest.fixture
def fresh(hapi):
    """Two patients for a test that changes them."""
    return load(hapi.client)


@pytest.fixture
def asking(hapi):
    """Makes a client of the store with just these rules."""
    opened = []

    def make(*rules, **more):
        rights = Rights(mode="test", subject="tester", rules=rules, **more)
        opened.append(client_of(hapi.config, rights))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def of_patient(data, *types, letters="rs", **more):
    return Rule(types=types, letters=letters, patient=data.anna.patient, **more)


def ids(answer):
    assert answer.status_code == 200, answer.text
    return {e["resource"]["id"] for e in answer.json().get("entry", []) if "resource" in e}


def test_without_a_rule_nothing_is_answered_but_the_description(asking, data):
    nobody = asking()

    assert nobody.get("metadata").status_code == 200
    for path in ("Patient", f"Patient/{data.anna.patient}", "Observation/_history", "_history"):
        assert nobody.get(path).status_code == 403
    assert nobody.post("", json=bundle(("GET", "Patient"))).status_code == 403


def test_each_letter_is_one_interaction(asking, fresh, hapi):
    paths = {
        "r": lambda c: c.get(f"Observation/{fresh.anna.lab}"),
        "s": lambda c: c.get("Observation", params={"_id": fresh.anna.lab}),
        "c": lambda c: c.post("Observation", json=fresh.observation(fresh.anna)),
        "u": lambda c: c.put(
            f"Observation/{fresh.anna.scratch}",
            json=fresh.observation(fresh.anna, id=fresh.anna.scratch),
        ),
        "d": lambda c: c.delete(f"Observation/{uuid.uuid4().hex}"),
    }

    for letter in "crusd":
        client = asking(Rule(types=("Observation",), letters=letter))
        for other, send in paths.items():
            answer = send(client)
            allowed = answer.status_code < 300 or (other == "d" and answer.status_code == 404)
            assert allowed == (other == letter), (letter, other, answer.text)


def test_a_patient_rule_shows_that_patient_and_nobody_else(asking, data):
    client = asking(of_patient(data, "Observation", "Patient", "ImagingStudy"))

    assert ids(client.get(f"Observation?{NEWEST}")) == data.anna.observations
    assert ids(client.get(f"Patient?{NEWEST}")) == {data.anna.patient}
    assert client.get(f"Observation/{data.anna.lab}").status_code == 200
    assert client.get(f"Observation/{data.bert.lab}").status_code == 404
    assert client.get(f"Patient/{data.bert.patient}").status_code == 404
    assert client.get(f"ImagingStudy/{data.bert.study}/_history").status_code == 404
    assert client.get(f"ImagingStudy/{data.bert.study}/_history/1").status_code == 404


def test_a_filter_is_asked_of_each_resource(asking, data):
    client = asking(Rule(types=("Observation",), letters="rs", filter=f"category={CATEGORY}|lab"))

    found = ids(client.get("Observation?_count=1000"))
    assert found & (data.anna.observations | data.bert.observations) == {
        data.anna.lab,
        data.bert.lab,
    }
    assert client.get(f"Observation/{data.anna.image}").status_code == 404


def test_a_filter_that_cannot_be_decided_covers_nothing(asking, data):
    client = asking(Rule(types=("Observation",), letters="rs", filter="nonsense=1"))

    assert (
        ids(client.get("Observation")) == set()
        if (a := client.get("Observation")).status_code == 200
        else a.status_code >= 400
    )
    assert client.get(f"Observation/{data.anna.lab}").status_code >= 400


def test_a_total_tells_only_what_is_covered(asking, data):
    rule = of_patient(data, "Observation")

    for path in (
        "Observation?_summary=count",
        "Observation?_total=accurate",
        "Observation?_count=0",
    ):
        assert "total" not in asking(rule).get(path).json()
    batch = asking(rule).post("", json=bundle(("GET", "Observation?_total=accurate"), kind="batch"))
    assert "total" not in batch.json()["entry"][0].get("resource", {})
    narrowed = asking(rule, counts=True).get(
        f"Observation?patient={data.anna.patient}&_total=accurate"
    )
    assert narrowed.json()["total"] == len(data.anna.observations)


def test_includes_bring_only_what_is_covered(asking, data):
    own = asking(of_patient(data, "Observation", "ImagingStudy", "Patient"))

    shown = ids(own.get(f"ImagingStudy?_include=ImagingStudy:endpoint&_include=*&{NEWEST}"))
    assert shown == {data.anna.study, data.anna.patient}
    back = ids(own.get(f"Patient?_id={data.anna.patient}&_revinclude=Observation:subject"))
    assert back == {data.anna.patient} | data.anna.observations


def test_what_is_referred_to_is_seen_by_reference_alone(asking, data):
    endpoint = Rule(types=("Endpoint",), letters="rs", referred_by=("ImagingStudy:endpoint",))
    own = asking(of_patient(data, "ImagingStudy"), endpoint)

    assert ids(own.get(f"ImagingStudy?_include=ImagingStudy:endpoint&{NEWEST}")) == {
        data.anna.study,
        data.anna.endpoint,
    }
    assert own.get(f"Endpoint/{data.anna.endpoint}").status_code == 200
    assert own.get(f"Endpoint/{data.bert.endpoint}").status_code == 404
    assert ids(own.get(f"Endpoint?{NEWEST}")) == {data.anna.endpoint}


def test_provenance_and_attachments_follow_what_they_are_about(asking, data):
    own = asking(
        of_patient(data, "Observation", "DocumentReference"),
        Rule(types=("Provenance",), letters="rs", refers_by=("target",)),
        Rule(types=("Binary",), letters="r", refers_by=("securityContext",)),
    )

    found = ids(own.get(f"Observation?_revinclude=Provenance:target&{NEWEST}"))
    assert found == data.anna.observations | {data.anna.provenance}
    assert own.get(f"Provenance/{data.bert.provenance}").status_code == 404
    assert own.get(f"Binary/{data.anna.binary}").status_code == 200
    assert own.get(f"Binary/{data.bert.binary}").status_code == 404
    assert own.get(f"Binary/{data.loose}").status_code == 404


def test_everything_brings_only_what_is_covered(asking, data):
    rules = (of_patient(data, "Observation", "Patient"),)
    path = f"Patient/{data.anna.patient}/$everything"

    assert asking(*rules).get(path).status_code == 403
    shown = ids(asking(*rules, operations=("$everything",)).get(path))
    assert shown == data.anna.observations | {data.anna.patient}
    other = asking(*rules, operations=("$everything",)).get(
        f"Patient/{data.bert.patient}/$everything"
    )
    assert other.status_code != 200 or ids(other) == set()


def test_a_page_shows_only_what_its_reader_is_granted(asking, data, hapi):
    first = hapi.client.get("Observation?_count=1").json()
    link = next(one["url"] for one in first["link"] if one["relation"] == "next")
    query = link.partition("?")[2]

    seen = asking(of_patient(data, "Observation")).get(f"?{query}&_count=1000")

    assert ids(seen) <= data.anna.observations
    assert asking(of_patient(data, "Observation", letters="c")).get(f"?{query}").status_code == 403


def test_a_write_must_be_covered_before_and_after(asking, fresh, hapi):
    client = asking(of_patient(fresh, "Observation", letters="cud"))
    own = fresh.observation(fresh.anna)
    foreign = fresh.observation(fresh.bert)
    moved_in = {**fresh.observation(fresh.anna), "id": fresh.bert.lab}
    moved_out = {**fresh.observation(fresh.bert), "id": fresh.anna.scratch}

    assert client.post("Observation", json=own).status_code == 201
    assert client.post("Observation", json=foreign).status_code == 403
    assert client.put(f"Observation/{fresh.bert.lab}", json=moved_in).status_code == 403
    assert client.put(f"Observation/{fresh.anna.scratch}", json=moved_out).status_code == 403
    assert client.delete(f"Observation/{fresh.bert.lab}").status_code == 403
    assert hapi.client.get(f"Observation/{fresh.bert.lab}").json()["subject"] == {
        "reference": f"Patient/{fresh.bert.patient}"
    }


def test_a_patch_is_judged_by_what_it_makes(asking, fresh, hapi):
    client = asking(of_patient(fresh, "Observation", letters="u"))
    headers = {"Content-Type": "application/json-patch+json"}
    note = [{"op": "add", "path": "/note", "value": [{"text": "x"}]}]
    move = [
        {"op": "replace", "path": "/subject/reference", "value": f"Patient/{fresh.bert.patient}"}
    ]

    def patch(one, steps):
        return client.patch(f"Observation/{one}", content=orjson.dumps(steps), headers=headers)

    assert patch(fresh.anna.scratch, note).status_code == 200
    assert patch(fresh.anna.scratch, move).status_code == 403
    assert patch(fresh.bert.lab, note).status_code == 403


def test_a_condition_does_not_find_what_is_not_covered(asking, fresh, hapi):
    client = asking(of_patient(fresh, "Observation", letters="crus"))
    found_by = {"identifier": f"{fresh.system}|{fresh.bert.lab_number}"}

    changed = client.put("Observation", params=found_by, json=fresh.observation(fresh.bert))
    removed = asking(of_patient(fresh, "Observation", letters="ds")).delete(
        "Observation", params=found_by
    )

    assert changed.status_code in (400, 403, 412)
    assert removed.status_code in (200, 204, 403, 404)
    assert hapi.client.get(f"Observation/{fresh.bert.lab}").json()["meta"]["versionId"] == "1"


def test_a_transaction_with_one_bad_entry_stores_nothing(asking, fresh, hapi):
    number = uuid.uuid4().hex
    own = fresh.observation(fresh.anna, identifier=[{"system": fresh.system, "value": number}])
    client = asking(of_patient(fresh, "Observation", letters="crus"))

    refused = client.post(
        "",
        json=bundle(
            ("POST", "Observation", own), ("POST", "Observation", fresh.observation(fresh.bert))
        ),
    )
    letters = client.post(
        "", json=bundle(("POST", "Observation", own), ("DELETE", f"Observation/{fresh.anna.lab}"))
    )

    assert (refused.status_code, letters.status_code) == (403, 403)
    stored = hapi.client.get("Observation", params={"identifier": f"{fresh.system}|{number}"})
    assert ids(stored) == set()


def test_a_post_in_a_bundle_is_a_create_and_a_put_an_update(asking, fresh):
    name = uuid.uuid4().hex
    put = ("PUT", f"Observation/{name}", {**fresh.observation(fresh.anna), "id": name})
    post = ("POST", "Observation", fresh.observation(fresh.anna))

    def status(letters, entry):
        client = asking(Rule(types=("Observation",), letters=letters))
        return client.post("", json=bundle(entry)).status_code

    assert (status("c", post), status("u", put)) == (200, 200)
    assert (status("u", post), status("c", put)) == (403, 403)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "$reindex"),
        ("POST", "$expunge"),
        ("POST", "$mark-all-resources-for-reindexing"),
        ("GET", "$export"),
        ("GET", "Patient/{id}/$everything"),
        ("GET", "Patient/$everything"),
        ("POST", "Patient/{id}/$expunge"),
        ("GET", "Patient/{id}/$meta"),
        ("POST", "Patient/{id}/$meta-add"),
        ("POST", "Patient/$validate"),
        ("GET", "Observation/$lastn?max=1"),
        ("GET", "Patient/{id}/$graphql?query={id}"),
        ("GET", "$get-resource-counts"),
        ("POST", "ValueSet/$expand"),
        ("POST", "Patient/{id}/$merge"),
    ],
)
def test_an_operation_that_is_not_named_is_refused(asking, data, method, path):
    client = asking(Rule(letters="cruds"))

    answer = client.request(
        method,
        path.replace("{id}", data.anna.patient, 1),
        json={"resourceType": "Parameters"} if method == "POST" else None,
    )

    assert answer.status_code in (400, 403, 404, 405), answer.text
    assert "entry" not in answer.text


def test_a_moved_study_is_lost_to_the_patient_that_had_it(asking, fresh, hapi):
    study = hapi.client.post("ImagingStudy", json=fresh.imaging_study(fresh.anna)).json()
    client = asking(of_patient(fresh, "ImagingStudy"))
    path = f"ImagingStudy/{study['id']}"
    assert client.get(path).status_code == 200

    moved = {**study, "subject": {"reference": f"Patient/{fresh.bert.patient}"}}
    hapi.client.put(path, json=moved).raise_for_status()

    for gone in (path, f"{path}/_history", f"{path}/_history/1", f"{path}/_history/2"):
        assert client.get(gone).status_code == 404, gone


def bundle(*entries, kind="transaction"):
    made = []
    for method, url, *resource in entries:
        entry = {"request": {"method": method, "url": url}}
        made.append(entry | ({"resource": resource[0]} if resource else {}))
    return {"resourceType": "Bundle", "type": kind, "entry": made}


def test_whose_record_it_is_says_the_subject(asking, fresh, hapi):
    performer = [{"reference": f"Patient/{fresh.anna.patient}"}]
    theirs = fresh.observation(fresh.bert, performer=performer)
    stored = hapi.client.post("Observation", json=theirs).json()["id"]
    client = asking(of_patient(fresh, "Observation", letters="crus"))

    assert client.get(f"Observation/{stored}").status_code == 404
    assert client.post("Observation", json=theirs).status_code == 403


def test_a_stored_resource_is_validated_for_those_who_may_read_all(asking, data):
    limited = asking(of_patient(data, "Patient"), operations=("$validate",))
    free = asking(Rule(types=("Patient",), letters="rs"), operations=("$validate",))
    path = f"Patient/{data.anna.patient}/$validate?mode=delete"

    assert limited.post(path, json={"resourceType": "Parameters"}).status_code == 403
    assert free.post(path, json={"resourceType": "Parameters"}).status_code == 409


def test_who_writes_provenance_may_see_all_that_it_is_about(asking, data):
    client = asking(
        of_patient(data, "Observation"),
        Rule(types=("Provenance",), letters="c", refers_by=("target",)),
    )

    assert client.post("Provenance", json=provenance_about(data.anna.lab)).status_code == 201
    both = client.post("Provenance", json=provenance_about(data.anna.lab, data.bert.lab))
    assert both.status_code == 403
