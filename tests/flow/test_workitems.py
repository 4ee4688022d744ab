"""An inference ordered over UPS-RS and watched over a WebSocket, through the whole stack."""

from __future__ import annotations

import json
from typing import Any

import pytest
from websockets.sync.client import connect

from hilum.example.series import DEMO_CASE, write_study
from inference.models import load_model
from tests.dicomweb.workitem import code, element, value, work_item
from tests.fixtures.running import study_uid, wait_for

pytestmark = [pytest.mark.stack, pytest.mark.slow]

PATIENCE_S = 240
KINDS = {"1.2.840.10008.5.1.4.1.1.66.4": "SEG", "1.2.840.10008.5.1.4.1.1.88.34": "SR"}
MODEL = load_model().label
STATES = ["SCHEDULED", "IN PROGRESS", "COMPLETED"]


def ordering_item(study: str) -> dict[str, Any]:
    """A work item that orders our model on a study."""
    wanted = {
        "00080119": element("UC", MODEL),
        "00080102": element("SH", "99HILUM"),
        "00080104": element("LO", "Segment and measure"),
    }
    return work_item(study=study, t00404018=element("SQ", wanted))


def listen(stack, place: str, uid: str, wanted: str) -> dict[int, str]:
    """States of an item by Message ID, as events tell them up to the one that is waited for."""
    states: dict[int, str] = {}
    with connect(place, subprotocols=["bearer", stack.token()], proxy=None) as channel:
        while wanted not in states.values():
            event = json.loads(channel.recv(timeout=PATIENCE_S))
            if value(event, "00001000") == uid and "00741000" in event:
                states[value(event, "00000110")] = value(event, "00741000")
        if wanted != "COMPLETED":
            kill_web(stack)
    return states


def kill_web(stack) -> None:
    """The server of the channel dies while the work goes on."""
    pid = stack.addresses["pids"]["web"]
    stack.kill("web")
    stack.restarted("web", pid)


def outputs(client, uid: str) -> dict[str, str]:
    """Retrieve URL by kind of what a completed work item has made."""
    item = client.get(f"/dicomweb/workitems/{uid}").json()[0]
    found = {}
    for output in value(item, "00741216")["00404033"]["Value"]:
        url = value(output, "0040E025", "00081190")
        objects = client.get(f"{url}/instances").json()
        assert {value(one, "00080018") for one in objects} >= {
            value(one, "00081155") for one in output["00081199"]["Value"]
        }
        found[KINDS[value(output, "00081199", "00081150")]] = url
    return found


def test_an_order_before_its_images_survives_a_crash_of_the_server_that_shows_it(stack, tmp_path):
    files = write_study(DEMO_CASE, tmp_path)
    study = study_uid(files[0])
    with stack.client() as client:
        created = client.post("/dicomweb/workitems", json=ordering_item(study))
        assert created.status_code == 201, created.text
        uid = created.headers["Location"].rsplit("/", 1)[1]
        subscribed = client.post(f"/dicomweb/workitems/{uid}/subscribers/WATCHER")
        place = subscribed.headers["Content-Location"]

        sent = stack.run("send", str(tmp_path))
        assert sent.returncode == 0, sent.stdout + sent.stderr
        states = listen(stack, place, uid, "IN PROGRESS")
        states |= listen(stack, place, uid, "COMPLETED")

        made = outputs(client, uid)
        named = f"urn:dicom:uid|urn:oid:{uid}"
        found = client.get("/dicomweb/workitems", params={"StudyInstanceUID": study})
        assert found.status_code in (200, 204), found.text
        shown = found.json() if found.status_code == 200 else []
        imaging = client.get("/fhir/ImagingStudy", params={"identifier": f"urn:oid:{study}"})
        focus = f"ImagingStudy/{imaging.json()['entry'][0]['resource']['id']}"
        tasks = client.get("/fhir/Task", params={"focus": focus}).json()["entry"]
        ordered = client.get("/fhir/Task", params={"identifier": named}).json().get("entry", [])

    assert [states[number] for number in sorted(states)] == STATES
    assert set(made) == {"SEG", "SR"}
    assert [entry["resource"]["status"] for entry in tasks] == ["completed"]
    assert {entry["resource"]["id"] for entry in ordered} <= {tasks[0]["resource"]["id"]}
    # The run is the automatic one or the ordered one, whichever came first: one Task in any case.
    assert {value(item, "00741000") for item in shown} <= {"COMPLETED"}


def test_the_automatic_run_of_a_study_shows_as_a_work_item(stack, demo_study):
    study = demo_study["uid"]
    with stack.client() as client:

        def shown() -> list[dict[str, Any]] | None:
            query = {"StudyInstanceUID": study, "ProcedureStepState": "COMPLETED"}
            answer = client.get("/dicomweb/workitems", params=query)
            return answer.json() if answer.status_code == 200 else None

        (item,) = wait_for(shown, "a completed work item")
        uid = value(item, "00080018")
        made = outputs(client, uid)
        again = client.post("/dicomweb/workitems", json=ordering_item(study))
        ordered = again.headers["Location"].rsplit("/", 1)[1]

        def answered() -> bool:
            item = client.get(f"/dicomweb/workitems/{ordered}").json()[0]
            return bool(value(item, "00741000") == "COMPLETED")

        wait_for(answered, "the order answered by the result that is there")
        same = outputs(client, ordered)

    assert value(item, "00404018", "00080119") == MODEL
    assert set(made) == {"SEG", "SR"}
    assert same == made


def test_an_order_for_a_model_that_is_not_here_says_which_one_is(stack):
    wanted = element("SQ", code("other@1", "99HILUM", "Other"))
    with stack.client() as client:
        created = client.post("/dicomweb/workitems", json=work_item(t00404018=wanted))
        path = created.headers["Location"].split("/dicomweb", 1)[1]

        def refused() -> dict[str, Any] | None:
            item = client.get(f"/dicomweb{path}").json()[0]
            return item if value(item, "00741000") == "CANCELED" else None

        item = wait_for(refused, "the order refused")

    assert MODEL in value(item, "00741002", "00741238")
