"""B15, B16, B20 and B22 of the bulk checklist: files, attachments, blocks, several manifests."""

from __future__ import annotations

import gzip
import io
import json
from base64 import b64encode
from hashlib import sha256

import pyarrow.parquet as pq
import pytest

from fhir_gateway.bulk.parquet import SCHEMA
from tests.bulk.exporting import exported, finished, ids, kick_off, lines, resources


def test_b15_a_file_is_ndjson_of_one_type_and_each_line_is_a_resource(everything, cohort):
    manifest = exported(everything, f"Group/{cohort.group}/$export?_type=Patient,Observation")

    assert {file["type"] for file in manifest["output"]} == {"Patient", "Observation"}
    for file in manifest["output"]:
        answer = everything.get(file["url"])
        assert answer.headers["content-type"] == "application/fhir+ndjson"
        assert all(line.strip() for line in answer.text.split("\n")[:-1])
    resources(everything, manifest)  # counts, types and lines are looked at there


def test_b15_a_file_is_compressed_only_for_who_accepts_it(everything, cohort):
    url = exported(everything, f"Group/{cohort.group}/$export?_type=Patient")["output"][0]["url"]

    plain = everything.get(url, headers={"Accept-Encoding": "identity"})
    refused = everything.get(url, headers={"Accept-Encoding": "gzip;q=0"})
    with everything.stream("GET", url, headers={"Accept-Encoding": "gzip"}) as packed:
        raw = b"".join(packed.iter_raw())

    assert "content-encoding" not in plain.headers and "content-encoding" not in refused.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(raw) == plain.content == refused.content


def test_b15_a_file_can_be_fetched_in_parts_and_checked(everything, cohort):
    url = exported(everything, f"Group/{cohort.group}/$export?_type=Patient")["output"][0]["url"]
    identity = {"Accept-Encoding": "identity"}
    whole = everything.get(url, headers=identity)

    rest = everything.get(url, headers={**identity, "Range": "bytes=10-"})

    assert rest.status_code == 206
    assert rest.content == whole.content[10:]
    digest = b64encode(sha256(whole.content).digest()).decode()
    assert whole.headers["repr-digest"] == f"sha-256=:{digest}:"
    assert whole.headers["etag"] == rest.headers["etag"]


def test_b15_a_long_export_has_several_files_of_a_type(own_group, cohort):
    gateway = own_group.gateway(file_rows=1).start().ready()
    try:
        with own_group.client() as client:
            url = f"Group/{cohort.group}/$export?_type=Patient"
            manifest = exported(client, f"{url}&_typeFilter=Patient%3Fgender%3Dunknown")
            assert ids(client, manifest)["Patient"] == set(cohort.members)
    finally:
        gateway.stop()


def test_b16_an_export_of_nothing_has_no_files(everything, cohort):
    url = f"Group/{cohort.group}/$export?_type=Patient&_since=2999-01-01T00:00:00Z"
    empty = cohort.put_group([])

    assert exported(everything, url)["output"] == []
    assert exported(everything, f"Group/{empty}/$export")["output"] == []


@pytest.fixture
def document(everything, fresh):
    """A DocumentReference of a member; its attachment is a Binary."""
    patient = {"reference": f"Patient/{fresh.members[0]}"}
    binary = fresh.create(
        "Binary",
        contentType="application/pdf",
        securityContext=patient,
        data=b64encode(b"%PDF-1.7 content").decode(),
    )
    attachment = {"contentType": "application/pdf", "url": f"Binary/{binary['id']}"}
    return fresh.create(
        "DocumentReference",
        status="current",
        subject=patient,
        content=[{"attachment": attachment}, {"attachment": {"contentType": "text/plain",
                 "data": b64encode(b"x" * 300_000).decode()}}],
    )  # fmt: skip


def test_b20_an_attachment_has_an_absolute_url_that_the_same_token_opens(
    gateways, everything, client_for, fresh, document
):
    client = client_for("system/DocumentReference.rs system/Patient.rs")

    (row,) = resources(client, exported(client, f"Group/{fresh.group}/$export"))[
        "DocumentReference"
    ]

    by_url, inline = (one["attachment"] for one in row["content"])
    assert by_url["url"].startswith(f"{gateways.public}/fhir/Binary/")
    fetched = client.get(by_url["url"], headers={"Accept": "*/*"})
    assert (fetched.status_code, fetched.content) == (200, b"%PDF-1.7 content")
    assert len(inline["data"]) == 400_000


def test_b20_a_raw_binary_is_never_exported(everything, fresh, document):
    found = exported(everything, f"Group/{fresh.group}/$export")

    assert "Binary" not in {file["type"] for file in found["output"]}


