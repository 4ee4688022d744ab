"""Wrong client secrets slow one address down; the client itself, elsewhere, is not held up."""

from __future__ import annotations

import threading
import time

FREE_FAILURES = 5
FIRST_WAIT_S = 5.0
LONGEST_WAIT_S = 300.0
_FORGET_S = 900.0
_MEMORY = 10_000


class Attempts:
    """Failures by client and address, in memory; safe to share between threads.

    A secret is 256 random bits: nobody guesses it. What is kept off is the work of looking.
    """

    def __init__(self) -> None:
        # Count of failures, time of the last one, and until when to wait.
        self._failures: dict[tuple[str, str], tuple[int, float, float]] = {}
        self._lock = threading.Lock()

    def wait_s(self, client_id: str, address: str) -> float:
        """Seconds to wait before a secret is looked at; 0: now."""
        with self._lock:
            _, _, until = self._failures.get((client_id, address), (0, 0.0, 0.0))
        return max(0.0, until - time.monotonic())

    def fail(self, client_id: str, address: str) -> None:
        """A secret was wrong."""
        now = time.monotonic()
        with self._lock:
            if len(self._failures) >= _MEMORY:
                self._failures.clear()
            count, last, _ = self._failures.get((client_id, address), (0, now, 0.0))
            count = 1 if now - last > _FORGET_S else count + 1
            beyond = count - FREE_FAILURES
            wait_s = min(FIRST_WAIT_S * 2 ** min(beyond, 20), LONGEST_WAIT_S) if beyond >= 0 else 0
            self._failures[client_id, address] = (count, now, now + wait_s)

    def succeed(self, client_id: str, address: str) -> None:
        """A secret was right: nothing counts against it any more."""
        with self._lock:
            self._failures.pop((client_id, address), None)
