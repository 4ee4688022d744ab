"""Tokens that no longer count, though their signature and time are good.

A token is withdrawn by its own id (`jti`), or with all others of one authorization (`sid`).
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Literal

import psycopg
import structlog

from access.users import MIGRATIONS, SCHEMA
from database import migrate

Kind = Literal["sid", "jti"]
POLL_S = 1.5  # another process learns of a revocation within two seconds
_CONNECT_S = 5

log = structlog.get_logger(__name__)


class Revocations:
    """What was withdrawn: in memory for each check, in PostgreSQL for the other processes.

    While the database is away the check goes by what is in memory; nothing can be withdrawn.
    """

    def __init__(self, dsn: str) -> None:
        migrate(dsn, SCHEMA, MIGRATIONS)
        self._dsn = dsn
        self._until: dict[tuple[str, str], datetime] = {}
        self._stop = threading.Event()
        with self._connect() as connection:
            self._learn(connection, everything=True)
        threading.Thread(target=self._poll, name="revocations", daemon=True).start()

    def revoke(self, *, sid: str | None = None, jti: str | None = None, until: datetime) -> None:
        """Withdraw one token, or all of an authorization; counts here at once.

        Args:
            sid: id of the authorization.
            jti: id of the token.
            until: when the last of these tokens expires by itself; then it is forgotten.

        Raises:
            ValueError: neither is given, or both.
            psycopg.Error: it could not be written down; it counts in no process.
        """
        if (sid is None) == (jti is None):
            raise ValueError("revoke one sid or one jti")
        if sid is not None:
            self._withdraw("sid", [sid], until)
        elif jti is not None:
            self._withdraw("jti", [jti], until)

    def revoke_all(self, sids: list[str], until: datetime) -> None:
        """Withdraw all tokens of many authorizations at once. Raises as `revoke` does."""
        self._withdraw("sid", sids, until)

    def _withdraw(self, kind: Kind, names: list[str], until: datetime) -> None:
        with self._connect() as connection:
            connection.execute(
                b"insert into access.revoked (kind, id, until)"
                b" select %s, id, %s from unnest(%s::text[]) as id"
                b" on conflict (kind, id) do update"
                b" set until = greatest(revoked.until, excluded.until), revoked_at = now()",
                [kind, until, sorted(set(names))],
            )
            connection.execute(b"delete from access.revoked where until < now() - interval '1 day'")
        self._until.update({(kind, name): until for name in names})

    def revoked(self, *, sid: str | None, jti: str | None) -> bool:
        """Whether a token with these ids is withdrawn. Never waits for the database."""
        return ("jti", jti) in self._until or ("sid", sid) in self._until

    def close(self) -> None:
        """End the thread that listens for other processes."""
        self._stop.set()

    def _poll(self) -> None:
        while not self._stop.wait(POLL_S):
            try:
                with self._connect() as connection:
                    self._learn(connection, everything=True)
                    while not self._stop.wait(POLL_S):
                        self._learn(connection, everything=False)
            except psycopg.Error as error:
                log.warning("revocations.database_away", kind=type(error).__name__)

    def _learn(self, connection: psycopg.Connection, *, everything: bool) -> None:
        # A row may be committed a moment after its time, so each look goes back a minute.
        rows = connection.execute(
            b"select kind, id, until from access.revoked"
            b" where until > now() and (%s or revoked_at > now() - interval '1 minute')",
            [everything],
        ).fetchall()
        self._until.update({(kind, name): until for kind, name, until in rows})
        now = datetime.now(UTC)
        for key in [key for key, until in list(self._until.items()) if until < now]:
            self._until.pop(key, None)

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(self._dsn, autocommit=True, connect_timeout=_CONNECT_S)
