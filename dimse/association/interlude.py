"""Requests of ours on an association that a peer opened: between two of its own, never within one.

pynetdicom's loop of an association waits at a checkpoint between two messages. Its own flag for
"I am waiting" is up a moment too long, so that the loop could take the response to a request that
another thread has sent; that thread would take the peer's next request for it, and abort.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, cast

from pynetdicom.association import Association
from pynetdicom.dimse_primitives import DimseServiceType
from pynetdicom.presentation import PresentationContext

PATIENCE_S = 5.0
LOOK_S = 0.05

Job = Callable[[], bool]


def prepare(association: Association) -> None:
    """Make an association able to do something in between; from a handler of its own."""
    if not isinstance(association._reactor_checkpoint, _Checkpoint):
        association._reactor_checkpoint = _Checkpoint()


def between_messages(association: Association, job: Job) -> bool:
    """Have the thread of a prepared association do something; False where it cannot any more."""
    checkpoint = association._reactor_checkpoint
    if not isinstance(checkpoint, _Checkpoint):
        return False
    future: Future[bool] = Future()
    checkpoint.jobs.put((job, future))
    for _ in range(int(PATIENCE_S / LOOK_S)):
        try:
            return future.result(LOOK_S)
        except TimeoutError:
            if not is_usable(association):
                break
    return not future.cancel() and future.result()


def ask(association: Association, request: DimseServiceType, context: PresentationContext) -> Any:
    """Send a request and return the response; None where none comes.

    What the peer asks meanwhile is served: each side may have one request of its own outstanding
    (PS3.7 annex D.3.3.3).
    """
    deadline = time.monotonic() + (association.dimse_timeout or PATIENCE_S)
    association.dimse.send_msg(request, cast(int, context.context_id))
    while time.monotonic() < deadline:
        number, message = association.dimse.get_msg(block=True)
        if message is None:
            association._handle_no_response()
            return None
        if not message.is_valid_request:
            return message
        association._serve_request(message, cast(int, number))
    return None


def is_usable(association: Association) -> bool:
    """Whether an association that a peer opened can still carry a request of ours."""
    return bool(
        association.is_established
        and association.dul.is_alive()
        and not association.acse.is_aborted()
        and not association.acse.is_release_requested()
    )


class _Checkpoint(threading.Event):
    """Set, as the one it takes the place of; whoever waits does first what is to be done."""

    def __init__(self) -> None:
        super().__init__()
        self.set()
        self.jobs: queue.SimpleQueue[tuple[Job, Future[bool]]] = queue.SimpleQueue()

    def wait(self, timeout: float | None = None) -> bool:
        while not self.jobs.empty():
            job, future = self.jobs.get()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(job())
                # Whoever asked for it gets it; the association goes on.
                except BaseException as error:  # noqa: BLE001
                    future.set_exception(error)
        return super().wait(timeout)
