"""Subscriptions and the event channel (PS3.18 11.10 to 11.13, PS3.4 CC.2.3 and CC.2.4)."""

from __future__ import annotations

import json
import socket
import uuid

import pytest
from pydicom.uid import generate_uid
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.dicomweb.workitem import TASKS, code, element, performed, state, value, work_item

ALL = "1.2.840.10008.5.1.4.34.5"
FILTERED = "1.2.840.10008.5.1.4.34.5.1"
STATE_REPORT, CANCEL_REQUESTED, PROGRESS, ASSIGNED = 1, 2, 3, 5


@pytest.fixture
def manager(server):
    with server.client(Authorization=f"Bearer {server.token_for(TASKS)}") as client:
        yield client


@pytest.fixture
def ae():
    """An AE title of this test alone."""
    return uuid.uuid4().hex[:16].upper()


@pytest.fixture(autouse=True)
def alone(server, ae):
    """No global subscription of this test outlives it."""
    yield
    with server.client(Authorization=f"Bearer {server.token_for(TASKS)}") as client:
        for target in (ALL, FILTERED):
            client.delete(f"/workitems/{target}/subscribers/{ae}")


@pytest.fixture
def create(manager):
    def create(**changes) -> str:
        answer = manager.post("/workitems", json=work_item(**changes))
        assert answer.status_code == 201, answer.text
        return answer.headers["Location"].rsplit("/", 1)[1]

    return create


@pytest.fixture
def listen(server):
    """Opens the channel of an AE."""

    def listen(ae: str, scope: str = TASKS, **claims) -> ClientConnection:
        token = server.token_for(scope, **claims)
        return connect(
            f"{server.base.replace('http', 'ws', 1)}/subscribers/{ae}",
            additional_headers={"Authorization": f"Bearer {token}"},
            proxy=None,
        )

    return listen


def events(channel: ClientConnection, count: int) -> list[dict]:
    """The next events."""
    found = [json.loads(channel.recv(timeout=15)) for _ in range(count)]
    for event in found:
        assert value(event, "00000002") == "1.2.840.10008.5.1.4.34.6.1"
        assert value(event, "00000100") == 256
    return found


def told(event: dict) -> tuple:
    """Kind and state of an event."""
    named = value(event, "00741000") if "00741000" in event else None
    return value(event, "00001002"), named


def nothing_more(channel: ClientConnection) -> bool:
    try:
        channel.recv(timeout=1.2)  # the server looks twice a second
    except TimeoutError:
        return True
    return False


def test_a_subscriber_of_one_item_sees_its_whole_life(manager, create, listen, ae, server):
    uid, transaction, study = create(), generate_uid(), generate_uid()
    answer = manager.post(f"/workitems/{uid}/subscribers/{ae}")
    path = f"/workitems/{uid}"
    doing = {"00741002": element("SQ", {"00741004": element("DS", "50")})}

    with listen(ae) as channel:
        manager.put(f"{path}/state", json=state("IN PROGRESS", transaction))
        manager.post(f"{path}?{transaction}", json=doing)
        manager.post(f"{path}/cancelrequest", json={"00741238": element("LT", "Please stop")})
        manager.post(f"{path}?{transaction}", json=performed(study))
        manager.put(f"{path}/state", json=state("COMPLETED", transaction))
        found = events(channel, 5)

    assert answer.status_code == 201
    place = answer.headers["Content-Location"]
    assert place == f"{server.base.replace('http', 'ws', 1)}/subscribers/{ae}"
    assert [told(event) for event in found] == [
        (STATE_REPORT, "SCHEDULED"),
        (STATE_REPORT, "IN PROGRESS"),
        (PROGRESS, None),
        (CANCEL_REQUESTED, None),
        (STATE_REPORT, "COMPLETED"),
    ]
    assert {value(event, "00001000") for event in found} == {uid}
    assert value(found[0], "00404041") == "READY"
    assert value(found[2], "00741002", "00741004") == "50"
    assert value(found[3], "00741238") == "Please stop"
    assert value(found[3], "00741236") == "test"


