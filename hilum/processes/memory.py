"""What keeps the memory of a process that runs for months at what it needs."""

from __future__ import annotations

import ctypes
import gc
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


def settle() -> None:
    """To be called once the process is ready: what there is now is not looked at for garbage.

    A full collection waits until a quarter as many objects have come as there were at the last.
    Counted with the modules that is a hundred thousand, so what libraries leave in cycles
    (pynetdicom an association, aiohttp a failed request) would pile up for many minutes.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # of what is left: sets the number that the quarter is taken of
