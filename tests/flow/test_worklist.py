"""An order on the worklist, from the command line to the modality and back by MPPS."""

from __future__ import annotations

import json

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE

from dimse.workflow.mpps import STEP
from dimse.workflow.worklist import MODALITY_WORKLIST
from tests.dimse.test_mpps import begun, ended
from tests.dimse.test_worklist import item, step

pytestmark = [pytest.mark.stack]


@pytest.fixture
def modality(stack):
    title, host, port = stack.dimse
    ae = AE("MR1")
    ae.add_requested_context(MODALITY_WORKLIST)
    ae.add_requested_context(STEP)
    association = ae.associate(host, port, ae_title=title)
    assert association.is_established
    yield association
    association.release()


def offered(modality, accession):
    keys, inner = Dataset(), Dataset()
    inner.ScheduledProcedureStepID = ""
    keys.AccessionNumber, keys.PatientName = accession, ""
    keys.ScheduledProcedureStepSequence = [inner]
    answers = list(modality.send_c_find(keys, MODALITY_WORKLIST))
    assert answers[-1][0].Status == 0x0000
    return [
        one.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID for _, one in answers[:-1]
    ]


def test_an_order_is_offered_until_the_modality_has_done_it(stack, modality, tmp_path):
    study, accession = generate_uid(), generate_uid()[-12:]
    order = tmp_path / "order.json"
    order.write_text(
        json.dumps(item(step("S1"), StudyInstanceUID=study, AccessionNumber=accession))
    )

    added = stack.run("worklist", "add", str(order), "--key", accession)
    before = offered(modality, accession)
    uid = generate_uid()
    created, _ = modality.send_n_create(begun(study), STEP, uid)
    finished, _ = modality.send_n_set(ended(), STEP, uid)
    after = offered(modality, accession)
    listed = stack.run("worklist", "list")
    removed = stack.run("worklist", "remove", accession)
    again = stack.run("worklist", "remove", accession)

    assert added.returncode == 0, added.stdout + added.stderr
    assert (before, after) == (["S1"], [])
    assert (created.Status, finished.Status) == (0x0000, 0x0000)
    assert accession in listed.stdout
    assert "COMPLETED" in listed.stdout
    assert (removed.returncode, again.returncode) == (0, 1)


@pytest.mark.parametrize("content", ["", "[]", '{"00100010": 1}', "{}"])
def test_a_file_that_is_no_order_is_an_error_in_one_line(stack, tmp_path, content):
    wrong = tmp_path / "wrong.json"
    wrong.write_text(content)

    done = stack.run("worklist", "add", str(wrong))

    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
