"""What the holder of a name left: exports and subscriptions, which are none of the next holder's.

Both are owned by name. A name that was given up and is given again begins with nothing.
"""

from __future__ import annotations

from typing import LiteralString

import psycopg

_JOBS: LiteralString = (
    "update gateway.bulk_job set finished_at = coalesce(finished_at, now()), state ="
    " case when state in ('accepted', 'running') then 'cancelled' else 'expired' end"
    " where state not in ('cancelled', 'expired') and "
)


class Leavings:
    """Clears what is left under a name, before it is given again. Blocking."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def of_client(self, client_id: str) -> None:
        """End the exports and subscriptions of a client."""
        self._clear(
            (_JOBS + "client = %s", "delete from gateway.subscription where client = %s"),
            client_id,
        )

    def of_user(self, username: str) -> None:
        """End the exports of a user; a client may have the same name, and keeps its own."""
        self._clear((_JOBS + "subject = %s and client is distinct from subject",), username)

    def _clear(self, statements: tuple[LiteralString, ...], name: str) -> None:
        with psycopg.connect(self._dsn, connect_timeout=5) as connection:
            found = connection.execute("select to_regclass('gateway.subscription')").fetchone()
            if found is None or found[0] is None:
                return  # the gateway was never here
            for statement in statements:
                connection.execute(statement, [name])