def test_a_cancelled_scheduled_item_is_reported_in_both_steps(manager, create, listen, ae):
    uid = create()
    manager.post(f"/workitems/{uid}/subscribers/{ae}")
    manager.post(f"/workitems/{uid}/cancelrequest")

    with listen(ae) as channel:
        found = events(channel, 4)

    assert [told(event) for event in found] == [
        (STATE_REPORT, "SCHEDULED"),
        (CANCEL_REQUESTED, None),
        (STATE_REPORT, "IN PROGRESS"),
        (STATE_REPORT, "CANCELED"),
    ]


def test_a_global_subscriber_hears_of_new_items_and_whom_they_are_assigned_to(
    manager, create, listen, ae
):
    manager.post(f"/workitems/{ALL}/subscribers/{ae}")

    with listen(ae) as channel:
        uid = create()
        station = {"00404025": element("SQ", code("GPU9", "99TEST", "GPU 9"))}
        manager.post(f"/workitems/{uid}", json=station)
        manager.post(f"/workitems/{uid}", json={"00404041": element("CS", "UNAVAILABLE")})
        found = events(channel, 4)

    assert [told(event) for event in found] == [
        (STATE_REPORT, "SCHEDULED"),
        (ASSIGNED, None),
        (ASSIGNED, None),
        (STATE_REPORT, "SCHEDULED"),
    ]
    assert value(found[2], "00404025", "00080100") == "GPU9"
    assert value(found[3], "00404041") == "UNAVAILABLE"


def test_a_global_subscription_with_lock_begins_with_what_is_there(manager, create, listen, ae):
    uid = create()
    manager.post(f"/workitems/{ALL}/subscribers/{ae}", params={"deletionlock": "true"})

    with listen(ae) as channel:
        found: list[str] = []
        while uid not in found:
            found.append(value(events(channel, 1)[0], "00001000"))

    assert found.count(uid) == 1


def test_a_filtered_subscriber_hears_only_of_what_matches(manager, create, listen, ae):
    label = generate_uid()[-16:]
    answer = manager.post(
        f"/workitems/{FILTERED}/subscribers/{ae}",
        params={"filter": f"WorklistLabel={label},00741200=HIGH"},
    )
    high = {"t00741202": element("LO", label), "t00741200": element("CS", "HIGH")}

    with listen(ae) as channel:
        create(t00741202=element("LO", label))
        wanted = create(**high)
        found = events(channel, 2)
        quiet = nothing_more(channel)

    assert answer.status_code == 201
    assert {value(event, "00001000") for event in found} == {wanted}
    assert quiet


def test_a_suspended_subscription_keeps_present_items_and_takes_no_new_ones(
    manager, create, listen, ae
):
    manager.post(f"/workitems/{ALL}/subscribers/{ae}")
    present = create()

    suspended = manager.post(f"/workitems/{ALL}/subscribers/{ae}/suspend")
    again = manager.post(f"/workitems/{ALL}/subscribers/{ae}/suspend")
    create()
    manager.post(f"/workitems/{present}/cancelrequest")

    assert [suspended.status_code, again.status_code] == [200, 404]
    with listen(ae) as channel:
        found = events(channel, 5)
    assert {value(event, "00001000") for event in found} == {present}


def test_who_unsubscribes_hears_no_more(manager, create, listen, ae):
    uid = create()
    manager.post(f"/workitems/{uid}/subscribers/{ae}")
    with listen(ae) as channel:
        events(channel, 1)
        gone = manager.delete(f"/workitems/{uid}/subscribers/{ae}")
        again = manager.delete(f"/workitems/{uid}/subscribers/{ae}")
        manager.post(f"/workitems/{uid}/cancelrequest")
        quiet = nothing_more(channel)

    assert [gone.status_code, again.status_code, quiet] == [200, 404, True]


