"""B23 in the running product: HAPI or the web process is killed while an export runs."""

from __future__ import annotations

import pytest

from tests.bulk.exporting import finished, ids, kick_off

pytestmark = [pytest.mark.stack, pytest.mark.slow]


@pytest.mark.parametrize("part", ["hapi", "web"])
def test_b23_a_part_that_is_killed_in_the_middle_costs_an_export_nothing(stack, part):
    with stack.client() as client:
        client.base_url = f"{stack.base}/fhir/"
        made = client.post("Patient", json={"resourceType": "Patient", "gender": "unknown"}).json()
        pid = stack.addresses["pids"][part]
        place = kick_off(client, "$export?_type=Patient,Observation,ImagingStudy,Organization")
        stack.kill(part)
        stack.restarted(part, pid)

        status = finished(client, place, timeout_s=240)

        assert status.status_code == 200, status.text
        manifest = status.json()
        assert manifest["error"] == []
        assert made["id"] in ids(client, manifest)["Patient"]
        client.delete(place)
