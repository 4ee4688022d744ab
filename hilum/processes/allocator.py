"""How many arenas the C library's allocator makes: each keeps freed memory for itself."""

from __future__ import annotations

import ctypes
import sys

M_ARENA_MAX = -8
ARENAS = 2


def bound_arenas() -> None:
    """Let all threads of this process share two arenas; to be called before it has many threads.

    Left alone, glibc makes an arena for each thread up to eight for each core, and each holds
    back what its largest answer needed: resident memory grows with the threads that ever served
    one. Python's lock lets one thread allocate at a time anyway. Elsewhere nothing happens.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none, and no arenas
    if mallopt is not None:
        mallopt(M_ARENA_MAX, ARENAS)
