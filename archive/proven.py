"""Files whose digest was right a short while ago, and that nobody has touched since.

Taking the digest costs more than sending the file. A viewer, its neighbour and the report read the
same study within minutes, from the same pages of memory that were proven: those are not proven
again. A change of the file, even one that keeps its size and time, shows in its ctime.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict

KEPT_S = 300.0
_MOST = 100_000

State = tuple[int, int, int, int, int]


class Proven:
    """The states of files, each with the time when its digest was right."""

    def __init__(self) -> None:
        self._seen: OrderedDict[State, float] = OrderedDict()
        self._lock = threading.Lock()

    def knows(self, state: State) -> bool:
        """Whether a file in this state was proven within KEPT_S."""
        with self._lock:
            at = self._seen.get(state)
        return at is not None and time.monotonic() - at < KEPT_S

    def add(self, state: State) -> None:
        """The digest of a file in this state is right."""
        with self._lock:
            self._seen[state] = time.monotonic()
            self._seen.move_to_end(state)
            old = time.monotonic() - KEPT_S
            while len(self._seen) > _MOST or next(iter(self._seen.values())) < old:
                self._seen.popitem(last=False)


def state_of(handle: int) -> State:
    """What changes with every change of an open file."""
    found = os.fstat(handle)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
