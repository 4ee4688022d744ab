"""What the FHIR door lets through, over HTTP with a real HAPI behind it."""

from __future__ import annotations

import base64
from dataclasses import replace

import httpx
import pytest

from fhir_gateway.app import create_app
from tests.fhir_gateway.resources import (
    SYSTEM,
    assert_refused,
    new_patient,
)


def test_the_usual_interactions_pass(everything, door, unique):
    created = everything.post("Patient", json=new_patient(unique))
    path = f"Patient/{created.json()['id']}"
    read = everything.get(path)
    updated = everything.put(
        path,
        json=created.json() | {"active": True},
        headers={"If-Match": created.headers["etag"]},
    )
    patched = everything.patch(
        path,
        content='[{"op": "replace", "path": "/active", "value": false}]',
        headers={"Content-Type": "application/json-patch+json"},
    )
    history = everything.get(f"{path}/_history")
    version = everything.get(f"{path}/_history/1")
    unchanged = everything.get(path, headers={"If-None-Match": patched.headers["etag"]})
    deleted = everything.delete(path)

    assert created.headers["location"].startswith(f"{door}/{path}/_history/1")
    assert read.json()["id"] == created.json()["id"]
    assert (updated.status_code, patched.status_code) == (200, 200)
    assert len(history.json()["entry"]) == 3
    assert version.json()["meta"]["versionId"] == "1"
    assert unchanged.status_code == 304
    assert deleted.status_code == 200
    assert everything.get(path).status_code == 410
    assert "x-powered-by" not in read.headers


def test_a_stale_version_is_412(everything, stored_patient):
    path = f"Patient/{stored_patient['id']}"
    everything.put(path, json=stored_patient | {"active": True})

    stale = everything.put(path, json=stored_patient, headers={"If-Match": 'W/"1"'})

    assert stale.status_code == 412
    assert stale.json()["resourceType"] == "OperationOutcome"


def test_conditional_create_makes_one(everything, unique):
    headers = {"If-None-Exist": f"identifier={SYSTEM}|{unique}"}

    first = everything.post("Patient", json=new_patient(unique), headers=headers)
    second = everything.post("Patient", json=new_patient(unique), headers=headers)

    assert (first.status_code, second.status_code) == (201, 200)


def test_a_conditional_delete_needs_a_condition(everything, stored_patient, unique):
    for query in ("identifier=", "name= ", "_count=1", f"identifier=x|{unique}&name="):
        assert_refused(everything.delete(f"Patient?{query}"), 400)
    assert_refused(everything.delete("Patient"), 400)

    assert everything.delete(f"Patient?identifier={SYSTEM}|{unique}").status_code == 200
    assert everything.get(f"Patient/{stored_patient['id']}").status_code == 410


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("birthdate=ge1980", True),
        ("birthdate=ge1980-06", True),
        ("birthdate=le1980", True),
        ("birthdate=le1980-06", True),
        ("birthdate=gt1980", False),
        ("birthdate=lt1980-06", False),
        ("name=Müller", True),
        ("family=müller&given=zoë", True),
    ],
)
def test_searches_find_what_they_should(everything, stored_patient, unique, query, found):
    token = f"identifier={SYSTEM}|{unique}"

    by_get = everything.get(f"Patient?{token}&{query}")
    by_post = everything.post(
        "Patient/_search",
        content=f"{token}&{query}".encode(),
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )

    for answer in (by_get, by_post):
        assert answer.status_code == 200, answer.text
        ids = [e["resource"]["id"] for e in answer.json().get("entry", [])]
        assert ids == ([stored_patient["id"]] if found else [])


def test_includes_chains_and_has_work_for_who_may_read_both(
    everything, stored_patient, observation
):
    unique = stored_patient["identifier"][0]["value"]
    include = everything.get(f"Observation?_id={observation['id']}&_include=Observation:subject")
    reverse = everything.get(f"Patient?_id={stored_patient['id']}&_revinclude=Observation:subject")
    chain = everything.get(f"Observation?subject:Patient.identifier={SYSTEM}|{unique}")
    has = everything.get(
        f"Patient?_id={stored_patient['id']}&_has:Observation:patient:status=final"
    )

    assert [len(a.json()["entry"]) for a in (include, reverse, chain, has)] == [2, 2, 1, 1]


