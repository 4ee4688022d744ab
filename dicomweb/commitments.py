"""Verifications of storage commitment under way; requests and results lie in the archive."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from archive.keys import DicomJson


@dataclass
class Commitments:
    """The verifications that this process is at, by Transaction UID."""

    _running: dict[str, asyncio.Task[DicomJson]] = field(default_factory=dict)

    def verify(self, uid: str, work: Callable[[], Awaitable[DicomJson]]) -> asyncio.Task[DicomJson]:
        """The verification of a request: the one that runs, or else one that begins now."""
        running = self._running.get(uid)
        if running is None:
            running = asyncio.ensure_future(_result(work))
            self._running[uid] = running
            running.add_done_callback(lambda _: self._running.pop(uid, None))
        return running


async def _result(work: Callable[[], Awaitable[DicomJson]]) -> DicomJson:
    return await work()
