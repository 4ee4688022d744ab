"""A signal for a child process at the death of its parent, so that a kill -9 leaves no orphan."""

from __future__ import annotations

import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1


def set_death_signal(number: signal.Signals) -> None:
    """Ask Linux to send this process a signal when its parent is gone; elsewhere nothing happens.

    A change of user clears it: call it after one. The parent is the *thread* that made this
    process, and it survives an exec.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(number))
