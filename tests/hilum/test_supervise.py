"""Parts are restarted when they die, and stopped in order when told."""

import asyncio
import os
import signal
import sys

import pytest

from hilum.processes.supervise import Part, PartFailed, Supervisor


def part(tmp_path, code, ready=None, **options):
    async def at_once():
        return True

    command = [sys.executable, "-c", code]
    return Part("sleeper", command, {}, ready or at_once, tmp_path / "log", **options)


SLEEP = "import time; time.sleep(60)"


async def test_a_part_that_was_killed_is_started_again(tmp_path):
    supervisor = Supervisor(part(tmp_path, SLEEP))
    await supervisor.start()
    first = supervisor.pid

    os.kill(first, signal.SIGKILL)
    for _ in range(100):
        await asyncio.sleep(0.05)
        if supervisor.pid not in (None, first):
            break

    assert supervisor.pid not in (None, first)
    await supervisor.stop()
    assert supervisor.pid is None


async def test_a_part_that_keeps_dying_is_given_up_with_its_last_words(tmp_path):
    async def never():
        return False

    supervisor = Supervisor(part(tmp_path, "raise SystemExit('cannot open the box')", never))
    await supervisor.start()

    with pytest.raises(PartFailed, match="cannot open the box"):
        await supervisor.wait_ready()
    await supervisor.stop()


async def test_a_part_that_ignores_the_stop_is_killed(tmp_path):
    code = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1); {SLEEP}"
    supervisor = Supervisor(part(tmp_path, code, stop_timeout_s=0.5))
    await supervisor.start()
    await asyncio.sleep(0.3)

    await supervisor.stop()

    assert supervisor.pid is None
