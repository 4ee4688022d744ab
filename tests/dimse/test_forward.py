"""Forwarding rules: what meets a rule arrives, in order, also when the peer was away."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from access import AuditSpool
from archive import Source
from dimse.association.ledger import Ledger
from dimse.retrieve.move import Moving
from dimse.routing.forward import ForwardRule
from dimse.routing.job_runner import Patience
from dimse.routing.jobs import JobError, Jobs
from dimse.routing.rules import Rules, RulesConfig
from dimse.scu.negotiation import Calling
from tests.archive.phantom import bytes_of, slice_of
from tests.dimse.partners import receiver

QUICK = Patience(attempts=3, first_s=0.05, longest_s=0.2, days=1)


@pytest.fixture
def jobs(archive):
    """The table, empty."""
    import psycopg

    found = Jobs(archive._config.dsn)
    with psycopg.connect(archive._config.dsn) as connection:
        connection.execute("truncate dimse.job, dimse.rule_cursor")
    return found


@pytest.fixture
def working(archive, jobs, tmp_path):
    """Start rules over the archive of the session, towards the given peers."""
    started = []

    def start(config, *peers):
        ledger = Ledger(AuditSpool(tmp_path / f"rules-{len(started)}", "dimse"))
        moving = Moving(Calling("HILUM", connect_s=2, answer_s=5))
        config = replace(config, patience=QUICK, look_s=0.05)
        rules = Rules(archive, jobs, lambda: peers, moving, ledger, config)
        rules.start()
        started.append(rules)
        return rules

    yield start
    for rules in started:
        rules.close()


def store(archive, calling_ae="CT1", **attributes):
    """One instance from a sender; its SOP Instance UID."""
    dataset = slice_of(**attributes)
    with archive.receive() as incoming:
        incoming.write(bytes_of(dataset))
        archive.store(incoming, Source("dimse", calling_ae=calling_ae))
    return str(dataset.SOPInstanceUID)


def until(condition, seconds=15):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come to pass"
        time.sleep(0.02)


def sent(found):
    return [str(request.AffectedSOPInstanceUID) for request in found.requests]


def states(jobs):
    return [job.state for job in jobs.list(everything=True)]


def test_what_meets_every_condition_is_sent_and_nothing_else(archive, jobs, working):
    before = store(archive, Modality="SR", StudyDescription="Brain MR")
    with receiver() as found:
        rule = ForwardRule(
            "results", "recv", modalities=("SR", "SEG"), calling_aes=("AI",), description="^brain"
        )
        working(RulesConfig(forward=(rule,)), found.peer)
        wanted = store(archive, "AI", Modality="SR", StudyDescription="Brain MR")
        others = [
            store(archive, "AI", Modality="MR", StudyDescription="Brain MR"),
            store(archive, "CT1", Modality="SR", StudyDescription="Brain MR"),
            store(archive, "AI", Modality="SR", StudyDescription="Foot"),
        ]
        last = store(archive, "AI", Modality="SEG", StudyDescription="brain")

        until(lambda: last in sent(found) and set(states(jobs)) == {"done"})

        assert sorted(sent(found)) == sorted([wanted, last])
        assert before not in sent(found)
        assert not set(others) & set(sent(found))


def test_two_rules_for_one_peer_send_once(archive, jobs, working):
    with receiver() as found:
        rules = (ForwardRule("all", "recv"), ForwardRule("mr", "recv", modalities=("MR",)))
        working(RulesConfig(forward=rules), found.peer)

        uids = [store(archive) for _ in range(3)]

        until(lambda: set(uids) <= set(sent(found)) and set(states(jobs)) == {"done"})
        assert sorted(sent(found)) == sorted(uids)


def test_nothing_goes_back_to_where_it_came_from(archive, jobs, working):
    with receiver() as found:
        working(RulesConfig(forward=(ForwardRule("all", "recv"),)), found.peer)

        own = store(archive, "RECV")
        foreign = store(archive, "CT1")

        until(lambda: foreign in sent(found))
        until(lambda: set(states(jobs)) == {"done"})
        assert own not in sent(found)


def test_a_peer_that_was_away_gets_everything_in_order(archive, jobs, working):
    with receiver() as found:
        peer = found.peer
    working(RulesConfig(forward=(ForwardRule("all", "recv"),)), peer)
    uids = []
    for count in range(1, 4):
        uids.append(store(archive))
        until(lambda count=count: len(jobs.list()) == count)
    until(lambda: any(job.tries for job in jobs.list()))
    assert "could not be reached" in jobs.list()[-1].message

    with receiver(port=peer.port) as found:
        until(lambda: len(sent(found)) == 3)
        assert sent(found) == uids
        until(lambda: set(states(jobs)) == {"done"})


def test_what_the_peer_refuses_for_good_fails_visibly_and_the_rest_goes_on(archive, jobs, working):
    poison = []

    def answer(received, event):
        return 0xC000 if str(event.request.AffectedSOPInstanceUID) in poison else 0

    with receiver(answer) as found:
        poison.append("none yet")
        dataset = slice_of()
        poison.append(str(dataset.SOPInstanceUID))
        working(RulesConfig(forward=(ForwardRule("all", "recv"),)), found.peer)
        store(archive, SOPInstanceUID=dataset.SOPInstanceUID)
        until(lambda: len(jobs.list(everything=True)) == 1)
        good = store(archive)

        until(lambda: good in sent(found))
        until(lambda: sorted(states(jobs)) == ["done", "failed"])
        failed = jobs.list()[0]
        assert (failed.state, failed.attempts) == ("failed", 2)
        assert "0xC000" in failed.message
        assert failed.instances == [poison[1]]

        poison.clear()
        jobs.retry(failed.id)

        until(lambda: states(jobs) == ["done", "done"])
        with pytest.raises(JobError, match="is done"):
            jobs.cancel(failed.id)
        with pytest.raises(JobError, match="no job"):
            jobs.retry(10**9)


def test_what_was_taken_is_not_sent_again_with_the_rest(archive, jobs, working):
    refusals = []

    def answer(received, event):
        uid = str(event.request.AffectedSOPInstanceUID)
        if len(sent(received)) == 2 and not refusals:
            refusals.append(uid)
            return 0xA700
        return 0

    study = str(slice_of().StudyInstanceUID)
    with receiver(answer) as found:
        rules = working(RulesConfig(forward=(ForwardRule("all", "recv"),)), found.peer)
        rules.close()
        uids = [store(archive, StudyInstanceUID=study) for _ in range(4)]
        working(RulesConfig(forward=(ForwardRule("all", "recv"),)), found.peer)

        until(lambda: states(jobs) == ["done"])

        assert sorted(sent(found)) == sorted([*uids, *refusals])


def test_a_cancelled_job_is_not_sent(archive, jobs, working):
    with receiver() as found:
        peer = found.peer
    working(RulesConfig(forward=(ForwardRule("all", "recv"),)), peer)
    store(archive)
    until(lambda: len(jobs.list()) == 1)

    jobs.cancel(jobs.list()[0].id)
    time.sleep(1)  # an attempt that has begun comes to its end: nobody is there yet

    with receiver(port=peer.port) as found:
        after = store(archive)
        until(lambda: after in sent(found))
        assert sent(found) == [after]


def test_two_processes_do_no_job_twice(archive, jobs, working):
    with receiver(lambda received, event: time.sleep(0.02) or 0) as found:
        config = RulesConfig(forward=(ForwardRule("all", "recv"),))
        working(config, found.peer)
        working(config, found.peer)

        uids = [store(archive) for _ in range(10)]

        until(lambda: set(uids) <= set(sent(found)) and set(states(jobs)) == {"done"})
        assert sorted(sent(found)) == sorted(uids)


def test_without_a_rule_nothing_runs(archive, jobs, working):
    before = threading.active_count()

    working(RulesConfig())

    assert threading.active_count() == before


def test_a_job_for_a_peer_that_is_gone_fails_with_its_name(archive, jobs, working):
    working(RulesConfig(forward=(ForwardRule("all", "nobody"),)))

    store(archive)

    until(lambda: "failed" in states(jobs))
    assert "no peer named nobody" in jobs.list()[0].message
