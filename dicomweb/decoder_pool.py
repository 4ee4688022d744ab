"""The decoder processes as the web process sees them: started when needed, replaced when lost."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Literal

import anyio.to_thread
import structlog
from anyio import CapacityLimiter

from dicomweb.errors import BadRequest, NotRenderable

log = structlog.get_logger(__name__)

PACKAGES = Path(__file__).resolve().parents[1]
_LENGTH_BYTES = 8
_DONE, _BAD_REQUEST = 0, 2

Job = Literal["picture", "frame", "file"]


class _Lost(Exception):
    """The process ended before it answered."""


class _Process:
    """One decoder process; used by one job at a time."""

    def __init__(self) -> None:
        paths = [str(PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dicomweb.decoder"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )

    def ask(self, message: bytes, timeout_s: float) -> bytes:
        """The answer to one job; raises _Lost if the process ends or must be ended."""
        timer = threading.Timer(timeout_s, self._process.kill)
        timer.start()
        try:
            return self._exchange(message)
        except OSError as error:
            raise _Lost from error
        finally:
            timer.cancel()

    def _exchange(self, message: bytes) -> bytes:
        sink, source = self._process.stdin, self._process.stdout
        assert sink is not None and source is not None  # noqa: S101 - both are pipes
        sink.write(len(message).to_bytes(_LENGTH_BYTES, "little") + message)
        sink.flush()
        head = source.read(_LENGTH_BYTES)
        length = int.from_bytes(head, "little")
        result = source.read(length)
        if len(head) < _LENGTH_BYTES or len(result) < length or not result:
            raise _Lost
        return result

    def end(self) -> None:
        """Stop the process and wait for it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    log.debug("decoder_pipe_was_broken")


class Decoders:
    """Runs decoding jobs in at most `count` processes."""

    def __init__(self, count: int, *, timeout_s: float) -> None:
        self._count = count
        self._timeout_s = timeout_s
        self._limiter: CapacityLimiter | None = None
        self._idle: deque[_Process] = deque()

    async def run(self, job: Job, *arguments: object) -> bytes:
        """The result of a job of decoder.py.

        Raises:
            NotRenderable: the data cannot be decoded, or made the decoder crash or hang.
            BadRequest: the job found a parameter out of range.
        """
        if self._limiter is None:  # made here: it belongs to the running event loop
            self._limiter = CapacityLimiter(self._count)
        message = pickle.dumps((job, arguments))
        result = await anyio.to_thread.run_sync(self._run, message, limiter=self._limiter)
        if result[0] == _DONE:
            return result[1:]
        text = result[1:].decode("utf-8", "replace")
        raise BadRequest(text) if result[0] == _BAD_REQUEST else NotRenderable(text)

    def _run(self, message: bytes) -> bytes:
        try:
            process = self._idle.pop()
        except IndexError:
            return self._ask(_Process(), message)
        try:
            return self._ask(process, message)
        except NotRenderable:
            # It may have ended by itself, after its idle time: once more on a new one.
            return self._ask(_Process(), message)

    def _ask(self, process: _Process, message: bytes) -> bytes:
        try:
            result = process.ask(message, self._timeout_s)
        except _Lost:
            process.end()
            log.warning("decoder_lost")
            raise NotRenderable("the pixel data made the decoder fail") from None
        self._idle.append(process)
        return result

    def close(self) -> None:
        """End the processes that wait for work."""
        while self._idle:
            self._idle.pop().end()
