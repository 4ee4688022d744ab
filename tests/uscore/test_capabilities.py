"""U1: the CapabilityStatement says what holds: every SHALL is in it, and everything in it works."""

from __future__ import annotations

from urllib.parse import quote

import httpx
import pytest

from tests.fixtures.running import wait_for
from tests.uscore import packages
from tests.uscore.bar import IN_FORCE, groups
from tests.uscore.packages import COMBINATION, expectation
from tests.uscore.probing import Prober, body_of, include_urls, search_urls

pytestmark = [pytest.mark.slow, pytest.mark.stack]

PATCH = '[{"op": "add", "path": "/language", "value": "en"}]'
IN_SCOPE = sorted({one.resource for one in groups(IN_FORCE)})


@pytest.fixture(scope="module")
def statement(stack):
    """As anybody sees it, without a token."""
    answer = httpx.get(f"{stack.base}/fhir/metadata", trust_env=False, timeout=60)
    assert answer.status_code == 200
    return answer.json()


@pytest.fixture(scope="module")
def declared(statement):
    """The declared resource types but Subscription, which has tests of its own."""
    listed = statement["rest"][0]["resource"]
    return {one["type"]: one for one in listed if one["type"] != "Subscription"}


@pytest.fixture(scope="module")
def prober(client):
    return Prober(client)


def interactions(resource):
    return {one["code"] for one in resource["interaction"]}


def operations(resource):
    return {one["name"]: one["definition"] for one in resource.get("operation", [])}


def test_version_format_and_guide_are_named(statement):
    assert statement["fhirVersion"] == "4.0.1"
    assert "json" in statement["format"]
    assert f"{packages.SERVER}|{IN_FORCE}" in statement["instantiates"]
    coding = statement["rest"][0]["security"]["service"][0]["coding"][0]
    assert coding["code"] == "SMART-on-FHIR"


def test_nobody_learns_how_many_patients_there_are(statement):
    assert "resourceCount" not in str(statement)


@pytest.mark.parametrize("group", groups(IN_FORCE), ids=lambda group: group.name)
def test_every_profile_interaction_and_operation_that_shall_be_is_declared(declared, group):
    ours = declared[group.resource]

    wanted = {code for code, how in group.content["interactions"].items() if how == "SHALL"}

    assert group.profile in ours["supportedProfile"]
    assert wanted <= interactions(ours)
    for name in group.content["operations"]:
        definition = f"http://hl7.org/fhir/us/core/OperationDefinition/{name}"
        assert operations(ours)[name] == definition


@pytest.mark.parametrize("group", groups(IN_FORCE), ids=lambda group: group.name)
def test_every_search_that_shall_be_is_declared(declared, group):
    ours = declared[group.resource]
    alone = {(p["name"],) for p in ours["searchParam"] if expectation(p) == "SHALL"}
    together = {
        tuple(sorted(e["valueString"] for e in one["extension"] if e["url"] == "required"))
        for one in ours.get("extension", [])
        if one["url"] == COMBINATION and expectation(one) == "SHALL"
    }
    names = {parameter["name"] for parameter in ours["searchParam"]}

    wanted = {tuple(sorted(search.names)) for search in group.searches("SHALL")}

    assert wanted <= alone | together
    assert {name for search in wanted for name in search} <= names
    assert set(group.content["revincludes"]) <= set(ours["searchRevInclude"])
    assert set(group.content["includes"]) <= set(ours.get("searchInclude", []))


def test_every_declared_search_parameter_is_understood(declared, prober):
    refused = prober.refused(url for one in declared.values() for url in search_urls(one))

    assert refused == []


def test_every_declared_include_is_understood(declared, prober):
    refused = prober.refused(url for one in declared.values() for url in include_urls(one))

    assert refused == []


def test_what_is_not_declared_is_refused(client):
    for query in ("colour=red", "_filter=x", "_content=x", "_list=x", "_text=x"):
        assert client.get(f"/fhir/Patient?{query}").status_code == 400