def test_what_happened_while_nobody_listened_is_delivered_later_in_order(
    manager, create, listen, ae
):
    uid, transaction = create(), generate_uid()
    manager.post(f"/workitems/{uid}/subscribers/{ae}")
    with listen(ae) as channel:
        events(channel, 1)
    manager.put(f"/workitems/{uid}/state", json=state("IN PROGRESS", transaction))
    for percent in range(10):
        doing = {"00741002": element("SQ", {"00741004": element("DS", str(percent))})}
        manager.post(f"/workitems/{uid}?{transaction}", json=doing)

    with listen(ae) as channel:
        found = events(channel, 11)
        quiet = nothing_more(channel)

    assert told(found[0]) == (STATE_REPORT, "IN PROGRESS")
    percents = [value(event, "00741002", "00741004") for event in found[1:]]
    assert percents == [str(percent) for percent in range(10)]
    numbers = [value(event, "00000110") for event in found]
    assert len(set(numbers)) == 11
    assert quiet


def test_events_of_a_broken_connection_come_again_with_the_same_number(manager, create, listen, ae):
    uid = create()
    manager.post(f"/workitems/{uid}/subscribers/{ae}")
    with listen(ae) as broken:
        first = events(broken, 1)
        broken.socket.shutdown(socket.SHUT_RDWR)

    with listen(ae) as channel:
        again = events(channel, 1)

    assert again == first


def test_a_browser_may_send_its_token_as_a_subprotocol(manager, create, server, ae):
    uid = create()
    manager.post(f"/workitems/{uid}/subscribers/{ae}")
    url = f"{server.base.replace('http', 'ws', 1)}/subscribers/{ae}"

    with connect(url, subprotocols=["bearer", server.token_for(TASKS)], proxy=None) as channel:
        found = events(channel, 1)
        chosen = channel.subprotocol

    assert chosen == "bearer"
    assert told(found[0]) == (STATE_REPORT, "SCHEDULED")


def test_a_channel_needs_a_token_in_a_header_and_the_right_to_read_tasks(server, ae):
    url = f"{server.base.replace('http', 'ws', 1)}/subscribers/{ae}"
    good = server.token_for(TASKS)
    attempts = [
        {"uri": url},
        {"uri": f"{url}?access_token={good}"},
        {"uri": url, "additional_headers": {"Cookie": f"token={good}"}},
        {"uri": url, "additional_headers": {"Authorization": "Bearer wrong"}},
        {"uri": url, "subprotocols": ["bearer"]},
    ]
    imaging = server.token_for("system/ImagingStudy.cruds")

    for attempt in attempts:
        with pytest.raises(InvalidStatus) as refused:
            connect(proxy=None, **attempt)
        assert refused.value.response.status_code == 401
    with pytest.raises(InvalidStatus) as forbidden:
        connect(url, additional_headers={"Authorization": f"Bearer {imaging}"}, proxy=None)
    assert forbidden.value.response.status_code == 403


def test_a_caller_limited_to_studies_hears_only_of_these(manager, create, listen, server, ae):
    mine = generate_uid()
    token = server.token_for(TASKS, studies=[mine])
    with server.client(Authorization=f"Bearer {token}") as limited:
        limited.post(f"/workitems/{ALL}/subscribers/{ae}")
    other_uid, my_uid = create(), create(study=mine)
    manager.post(f"/workitems/{other_uid}/subscribers/{ae}")

    with listen(ae, studies=[mine]) as channel:
        found = events(channel, 2)
        quiet = nothing_more(channel)

    assert {value(event, "00001000") for event in found} == {my_uid}
    assert quiet


@pytest.mark.parametrize("title", ["A" * 17, "%20", "A%5CB", "%C3%84"])
def test_a_subscriber_must_be_an_ae_title(manager, create, title):
    assert manager.post(f"/workitems/{create()}/subscribers/{title}").status_code == 400


def test_a_subscription_that_makes_no_sense_is_refused(manager, create, ae):
    answers = [
        manager.post(f"/workitems/{FILTERED}/subscribers/{ae}"),
        manager.post(f"/workitems/{FILTERED}/subscribers/{ae}?filter=NoSuchThing=1"),
        manager.post(f"/workitems/{create()}/subscribers/{ae}?deletionlock=maybe"),
        manager.post(f"/workitems/{create()}/subscribers/{ae}/suspend"),
    ]

    assert [one.status_code for one in answers] == [400, 400, 400, 400]
