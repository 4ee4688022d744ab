"""A process of many threads keeps freed memory in few places."""

import os
import platform
import subprocess
import sys

import pytest

COUNT = """
import ctypes, sys, threading
from hilum.processes.memory import bound_arenas

if sys.argv[1] == "bound":
    bound_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
together = threading.Barrier(8)

def allocate():
    block = libc.malloc(100_000)
    together.wait()  # all threads live at once: an arena of one that ended is used again
    libc.free(block)

threads = [threading.Thread(target=allocate) for _ in range(8)]
for one in threads:
    one.start()
for one in threads:
    one.join()
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
out = ctypes.c_void_p.in_dll(libc, "stdout")
libc.malloc_info(0, out)
libc.fflush(None)
"""


def arenas(how):
    free = {name: text for name, text in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    done = subprocess.run(
        [sys.executable, "-c", COUNT, how], capture_output=True, text=True, check=True, env=free
    )
    return done.stdout.count("<heap nr=")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="arenas are glibc's")
def test_threads_share_two_arenas():
    assert arenas("as it is") > 2
    assert arenas("bound") <= 2


CYCLES = """
import gc, sys
from collections import deque
from hilum.processes import memory

class Cycle:
    alive = most = 0

    def __init__(self):
        self.itself = self
        Cycle.alive += 1
        Cycle.most = max(Cycle.most, Cycle.alive)

    def __del__(self):
        Cycle.alive -= 1

modules = [[] for _ in range(2_000_000)]
if sys.argv[1] == "settled":
    memory.settle()
used = deque(maxlen=5_000)  # each lives long enough to be taken for a lasting one
for _ in range(400_000):
    used.append(Cycle())
print(Cycle.most)
"""


def test_what_is_left_in_cycles_does_not_wait_for_the_size_of_the_modules():
    def most_alive(how):
        command = [sys.executable, "-c", CYCLES, how]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert most_alive("settled") < most_alive("as it is") / 2