@pytest.mark.parametrize(
    ("scope", "method", "path", "status"),
    [
        ("system/Patient.r", "GET", "Patient/{id}", 200),
        ("user/Patient.r", "GET", "Patient/{id}", 200),
        ("system/Patient.read", "GET", "Patient?_id={id}", 200),
        ("system/Patient.s", "GET", "Patient/{id}", 403),
        ("system/Patient.r", "GET", "Patient?_id={id}", 403),
        ("system/Patient.r", "GET", "Patient/{id}/_history", 200),
        ("system/Patient.r", "GET", "Patient/_history", 403),
        ("system/Observation.cruds", "GET", "Patient/{id}", 403),
        ("system/Patient.rs", "POST", "Patient", 403),
        ("system/Patient.c", "POST", "Patient", 201),
        ("system/Patient.c", "PUT", "Patient/{id}", 403),
        ("system/Patient.cru", "DELETE", "Patient/{id}", 403),
        ("system/Patient.d", "DELETE", "Patient/{id}", 200),
        ("system/Patient.cruds", "GET", "Patient/{id}/$everything", 403),
        ("system/*.rs", "GET", "Patient/{id}/$everything", 200),
        ("patient/*.cruds", "GET", "Patient/{id}", 403),
        ("", "GET", "Patient/{id}", 403),
        ("system/*.cruds", "GET", "Subscription/hilum-imagingstudy", 403),
        ("system/*.cruds", "GET", "Subscription", 403),
        ("system/*.cruds", "POST", "Patient/{id}/$expunge", 404),
        ("system/*.cruds", "POST", "$reindex", 404),
        ("system/*.cruds", "GET", "Patient/{id}/$graphql", 404),
        ("system/*.cruds", "GET", "NoSuchType/1", 404),
        ("system/*.cruds", "GET", "?_type=Patient", 403),
        ("system/*.cruds", "GET", "_history", 404),
        ("system/*.cruds", "GET", "Patient?_filter=name eq x", 400),
        ("system/*.cruds", "GET", "Patient?nonsense=1", 400),
        ("system/*.cruds", "GET", "Patient?_text=x", 400),
        ("system/*.cruds", "GET", "Patient?_include:iterate=Patient:link", 403),
        ("system/*.cruds", "GET", "Patient?_include=*", 403),
        ("system/*.cruds", "GET", "Patient/{id}?_format=xml", 406),
        ("system/*.cruds", "GET", "Binary", 403),
        ("system/Patient.rs", "GET", "Patient?_has:Observation:patient:status=final", 403),
        ("system/Patient.rs", "GET", "Patient?_revinclude=Observation:subject", 403),
        ("system/Observation.rs", "GET", "Observation?patient.name=x", 403),
        ("system/Observation.rs", "GET", "Observation?subject:Patient.name=x", 403),
        # A Patient could be there only by the include: it is left out, and nothing tells.
        ("system/Observation.rs", "GET", "Observation?_id={o}&_include=Observation:subject", 200),
        (
            "system/Observation.rs",
            "GET",
            "Observation?_id={o}&_include=Observation:subject:Patient",
            403,
        ),
        ("system/Observation.rs", "GET", "Observation?_id={o}", 200),
    ],
)
def test_scopes_decide(
    client_for, stored_patient, observation, everything, scope, method, path, status
):
    if method == "DELETE":
        everything.delete(f"Observation/{observation['id']}")
    client = client_for(scope)
    body = new_patient("x") if method in ("POST", "PUT") else None
    url = path.format(id=stored_patient["id"], o=observation["id"])

    answer = client.request(method, url, json=body)

    assert answer.status_code == status, answer.text
    if status >= 400:
        assert answer.json()["resourceType"] == "OperationOutcome"


