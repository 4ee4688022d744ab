"""Wrong passwords slow one down: after five, each further try has to wait, twice as long each."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import psycopg

FREE_FAILURES = 5
FIRST_WAIT_S = 30
LONGEST_WAIT_S = 15 * 60
_FORGET = timedelta(days=1)


def begin(connection: psycopg.Connection[Any], username: str) -> float:
    """Count a try before it is made, so that many at once are counted too.

    Returns:
        Seconds to wait first; 0: the password may be checked now.
    """
    with connection.transaction():
        connection.execute(b"delete from access.attempt where last_at < now() - %s", [_FORGET])
        row = connection.execute(
            b"insert into access.attempt as mine (username_sha256, failures) values (%s, 0)"
            b" on conflict (username_sha256) do update set failures = mine.failures"
            b" returning failures, extract(epoch from locked_until - now())",
            [_digest(username)],
        ).fetchone()
        failures, wait_s = row or (0, None)
        if wait_s is not None and wait_s > 0:
            return float(wait_s)
        failures += 1
        connection.execute(
            b"update access.attempt set failures = %s, last_at = now(),"
            b" locked_until = now() + %s where username_sha256 = %s",
            [failures, _wait(failures), _digest(username)],
        )
    return 0.0


def succeed(connection: psycopg.Connection[Any], username: str) -> None:
    """The password was right: nothing counts against this name any more."""
    connection.execute(
        b"delete from access.attempt where username_sha256 = %s", [_digest(username)]
    )


def _wait(failures: int) -> timedelta | None:
    beyond = failures - FREE_FAILURES
    if beyond < 0:
        return None
    return timedelta(seconds=min(FIRST_WAIT_S * 2 ** min(beyond, 20), LONGEST_WAIT_S))


def _digest(username: str) -> bytes:
    return hashlib.sha256(username.encode("utf-8", "surrogatepass")).digest()
