"""The associations that are open, and how many of them one address or AE title may have."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Most:
    """How many associations may be open at once.

    Attributes:
        total: Altogether.
        per_address: From one IP address.
        per_title: With one calling AE title.
    """

    total: int = 100
    per_address: int = 50
    per_title: int = 50


@dataclass(slots=True, eq=False)
class Open:
    """One association, or a request for one that is being looked at.

    Attributes:
        busy: A message is coming in or being answered.
        serving: pynetdicom, or a service of ours behind it, answers a request.
        ending: What is under way must come to its end now: the server stops.
        last: When it last did something (monotonic, s).
        abort: Ends it from outside, and may be called from any thread.
    """

    address: str
    title: str
    busy: bool = False
    serving: bool = False
    ending: bool = False
    last: float = field(default_factory=time.monotonic)
    abort: Callable[[], None] | None = None

    def mark(self, *, busy: bool) -> None:
        """Say that an operation begins or has ended."""
        self.busy, self.last = busy, time.monotonic()

    def serve(self, request: Callable[[], None]) -> None:
        """Answer a request, which may take long; until then the association is not idle."""
        self.serving = True
        try:
            request()
        finally:
            self.serving, self.last = False, time.monotonic()

    def is_idle(self, seconds: float) -> bool:
        """Whether nothing has been under way for so long."""
        idle = not self.busy and not self.serving
        return idle and time.monotonic() - self.last > seconds


class Register:
    """Counts associations; safe to share between threads."""

    def __init__(self, most: Most) -> None:
        self._most = most
        self._open: set[Open] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        with self._lock:
            return len(self._open)

    def enter(self, address: str, title: str) -> Open | str:
        """Count one more, or say which limit it would break."""
        with self._lock:
            if len(self._open) >= self._most.total:
                return "local limit of associations exceeded"
            if sum(one.address == address for one in self._open) >= self._most.per_address:
                return "local limit of associations from one address exceeded"
            if sum(one.title == title for one in self._open) >= self._most.per_title:
                return "local limit of associations of one AE title exceeded"
            entry = Open(address, title)
            self._open.add(entry)
            return entry

    def leave(self, entry: Open) -> None:
        """Count it no longer."""
        with self._lock:
            self._open.discard(entry)

    def end(self) -> None:
        """Ask all for the answer to what is under way, complete or not."""
        with self._lock:
            for one in self._open:
                one.ending = True

    def abort(self, chosen: Callable[[Open], bool]) -> None:
        """End the chosen ones."""
        with self._lock:
            ends = [one.abort for one in self._open if chosen(one)]
        for end in ends:
            if end is not None:
                end()
