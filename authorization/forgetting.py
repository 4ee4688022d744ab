"""Rows that no answer can depend on any more are deleted, now and then."""

from __future__ import annotations

import threading
import time
from typing import Any

import psycopg

_SELDOM_S = 600.0
_STATEMENTS = (
    b"delete from authorization_server.request where expires_at < now()",
    # A used refresh token that comes again ends its family: that is known as long as it lived.
    b"delete from authorization_server.refresh where expires_at < now()",
    # Nothing that was issued on it can be alive, and a code that comes again finds nothing to end.
    b"delete from authorization_server.approval where created_at < now() - interval '30 days'"
    b" and not exists (select from authorization_server.refresh where refresh.sid = approval.sid)",
)


class Forgetting:
    """Deletes at most once in ten minutes; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at = float("-inf")

    def now_and_then(self, connection: psycopg.Connection[Any]) -> None:
        """Delete what is over, if it was not done lately."""
        with self._lock:
            if time.monotonic() - self._at < _SELDOM_S:
                return
            self._at = time.monotonic()
        forget(connection)


def forget(connection: psycopg.Connection[Any]) -> None:
    """Delete what is over."""
    for statement in _STATEMENTS:
        connection.execute(statement)