def test_every_declared_interaction_works_on_every_type(client, declared, prober):
    """Created, read in every way, changed and deleted again."""
    kinds = sorted(declared)
    made = prober.batch([("POST", kind, body_of(kind)) for kind in kinds])
    paths = {
        kind: "/".join(one["response"].get("location", "none").split("/")[-4:-2])
        for kind, one in zip(kinds, made, strict=True)
    }
    reading = {
        "read": "{path}",
        "vread": "{path}/_history/1",
        "history-instance": "{path}/_history",
        "history-type": "{kind}/_history?_count=1",
        "search-type": "{kind}?_id={id}",
    }
    urls = [
        url.format(kind=kind, path=paths[kind], id=paths[kind].split("/")[-1])
        for kind in kinds
        for code, url in reading.items()
        if code in interactions(declared[kind]) and kind != "Binary"
    ]
    refused = prober.refused(urls)
    binary = client.get(f"/fhir/{paths['Binary']}").status_code  # in a Bundle it is not read
    changed = prober.batch(
        [
            ("PUT", path, {**body_of(kind), "id": path.split("/")[1], "language": "de"})
            for kind, path in paths.items()
        ]
    )
    deleted = prober.batch([("DELETE", path, None) for path in paths.values()])

    assert [k for k, p in paths.items() if p == "none"] == []
    assert (refused, binary) == ([], 200)
    assert [k for k, a in zip(kinds, changed, strict=True) if status(a) != "200"] == []
    for kind, answer in zip(kinds, deleted, strict=True):
        if status(answer) == "409":  # the store is still taking in a CodeSystem: it says so
            wait_for(
                lambda path=paths[kind]: client.delete(f"/fhir/{path}").status_code == 200,
                f"{kind} deleted",
            )
        else:
            assert status(answer) in ("200", "204"), kind


def status(answer):
    return answer["response"]["status"][:3]


@pytest.mark.parametrize("kind", IN_SCOPE)
def test_every_declared_interaction_works_by_itself(client, declared, kind):
    ours = declared[kind]
    tag = {"system": "https://hilum.dev/fhir/sid/test", "code": f"probe-{kind.lower()}"}
    body = body_of(kind) | {"meta": {"tag": [tag]}}
    condition = f"_tag={quote(tag['system'] + '|' + tag['code'])}"

    made = client.post(f"/fhir/{kind}", json=body)
    path = f"/fhir/{kind}/{made.json()['id']}"
    answers = {
        "read": client.get(path).status_code,
        "vread": client.get(f"{path}/_history/1").status_code,
        "history-instance": client.get(f"{path}/_history").status_code,
        "history-type": client.get(f"/fhir/{kind}/_history?_count=1").status_code,
        "search-type": client.post(f"/fhir/{kind}/_search", data={"_id": "x"}).status_code,
        "patch": client.patch(
            path, content=PATCH, headers={"Content-Type": "application/json-patch+json"}
        ).status_code,
        "update": client.put(path, json=body | {"id": made.json()["id"]}).status_code,
        "create": made.status_code,
    }
    again = client.post(f"/fhir/{kind}", json=body, headers={"If-None-Exist": condition})
    put = client.put(f"/fhir/{kind}?{condition}", json=body | {"language": "de"})
    answers["delete"] = client.delete(f"/fhir/{kind}?{condition}").status_code

    assert {name for name, code in answers.items() if code < 300} == interactions(ours)
    assert (ours["conditionalCreate"], again.status_code) == (True, 200)
    assert (ours["conditionalUpdate"], put.status_code) == (True, 200)
    assert ours["conditionalDelete"] == "single"
    assert client.get(path).status_code == 410


def test_a_conditional_delete_of_several_is_refused(client):
    tag = {"system": "https://hilum.dev/fhir/sid/test", "code": "probe-several"}
    condition = f"_tag={quote(tag['system'] + '|' + tag['code'])}"
    body = {"resourceType": "Basic", "meta": {"tag": [tag]}}
    made = [client.post("/fhir/Basic", json=body).json()["id"] for _ in range(2)]

    answer = client.delete(f"/fhir/Basic?{condition}")

    left = [client.get(f"/fhir/Basic/{one}").status_code for one in made]
    for one in made:
        client.delete(f"/fhir/Basic/{one}")
    assert (answer.status_code, left) == (412, [200, 200])


def test_the_declared_operations_are_answered(client, declared, loaded):
    assert set(operations(declared["Patient"])) == {"everything", "export", "validate"}
    assert set(operations(declared["Group"])) == {"export", "validate"}
    patient = "/fhir/Patient/uscore-amelia"

    everything = client.get(f"{patient}/$everything", params={"_count": "5"})
    docref = client.get("/fhir/DocumentReference/$docref", params={"patient": "uscore-amelia"})
    valid = client.post("/fhir/Patient/$validate", json=client.get(patient).json())

    assert [one.status_code for one in (everything, docref, valid)] == [200, 200, 200]


@pytest.mark.parametrize("path", ["$export", "Patient/$export"])
def test_the_declared_export_is_answered(client, path):
    headers = {"Prefer": "respond-async", "Accept": "application/fhir+json"}

    answer = client.get(f"/fhir/{path}", params={"_type": "Group"}, headers=headers)

    assert answer.status_code == 202
    client.delete(answer.headers["content-location"])


def test_batch_and_transaction_are_answered(client, statement):
    assert [i["code"] for i in statement["rest"][0]["interaction"]] == ["transaction", "batch"]
    for kind in ("batch", "transaction"):
        entry = [{"request": {"method": "GET", "url": "Patient?_id=none-such"}}]
        bundle = {"resourceType": "Bundle", "type": kind, "entry": entry}
        assert client.post("/fhir", json=bundle).status_code == 200
