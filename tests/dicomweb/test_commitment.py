"""Storage commitment over the web (PS3.18 chapter 13)."""

from __future__ import annotations

import pytest
from pydicom.uid import generate_uid

from archive import InstanceKey
from dicomweb.xml import to_native
from tests.dicomweb.server import file_of, running, slice_of

JSON = {"Content-Type": "application/dicom+json", "Accept": "application/dicom+json"}


def naming(*datasets):
    items = [
        {
            "00081150": {"vr": "UI", "Value": [one.SOPClassUID]},
            "00081155": {"vr": "UI", "Value": [one.SOPInstanceUID]},
        }
        for one in datasets
    ]
    return {"00081199": {"vr": "SQ", "Value": items}}


def uids(answer, sequence):
    items = answer.json().get(sequence, {}).get("Value", [])
    return {item["00081155"]["Value"][0]: item.get("00081197", {}).get("Value") for item in items}


def test_instances_whose_bytes_are_right_are_committed_to_and_others_are_not(server, web, stored):
    missing, lying, damaged = slice_of(), slice_of(), slice_of()
    server.stow(file_of(lying), file_of(damaged))
    lying.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    key = InstanceKey(damaged.StudyInstanceUID, damaged.SeriesInstanceUID, damaged.SOPInstanceUID)
    path = server.archive.instance(key).path
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)

    request = naming(stored, missing, lying, damaged)
    answer = web.post(f"/commitment-requests/{generate_uid()}", json=request, headers=JSON)

    assert answer.status_code == 200
    assert uids(answer, "00081199") == {stored.SOPInstanceUID: None}
    assert uids(answer, "00081198") == {
        missing.SOPInstanceUID: [0x0112],
        lying.SOPInstanceUID: [0x0119],
        damaged.SOPInstanceUID: [0x0110],
    }


def test_the_result_can_be_asked_for_by_its_caller_and_the_uid_is_used_once(server, web, stored):
    url = f"/commitment-requests/{generate_uid()}"
    first = web.post(url, json=naming(stored), headers=JSON)
    again = web.post(url, json=naming(stored), headers=JSON)
    result = web.get(url, headers=JSON)
    stranger = server.authority.mint(
        subject="stranger", scope="system/ImagingStudy.c", lifetime_s=60
    )
    with server.client(Authorization=f"Bearer {stranger}") as other:
        hidden = other.get(url)

    assert [first.status_code, again.status_code, result.status_code] == [200, 409, 200]
    assert result.json() == first.json()
    assert (
        hidden.status_code == web.get(f"/commitment-requests/{generate_uid()}").status_code == 404
    )


def test_xml_goes_both_ways(web, stored):
    answer = web.post(
        f"/commitment-requests/{generate_uid()}",
        content=to_native(naming(stored)),
        headers={"Content-Type": "application/dicom+xml", "Accept": "application/dicom+xml"},
    )

    assert answer.status_code == 200
    assert stored.SOPInstanceUID in answer.text


def test_a_restricted_caller_learns_nothing_of_other_studies(server, stored):
    token = server.token_for("system/ImagingStudy.c", studies=[generate_uid()])
    with server.client(Authorization=f"Bearer {token}") as web:
        answer = web.post(
            f"/commitment-requests/{generate_uid()}", json=naming(stored), headers=JSON
        )

    assert uids(answer, "00081198") == {stored.SOPInstanceUID: [0x0112]}


@pytest.mark.parametrize(
    "request_body",
    [{}, [], "x", {"00081199": {"vr": "SQ"}}, {"00081199": {"vr": "SQ", "Value": [{}]}}],
)
def test_a_request_without_instances_is_400(web, request_body):
    url = f"/commitment-requests/{generate_uid()}"

    assert web.post(url, json=request_body, headers=JSON).status_code == 400


def test_a_transaction_that_is_no_uid_is_400(web, stored):
    answer = web.post("/commitment-requests/0123..4", json=naming(stored), headers=JSON)

    assert answer.status_code == 400


def test_results_survive_the_process_and_what_it_left_unverified_is_verified(dsn, tmp_path):
    done, left = f"/commitment-requests/{generate_uid()}", generate_uid()
    with running(dsn, tmp_path) as server, server.client() as web:
        instance = slice_of()
        server.stow(file_of(instance))
        first = web.post(done, json=naming(instance), headers=JSON)
        named = [(instance.SOPClassUID, instance.SOPInstanceUID)]
        server.archive.commitments.begin(left, "test", named, frozenset())

    with running(dsn, tmp_path) as server, server.client() as web:
        result = web.get(done, headers=JSON)
        again = web.post(done, json=naming(instance), headers=JSON)
        resumed = web.get(f"/commitment-requests/{left}", headers=JSON)

    assert result.json() == first.json()
    assert again.status_code == 409
    assert uids(resumed, "00081199") == {instance.SOPInstanceUID: None}
