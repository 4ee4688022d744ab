"""An order from the EHR to the modality and back, with real programs on the running product."""

from __future__ import annotations

import re
import subprocess
import uuid

import pytest
from pydicom.uid import generate_uid
from pynetdicom import AE

from dimse.workflow.mpps import STEP
from tests.dimse.test_mpps import begun, ended
from tests.fhir_gateway.orders import documented
from tests.fixtures.peers import needs
from tests.fixtures.running import search, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.stack]


@pytest.fixture
def placed(stack):
    """The documented transaction, sent as an EHR sends it; what it made, by type."""
    tag = uuid.uuid4().hex[:10].upper()
    with stack.client() as client:
        answer = client.post("/fhir", json=documented(tag))
        assert answer.status_code == 200, answer.text
        made = {}
        for one in answer.json()["entry"]:
            location = one["response"]["location"].split("/_history")[0]
            kind, name = location.split("/")[-2:]
            made[kind] = client.get(f"/fhir/{kind}/{name}").json()
    return tag, made


def found_by_findscu(stack, accession):
    """What DCMTK's findscu says of a worklist query for an accession number."""
    title, host, port = stack.dimse
    keys = [
        f"AccessionNumber={accession}", "PatientName", "PatientID", "StudyInstanceUID",
        "RequestedProcedureDescription", "ReferringPhysicianName",
        "ScheduledProcedureStepSequence[0].ScheduledStationAETitle",
        "ScheduledProcedureStepSequence[0].ScheduledProcedureStepID",
        "ScheduledProcedureStepSequence[0].Modality",
    ]  # fmt: skip
    wanted = [part for key in keys for part in ("-k", key)]
    done = subprocess.run(
        ["findscu", "-W", "-aet", "MR1", "-aec", title, host, str(port), *wanted],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    text = done.stdout + done.stderr
    if "RequestedProcedureDescription" not in text.partition("Find Response")[2]:
        return {}
    answer = text.partition("Find Response")[2]
    return dict(re.findall(r"\[([^]]*)\]\s+#\s*\d+,\s*\d+ (\w+)", answer)) | {"text": answer}


def value(answer, name):
    found = re.search(rf"\[([^]]*)\]\s+#\s*\d+,\s*\d+ {name}\b", answer["text"])
    return found[1].strip() if found else ""


@needs("findscu")
def test_an_order_is_offered_performed_and_told_to_the_ehr(stack, placed):
    tag, made = placed
    order = made["ServiceRequest"]["id"]

    answer = wait_for(lambda: found_by_findscu(stack, f"ACC{tag}"), "the order on the worklist")
    study, step = value(answer, "StudyInstanceUID"), value(answer, "ScheduledProcedureStepID")
    title, host, port = stack.dimse
    ae = AE("MR1")
    ae.add_requested_context(STEP)
    modality = ae.associate(host, port, ae_title=title)
    assert modality.is_established
    uid = generate_uid()
    created, _ = modality.send_n_create(begun(study, step), STEP, uid)
    finished, _ = modality.send_n_set(ended(), STEP, uid)
    modality.release()

    assert value(answer, "PatientID") == f"EHR{tag}"
    assert value(answer, "PatientName") == "Example^Erika^M"
    assert value(answer, "ScheduledStationAETitle") == "MR1"
    assert value(answer, "Modality") == "MR"
    assert value(answer, "ReferringPhysicianName") == "Refer^Rita^^Dr."
    assert (created.Status, finished.Status) == (0, 0)
    with stack.client() as client:

        def completed():
            request = client.get(f"/fhir/ServiceRequest/{order}").json()
            return request["status"] == "completed"

        wait_for(completed, "the order completed")
        (procedure,) = search(client, "Procedure", identifier=f"urn:dicom:uid|urn:oid:{uid}")
    assert procedure["status"] == "completed"
    assert procedure["basedOn"] == [{"reference": f"ServiceRequest/{order}"}]
    assert not found_by_findscu(stack, f"ACC{tag}")


@needs("findscu")
def test_an_order_that_the_ehr_revokes_is_no_longer_offered(stack, placed):
    tag, made = placed
    wait_for(lambda: found_by_findscu(stack, f"ACC{tag}"), "the order on the worklist")

    with stack.client() as client:
        order = made["ServiceRequest"]
        answer = client.put(
            f"/fhir/ServiceRequest/{order['id']}", json={**order, "status": "revoked"}
        )
        assert answer.status_code == 200, answer.text

    wait_for(lambda: not found_by_findscu(stack, f"ACC{tag}"), "the order gone")