def test_b22_blocks_of_patients_begin_with_a_header_and_hold_what_is_theirs(everything, fresh):
    shared = fresh.create(
        "Appointment",
        status="booked",
        participant=[
            {"actor": {"reference": f"Patient/{one}"}, "status": "accepted"}
            for one in fresh.members
        ],
    )["id"]
    told = fresh.create(
        "Provenance",
        target=[{"reference": f"Observation/{fresh.observations[fresh.members[0]][0]}"}],
        recorded="2024-01-01T00:00:00Z",
        agent=[{"who": {"display": "somebody"}}],
    )["id"]

    manifest = exported(everything, f"Group/{fresh.group}/$export?organizeOutputBy=Patient")

    assert manifest["outputOrganizedBy"] == "Patient"
    blocks = {}
    for file in manifest["output"]:
        assert "type" not in file
        for row in lines(everything, file):
            if row["resourceType"] == "Parameters":
                header = row["parameter"][0]
                assert header["name"] == "header"
                block = blocks.setdefault(header["valueReference"]["reference"], [])
            else:
                block.append(row)
    assert set(blocks) == {f"Patient/{one}" for one in fresh.members}
    for one in fresh.members:
        block = blocks[f"Patient/{one}"]
        assert (block[0]["resourceType"], block[0]["id"]) == ("Patient", one)
        inside = {row["id"] for row in block}
        assert {*fresh.observations[one], shared} <= inside
        assert (told in inside) == (one == fresh.members[0])


def test_b22_several_manifests_lead_to_all_files(own_group, cohort):
    gateway = own_group.gateway(file_rows=1, page_files=1).start().ready()
    try:
        with own_group.client() as client:
            url = f"Group/{cohort.group}/$export?_type=Patient,Observation"
            plain = exported(client, url)
            first = finished(client, kick_off(client, f"{url}&allowPartialManifests=true"))

            found, pages, manifest = [], 1, first.json()
            assert len(manifest["output"]) == 1
            fixed = {k: v for k, v in manifest.items() if k not in ("output", "error", "link")}
            found += manifest["output"]
            while link := manifest.get("link"):
                assert [one["relation"] for one in link] == ["next"]
                answer = client.get(link[0]["url"])
                assert answer.status_code == 200
                manifest = answer.json()
                assert fixed.items() <= manifest.items()
                found += manifest["output"]
                pages += 1

            assert pages == len(plain["output"])
            assert ids(client, {"output": found}) == ids(client, plain)
            assert "link" not in plain
    finally:
        gateway.stop()


def test_b22_the_manifest_of_the_next_version_has_its_form(own_group, cohort):
    gateway = own_group.gateway(manifest="4.0").start().ready()
    try:
        with own_group.client() as client:
            url = f"Group/{cohort.group}/$export?_type=Patient&_since=2020-01-01T00:00:00Z"

            manifest = exported(client, url)

            assert manifest["manifestType"].endswith("/BulkDataManifest")
            assert manifest["outputFormat"] == "application/fhir+ndjson"
            assert manifest["outcome"] == [] and manifest["deleted"] == []
            assert not {"request", "error"} & set(manifest)
            assert set(manifest["output"][0]) == {"type", "url", "count", "fileSize"}
            resources(client, manifest)
    finally:
        gateway.stop()


def test_parquet_has_the_same_rows_with_columns_and_the_resource_itself(everything, fresh):
    number = fresh.observation(
        fresh.members[0],
        code={"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
        valueQuantity={"value": 13.5, "unit": "g/dL", "code": "g/dL"},
    )
    url = f"Group/{fresh.group}/$export?_type=Patient,Observation"

    as_lines = resources(everything, exported(everything, url))
    tables = {}
    manifest = exported(everything, f"{url}&_outputFormat=application/vnd.apache.parquet")
    for file in manifest["output"]:
        answer = everything.get(file["url"])
        assert answer.headers["content-type"] == "application/vnd.apache.parquet"
        tables[file["type"]] = pq.read_table(io.BytesIO(answer.content))
        assert tables[file["type"]].num_rows == file["count"]

    for kind, table in tables.items():
        assert table.schema.equals(SCHEMA)
        rows = {row["id"]: row for row in table.to_pylist()}
        assert {k: json.loads(v["resource"]) for k, v in rows.items()} == {
            one["id"]: one for one in as_lines[kind]
        }
    row = {one["id"]: one for one in tables["Observation"].to_pylist()}[number["id"]]
    assert (row["code"], row["value_number"], row["value_unit"]) == ("718-7", 13.5, "g/dL")
    assert row["patient_id"] == fresh.members[0]
    assert row["date"] == "2024-05-01T10:00:00Z"


def test_b22_parquet_in_blocks_is_refused(everything):
    url = "$export?_outputFormat=application/vnd.apache.parquet&organizeOutputBy=Patient"

    assert everything.get(url, headers={"Prefer": "respond-async"}).status_code == 400
