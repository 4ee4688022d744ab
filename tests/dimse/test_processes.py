"""Several DIMSE processes that share one port: `dimse.processes`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from archive import Archive, ArchiveConfig
from tests.archive.phantom import slice_of
from tests.dimse.test_receive import data_set, key_of
from tests.dimse.wire import Wire, contexts_of
from tests.fixtures.running import temporary_folder, wait_for
from tests.fixtures.stores import free_port

pytestmark = pytest.mark.slow
ASSOCIATIONS = 24
CUT = -1


@contextlib.contextmanager
def two_processes(postgres, folder):
    """`hilum dimse` with two processes: its port, archive configuration and main process."""
    port = free_port()
    postgres.create_database("dimse_processes")
    environment = {
        **os.environ,
        "HILUM_DATA": str(folder),
        "HILUM_DATABASE__URL": postgres.dsn("dimse_processes"),
        "HILUM_DIMSE__PORT": str(port),
        "HILUM_DIMSE__PROCESSES": "2",
    }
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(
            [sys.executable, "-m", "hilum", "dimse"], env=environment, stdout=log, stderr=log
        )
    try:
        wait_for(lambda: listening(running.pid, port) == 2, "two processes that listen", 60)
        yield port, ArchiveConfig(folder / "archive", postgres.dsn("dimse_processes"), 0), running
    finally:
        running.kill()
        running.wait()


def copies(pid):
    return {one.pid for one in psutil.Process(pid).children()}


def listening(pid, port):
    """How many children of a process listen on a port."""
    found = 0
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.Error):
            places = child.net_connections("tcp")
            found += any(one.status == "LISTEN" and one.laddr.port == port for one in places)
    return found


def store(port, dataset):
    """The status of one C-STORE over an association of its own; CUT if that did not end well."""
    try:
        with Wire(port, timeout=30) as wire:
            wire.associate(contexts_of("own"))
            return wire.store(data_set(dataset), dataset.SOPInstanceUID).status
    except (OSError, AssertionError):
        return CUT


def test_two_processes_share_the_work_lose_nothing_and_one_that_dies_comes_back(postgres):
    folder = temporary_folder()
    study = slice_of().StudyInstanceUID
    sent = [slice_of(StudyInstanceUID=study) for _ in range(2 * ASSOCIATIONS)]
    with two_processes(postgres, folder) as (port, config, running):
        before = copies(running.pid)
        with ThreadPoolExecutor(8) as pool:
            first = list(pool.map(lambda one: store(port, one), sent[:ASSOCIATIONS]))
        os.kill(min(before), signal.SIGKILL)
        with ThreadPoolExecutor(8) as pool:
            second = list(pool.map(lambda one: store(port, one), sent[ASSOCIATIONS:]))
        wait_for(lambda: listening(running.pid, port) == 2, "the process that died", 30)
        after = copies(running.pid)
        # What was cut with the process is sent again, as a modality does.
        unsure = [one for one, status in zip(sent[ASSOCIATIONS:], second, strict=True) if status]
        again = [store(port, one) for one in unsure]
        running.send_signal(signal.SIGTERM)
        ended = running.wait(40)

    with Archive.open(config) as archive:
        assert all(archive.verify(key_of(one)) for one in sent)
        assert archive.study_summary(study).instance_count == len(sent)
    assert first == [0] * ASSOCIATIONS
    assert set(again) <= {0}
    assert len(after) == 2
    assert after != before
    assert ended == 0
    assert not any(psutil.pid_exists(one) for one in after)
