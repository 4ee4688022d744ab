"""Which ids were written: 16 bytes each, so that millions fit into memory."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

_FRESH = 50_000
_RUNS = 8
_DIGEST = 16


class SeenIds:
    """A set of ids that only grows. Two ids count as one when their 128-bit digests are equal."""

    def __init__(self) -> None:
        self._fresh: set[bytes] = set()
        self._runs: list[NDArray[np.bytes_]] = []

    def add(self, ids: Iterable[str]) -> list[bool]:
        """Add ids; tells for each whether it is new."""
        digests = [_digest(one) for one in ids]
        known = self._in_runs(digests)
        new = []
        for digest, old in zip(digests, known, strict=True):
            is_new = not old and digest not in self._fresh
            if is_new:
                self._fresh.add(digest)
            new.append(is_new)
        if len(self._fresh) >= _FRESH:
            self._settle()
        return new

    def __contains__(self, one: str) -> bool:
        digest = _digest(one)
        return digest in self._fresh or bool(self._in_runs([digest])[0])

    def _in_runs(self, digests: list[bytes]) -> list[bool]:
        found = np.zeros(len(digests), dtype=bool)
        if digests and self._runs:
            wanted = np.array(digests, dtype=f"S{_DIGEST}")
            for run in self._runs:
                places = np.minimum(np.searchsorted(run, wanted), len(run) - 1)
                found |= run[places] == wanted
        return [bool(one) for one in found]

    def _settle(self) -> None:
        """Move the newest into a sorted array; many arrays become one."""
        self._runs.append(np.sort(np.array(list(self._fresh), dtype=f"S{_DIGEST}")))
        self._fresh.clear()
        if len(self._runs) > _RUNS:
            self._runs = [np.sort(np.concatenate(self._runs))]


def _digest(one: str) -> bytes:
    return blake2b(one.encode(), digest_size=_DIGEST).digest()
