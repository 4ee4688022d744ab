"""Child processes of `hilum up`: start, watch, restart after a crash, stop in order.

A part that dies is started again with a growing pause; what it was doing is safe to repeat
(that is the archive's and the workers' promise, not this module's).
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from hilum.processes.death_signal import set_death_signal

log = structlog.get_logger(__name__)

PAUSES_S = (0.2, 1.0, 2.0, 5.0, 10.0, 30.0)  # before the n-th restart in a row
STEADY_S = 60.0  # a part that ran this long starts counting from the first pause again
LOG_LIMIT = 32 * 1024 * 1024  # bytes of an old log kept from the last start


class PartFailed(Exception):
    """A part did not become ready; the text names it and ends with its last log lines."""


@dataclass(frozen=True, slots=True)
class Part:
    """One process: how it is started, how it says that it is ready, how it is stopped."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    ready: Callable[[], Awaitable[bool]]
    log: Path
    start_timeout_s: float = 180.0
    stop_timeout_s: float = 30.0
    stop_signal: signal.Signals = signal.SIGTERM


def _die_with_parent() -> None:
    set_death_signal(signal.SIGKILL)


def tail(path: Path, lines: int = 12) -> str:
    """The last lines of a log file, for an error message."""
    if not path.is_file():
        return "(no log)"
    text = path.read_bytes()[-16_384:].decode(errors="replace")
    return "\n".join(text.splitlines()[-lines:])


@dataclass(slots=True)
class Supervisor:
    """Keeps one part running until told to stop."""

    part: Part
    on_change: Callable[[], None] = lambda: None
    process: asyncio.subprocess.Process | None = None
    restarts: int = 0
    _watch: asyncio.Task[None] | None = field(default=None, repr=False)
    _stopping: bool = False

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        running = self.process is not None and self.process.returncode is None
        return self.process.pid if running and self.process is not None else None

    async def start(self) -> None:
        """Start the process and the watch over it."""
        _set_aside(self.part.log)
        await self._spawn()
        self._watch = asyncio.create_task(self._keep_running(), name=f"watch {self.part.name}")

    async def wait_ready(self) -> float:
        """Wait until the part answers.

        Returns:
            Seconds waited.

        Raises:
            PartFailed: it died more than twice or took longer than its start time-out.
        """
        begin = time.monotonic()
        while time.monotonic() - begin < self.part.start_timeout_s:
            if self.restarts > 2:
                raise PartFailed(
                    f"{self.part.name} keeps dying; {self.part.log} ends with:\n"
                    f"{tail(self.part.log)}"
                )
            if self.pid is not None and await self.part.ready():
                return time.monotonic() - begin
            await asyncio.sleep(0.1)
        raise PartFailed(
            f"{self.part.name} was not ready after {self.part.start_timeout_s:.0f} s; "
            f"{self.part.log} ends with:\n{tail(self.part.log)}"
        )

    async def stop(self) -> None:
        """Ask the process to finish, and kill it when it does not in time."""
        self._stopping = True
        if self._watch is not None:
            self._watch.cancel()
        process = self.process
        if process is None or process.returncode is not None:
            return
        process.send_signal(self.part.stop_signal)
        try:
            await asyncio.wait_for(process.wait(), self.part.stop_timeout_s)
        except TimeoutError:
            log.warning("killed: did not stop in time", part=self.part.name)
            process.kill()
            await process.wait()

    async def _spawn(self) -> None:
        with self.part.log.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                *self.part.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **self.part.environment},
                # Its own session: Ctrl-C reaches only us, and we stop the parts in order.
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self.on_change()

    async def _keep_running(self) -> None:
        in_a_row = 0
        while not self._stopping and self.process is not None:
            begin = time.monotonic()
            code = await self.process.wait()
            if time.monotonic() - begin > STEADY_S:
                in_a_row = 0
            pause = PAUSES_S[min(in_a_row, len(PAUSES_S) - 1)]
            in_a_row += 1
            self.restarts += 1
            log.warning("died, starting again", part=self.part.name, code=code, pause_s=pause)
            await asyncio.sleep(pause)
            await self._spawn()


def _set_aside(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_LIMIT:
        path.replace(path.with_suffix(".old.log"))
