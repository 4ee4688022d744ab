"""Several copies of one process: forked, started again when they die, stopped in order."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from hilum.processes.death_signal import set_death_signal
from hilum.processes.supervise import PAUSES_S

log = structlog.get_logger(__name__)

Work = Callable[[int, Callable[[], None]], None]
_LOOK_S = 0.1


@dataclass(slots=True)
class _Copy:
    number: int
    pid: int
    ready: int
    deaths: int = 0
    again_at: float = 0.0


@dataclass(slots=True)
class Copies:
    """Forks before anything has threads: call `run` first thing in a process.

    Attributes:
        work: What each copy does until SIGTERM; gets its number and a function that says that it
            is ready.
        ready: Called once all copies are ready for the first time.
        patience_s: So long after SIGTERM copies are killed.
    """

    count: int
    work: Work
    ready: Callable[[], None]
    patience_s: float
    _copies: list[_Copy] = field(default_factory=list)
    _stopping: bool = False

    def run(self) -> None:
        """Until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._copies = [self._fork(number) for number in range(self.count)]
        waiting = set(range(self.count))
        while not self._stopping:
            if waiting:
                waiting -= {copy.number for copy in self._copies if _has_said(copy.ready)}
                if not waiting:
                    self.ready()
            self._start_again()
            time.sleep(_LOOK_S)
        self._end()

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _fork(self, number: int, deaths: int = 0) -> _Copy:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.close(reading)
                for which in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(which, signal.SIG_DFL)
                set_death_signal(signal.SIGTERM)
                if os.getppid() == parent:
                    self.work(number, lambda: _say(writing))
                code = 0
            # The end of a forked process: it must not return into its parent's code.
            except BaseException:  # noqa: BLE001
                traceback.print_exc(file=sys.stderr)
            finally:
                sys.stderr.flush()
                os._exit(code)
        os.close(writing)
        return _Copy(number, pid, reading, deaths)

    def _start_again(self) -> None:
        now = time.monotonic()
        for place, copy in enumerate(self._copies):
            if copy.pid and os.waitpid(copy.pid, os.WNOHANG)[0]:
                pause = PAUSES_S[min(copy.deaths, len(PAUSES_S) - 1)]
                log.warning("died, starting again", copy=copy.number, pause_s=pause)
                copy.pid, copy.deaths, copy.again_at = 0, copy.deaths + 1, now + pause
            if not copy.pid and now >= copy.again_at:
                os.close(copy.ready)
                self._copies[place] = self._fork(copy.number, copy.deaths)

    def _end(self) -> None:
        ends = time.monotonic() + self.patience_s
        for copy in self._copies:
            if copy.pid:
                os.kill(copy.pid, signal.SIGTERM)
        for copy in self._copies:
            while copy.pid and not os.waitpid(copy.pid, os.WNOHANG)[0]:
                if time.monotonic() > ends:
                    log.warning("killed: did not stop in time", copy=copy.number)
                    os.kill(copy.pid, signal.SIGKILL)
                    os.waitpid(copy.pid, 0)
                    break
                time.sleep(_LOOK_S)


def _has_said(descriptor: int) -> bool:
    try:
        return bool(os.read(descriptor, 1))
    except BlockingIOError:
        return False


def _say(descriptor: int) -> None:
    os.write(descriptor, b"\1")
    os.close(descriptor)
