"""The decoder processes as their users see them: started when needed, replaced when lost."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Literal

import structlog

from pixels import errors
from pixels.config import PixelsConfig

log = structlog.get_logger(__name__)

PACKAGES = Path(__file__).resolve().parents[1]
_LENGTH_BYTES = 8
_DONE = 0
# In the order of worker.py.
_ERRORS = (errors.NotDecodable, errors.TooLarge, errors.NotPossible, errors.BadParameter)
# One thread for each codec: the pool is what is parallel, and threads cost address space.
_ONE_THREAD = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPJ_NUM_THREADS"), "1"
)

Job = Literal["picture", "animation", "report", "frame", "compressed", "file"]


class _Lost(Exception):
    """The process ended before it answered."""


class _Process:
    """One decoder process; used by one job at a time."""

    def __init__(self, config: PixelsConfig) -> None:
        paths = [str(PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
        limits = (
            config.memory_bytes,
            config.cpu_s,
            config.max_instance_bytes + config.max_frame_bytes,
        )
        self._process = subprocess.Popen(  # noqa: S603 - numbers only
            [sys.executable, "-m", "pixels.worker", *map(str, limits)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **_ONE_THREAD, "PYTHONPATH": os.pathsep.join(paths)},
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

    def is_alive(self) -> bool:
        """Whether it still runs; one without work ends after a while."""
        return self._process.poll() is None

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


class Pool:
    """Runs jobs of worker.py in at most `config.processes` processes; from any thread."""

    def __init__(self, config: PixelsConfig) -> None:
        self._config = config
        self._places = threading.BoundedSemaphore(config.processes)
        self._idle: deque[_Process] = deque()

    def run(self, job: Job, *arguments: object) -> bytes:
        """The result of one job; waits until a process is free.

        Raises:
            PixelError: as the job, or NotDecodable where it made the process crash or hang.
        """
        message = pickle.dumps((job, arguments))
        with self._places:
            result = self._run(message)
        if result[0] == _DONE:
            return result[1:]
        raise _ERRORS[result[0] - 1](result[1:].decode("utf-8", "replace"))

    def _run(self, message: bytes) -> bytes:
        process = self._take()
        try:
            result = process.ask(message, self._config.timeout_s)
        except _Lost:
            process.end()
            log.warning("decoder_lost")
            raise errors.NotDecodable("the pixel data made the decoder fail") from None
        self._idle.append(process)
        return result

    def _take(self) -> _Process:
        while True:
            try:
                process = self._idle.pop()
            except IndexError:
                return _Process(self._config)
            if process.is_alive():
                return process
            process.end()

    def close(self) -> None:
        """End the processes that wait for work."""
        while self._idle:
            self._idle.pop().end()