def test_without_a_good_token_nothing_but_metadata_answers(door, authority):
    token = authority.mint(subject="x", scope="system/*.rs", lifetime_s=60)
    for headers in ({}, {"Authorization": "Bearer x.y.z"}, {"Authorization": token}):
        answer = httpx.get(f"{door}/Patient", headers=headers, trust_env=False, timeout=60)
        assert_refused(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")

    metadata = httpx.get(
        f"{door}/metadata", headers={"Origin": "https://app"}, trust_env=False, timeout=60
    )

    assert metadata.status_code == 200
    assert metadata.headers["access-control-allow-origin"] == "*"
    statement = metadata.json()
    assert statement["implementation"]["url"] == door
    kinds = {one["type"] for one in statement["rest"][0]["resource"]}
    assert "ImagingStudy" in kinds


async def test_registered_origins_may_call_and_others_not(door, config, authority, door_spool):
    app = create_app(
        replace(config, cors_origins=("https://app.example.org",)), authority, door_spool
    )
    asked = {
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }
    transport = httpx.ASGITransport(app)  # without its lifespan: a preflight needs no store
    browser = httpx.AsyncClient(transport=transport, base_url=door)

    registered = await browser.options(
        "/Patient", headers={"Origin": "https://app.example.org", **asked}
    )
    foreign = await browser.options(
        "/Patient", headers={"Origin": "https://evil.example.org", **asked}
    )

    assert registered.headers["access-control-allow-origin"] == "https://app.example.org"
    assert "access-control-allow-origin" not in foreign.headers


def test_a_token_for_some_studies_is_refused(client_for, stored_patient):
    answer = client_for("system/*.rs", studies=["1.2.3"]).get(f"Patient/{stored_patient['id']}")

    assert_refused(answer, 403)


def test_a_binary_follows_its_security_context(client_for, everything, stored_patient):
    body = {
        "resourceType": "Binary",
        "contentType": "text/html",
        "data": base64.b64encode(b"<b>x</b>").decode(),
    }
    context = {"securityContext": {"reference": f"Patient/{stored_patient['id']}"}}
    fhir = {"Content-Type": "application/fhir+json"}  # other types are the content itself
    bound = everything.post("Binary", json=body | context, headers=fhir).json()["id"]
    free = everything.post("Binary", json=body, headers=fhir).json()["id"]

    allowed = client_for("system/Patient.r").get(f"Binary/{bound}", headers={"Accept": "*/*"})
    as_fhir = client_for("system/Patient.r").get(f"Binary/{bound}")

    assert allowed.content == b"<b>x</b>"
    assert allowed.headers["content-type"].startswith("text/html")
    assert allowed.headers["x-content-type-options"] == "nosniff"
    assert as_fhir.json()["data"] == body["data"]
    assert_refused(client_for("system/Binary.r").get(f"Binary/{bound}"), 403)
    # One that belongs to nothing looks to others as if it were not there.
    assert_refused(client_for("system/Patient.rs system/Binary.rs").get(f"Binary/{free}"), 404)
    assert everything.get(f"Binary/{free}").status_code == 200


def test_bodies_are_limited_and_typed(everything, config, unique):
    large = new_patient(unique, text={"status": "generated", "div": "x" * config.max_body_bytes})

    def chunks():
        for _ in range(config.max_body_bytes // 65536 + 2):
            yield b" " * 65536

    json_type = {"Content-Type": "application/fhir+json"}
    assert_refused(everything.post("Patient", json=large), 413)
    assert_refused(everything.post("Patient", content=chunks(), headers=json_type), 413)
    xml = {"Content-Type": "application/fhir+xml"}
    assert_refused(everything.post("Patient", content=b"<Patient/>", headers=xml), 415)
    packed = json_type | {"Content-Encoding": "gzip"}
    assert_refused(everything.post("Patient", content=b"x", headers=packed), 415)
    assert_refused(everything.post("", content=b"{", headers=json_type), 400)


def test_validate_passes(everything, unique):
    answer = everything.post("Patient/$validate", json=new_patient(unique))

    assert answer.json()["resourceType"] == "OperationOutcome"


def test_a_dead_store_is_503_with_a_time_to_come_back(everything, hapi_relay, stored_patient):
    hapi_relay.close()
    try:
        answer = everything.get(f"Patient/{stored_patient['id']}")
    finally:
        hapi_relay.open()

    assert_refused(answer, 503)
    assert answer.headers["retry-after"].isdigit()
    assert everything.get(f"Patient/{stored_patient['id']}").status_code == 200


def test_a_store_that_breaks_off_its_answer_is_503(everything, hapi_relay, stored_patient):
    hapi_relay.short_by = 20
    try:
        answer = everything.get(f"Patient/{stored_patient['id']}")
    finally:
        hapi_relay.short_by = 0

    assert_refused(answer, 503)
    assert "broke off" in answer.text
    assert everything.get(f"Patient/{stored_patient['id']}").status_code == 200
