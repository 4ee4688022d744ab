"""Who may do what with work items, what is recorded of it, and how long they are kept."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest
from pydicom.uid import generate_uid

from tests.dicomweb.workitem import JSON, TASKS, state, value, work_item


@pytest.fixture
def manager(server):
    """A workflow manager with every right on tasks."""
    with server.client(Authorization=f"Bearer {server.token_for(TASKS)}") as client:
        yield client


@pytest.fixture
def create(manager):
    def create(**changes) -> str:
        answer = manager.post("/workitems", json=[work_item(**changes)], headers=JSON)
        assert answer.status_code == 201, answer.text
        return answer.headers["Location"].rsplit("/", 1)[1]

    return create


def test_rights_on_tasks_open_work_items_and_those_on_images_do_not(server):
    uid = generate_uid()
    clients = {
        scope: server.client(Authorization=f"Bearer {server.token_for(scope)}")
        for scope in ("system/ImagingStudy.cruds", "system/Task.r", "system/Task.c")
    }
    attempts = [
        clients["system/ImagingStudy.cruds"].post(f"/workitems?{uid}", json=work_item()),
        clients["system/Task.r"].post(f"/workitems?{uid}", json=work_item()),
        clients["system/Task.c"].post(f"/workitems?{uid}", json=work_item()),
        clients["system/Task.c"].get(f"/workitems/{uid}"),
        clients["system/Task.r"].get(f"/workitems/{uid}"),
        clients["system/Task.r"].get("/workitems"),
        server.client(Authorization="").get(f"/workitems/{uid}"),
    ]
    for client in clients.values():
        client.close()

    assert [one.status_code for one in attempts] == [403, 403, 201, 403, 200, 403, 401]


def test_a_caller_limited_to_studies_sees_and_makes_only_items_of_these(server, create):
    mine, other = generate_uid(), generate_uid()
    hidden = create(study=other)
    token = server.token_for(TASKS, studies=[mine])
    with server.client(Authorization=f"Bearer {token}") as limited:
        outside = limited.post("/workitems", json=work_item(study=other))
        inside = limited.post("/workitems", json=work_item(study=mine))
        shown = limited.get("/workitems", params={"PatientID": "P-77"}).json()
        answers = [
            limited.get(f"/workitems/{hidden}"),
            limited.put(f"/workitems/{hidden}/state", json=state("IN PROGRESS", "1.2.3")),
            limited.post(f"/workitems/{hidden}/subscribers/WATCHER"),
        ]

    assert [outside.status_code, inside.status_code] == [400, 201]
    assert [value(item, "00080018") for item in shown] == [
        inside.headers["Location"].rsplit("/", 1)[1]
    ]
    assert [one.status_code for one in answers] == [404, 404, 404]


def test_each_request_is_in_the_audit_trail_without_patient_data(server, manager, create):
    uid = create()
    manager.get("/workitems", params={"PatientName": "Secretname*"})

    records = server.audits()
    ours = [one for one in records if one.resource and "/workitems" in one.resource]

    assert {"C", "E"} <= {one.action for one in ours}
    assert not [one for one in records if "Secretname" in str(one)]
    assert uid


def test_a_finished_item_with_a_deletion_lock_outlives_its_time(server, dsn, manager, create):
    locked, free, running = create(), create(), create()
    manager.post(f"/workitems/{locked}/subscribers/KEEPER?deletionlock=true")
    for uid in (locked, free):
        manager.post(f"/workitems/{uid}/cancelrequest")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "update archive.workitem set changed_at = now() - interval '2 days'"
            " where uid = any(%s)",
            [[locked, free, running]],
        )

    server.archive.workitems.forget_finished(timedelta(days=1))

    found = [manager.get(f"/workitems/{uid}").status_code for uid in (locked, free, running)]
    assert found == [200, 404, 200]
