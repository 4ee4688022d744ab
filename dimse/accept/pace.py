"""How often pynetdicom looks at a connection: it polls, and sleeps between the looks."""

from __future__ import annotations

from pynetdicom.association import Association

POLL_S = 0.0002


def quicken(association: Association) -> None:
    """Poll more often than pynetdicom's 1 ms, of which an instance costs about five.

    Measured with 432 instances of 28 KB on one association, same machine: 6.2 s before, 3.4 s
    after, for 0.2 ms more CPU an instance.
    """
    association.dul._run_loop_delay = POLL_S
