"""kill -9 of any process in the middle of the path loses nothing and doubles nothing."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from hilum.example.series import DEMO_CASE, write_study
from tests.fixtures.running import (
    Running,
    imaging_study,
    outcome,
    reported,
    search,
    study_uid,
    wait_for,
)

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(420)]

ONCE = {
    "tasks": ["completed"],
    "reports": 1,
    "renditions": [
        "application/pdf",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ],
    "series": {"MR": 4, "SEG": 1, "SR": 1, "DOC": 1, "KO": 0},
    "instances": {"MR": 432, "SEG": 1, "SR": 1, "DOC": 1, "KO": 0},
}


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "study"
    files = write_study(DEMO_CASE, folder)
    return folder, study_uid(files[0])


def send(stack: Running, folder) -> None:
    done = stack.run("send", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr


def kill_and_wait(stack: Running, part: str) -> None:
    old = stack.addresses["pids"][part]
    stack.kill(part)
    stack.restarted(part, old)


def test_dimse_killed_while_it_receives(stack, study):
    folder, uid = study
    sender = threading.Thread(target=lambda: stack.run("send", str(folder)))
    with stack.client() as client:
        sender.start()
        while client.get(f"/dicomweb/studies/{uid}/series").status_code != 200:
            time.sleep(0.02)  # into the transfer

    kill_and_wait(stack, "dimse")
    sender.join()
    send(stack, folder)  # what a modality does: it sends again what was not acknowledged
    reported(stack, uid)

    # What had come may have started a run while DIMSE was away. If it ended before the rest was
    # there, its results are withdrawn: one report counts, and one segmentation is not rejected.
    wait_for(lambda: settled(outcome(stack, uid)), "the end of every run, and one report")
    assert outcome(stack, uid)["instances"]["MR"] == 432


def settled(found: dict[str, Any]) -> bool:
    """Every run has ended, and of each completed one but the last the results are withdrawn."""
    runs, results = found["tasks"].count("completed"), found["instances"]
    return (
        set(found["tasks"]) <= {"completed", "cancelled", "rejected"}
        and (found["reports"], found["renditions"]) == (1, ONCE["renditions"])
        and results["SEG"] == results["SR"] == runs >= 1
        and results["KO"] == runs - 1
    )


def test_web_killed_while_the_study_is_published(stack, study):
    folder, uid = study
    send(stack, folder)
    time.sleep(1.5)  # about when it is quiet

    kill_and_wait(stack, "web")
    reported(stack, uid)

    assert outcome(stack, uid) == ONCE


@pytest.mark.parametrize("after_s", [0.3, 3.0])
def test_worker_killed_while_it_runs_the_model(stack, study, after_s):
    folder, uid = study
    send(stack, folder)
    with stack.client() as client:
        found = wait_for(lambda: imaging_study(client, uid), "an ImagingStudy")
        focus = f"ImagingStudy/{found['id']}"
        wait_for(
            lambda: [t for t in search(client, "Task", focus=focus) if t["status"] != "requested"],
            "a Task at work",
        )
    time.sleep(after_s)

    kill_and_wait(stack, "worker")
    reported(stack, uid)

    assert outcome(stack, uid) == ONCE


def test_hapi_killed_while_the_results_are_written(stack, study):
    folder, uid = study
    send(stack, folder)
    with stack.client() as client:
        wait_for(lambda: imaging_study(client, uid), "an ImagingStudy")

    kill_and_wait(stack, "hapi")
    reported(stack, uid)

    assert outcome(stack, uid) == ONCE
