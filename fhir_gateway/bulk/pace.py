"""Who asks for the status of an export more often than it was told to."""

from __future__ import annotations

import time
from collections import OrderedDict
from uuid import UUID

BURST = 5.0
MOST_JOBS = 10_000


class Pace:
    """A small allowance for each job, filled again with time."""

    def __init__(self, poll_s: float) -> None:
        # A client that waits as it was told to never runs out: clocks are given a fifth.
        self._per_second = 1.25 / poll_s
        self._left: OrderedDict[UUID, tuple[float, float]] = OrderedDict()

    def allows(self, job: UUID) -> bool:
        """Whether this poll is within the allowance."""
        now = time.monotonic()
        left, at = self._left.pop(job, (BURST, now))
        left = min(BURST, left + (now - at) * self._per_second)
        allowed = left >= 1
        self._left[job] = (left - 1 if allowed else left, now)
        if len(self._left) > MOST_JOBS:
            self._left.popitem(last=False)
        return allowed
