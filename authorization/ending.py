"""Ending authorizations in bulk: all of a user, all of a client, or one that a user takes back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from access.revocation import Revocations
from access.tokens import LEEWAY_S
from authorization.clients import Client
from authorization.table import Pool, Table

# No access token lives longer (`authorization.access_minutes` is at most 60).
_LONGEST_S = 3600


class Endings(Table):
    """Ends authorizations with every token that was issued on them. Blocking."""

    def __init__(self, database: str | Pool, revocations: Revocations) -> None:
        super().__init__(database)
        self._revocations = revocations

    def of_user(self, username: str) -> int:
        """End all that a user gave, and forget what they agreed to; how many there were."""
        with self._open() as connection:
            connection.execute(
                b"delete from authorization_server.consent where username = %s", [username]
            )
        return self._end(b"username = %s", [username])

    def of_client(self, client_id: str) -> int:
        """End all that a client was given; call it before the client is removed."""
        with self._open() as connection:
            machine = connection.execute(
                b"with before as (select client_id, backend_sid from authorization_server.client"
                b" where client_id = %s and backend for update)"
                b" update authorization_server.client set backend_sid = gen_random_uuid()::text"
                b" from before where client.client_id = before.client_id"
                b" returning before.backend_sid",
                [client_id],
            ).fetchall()
            self._revoke(machine)
        return self._end(b"client_id = %s", [client_id])

    def of_session(self, session_sha256: bytes) -> int:
        """End the online access that was given in a browser session, by the hash of its token."""
        return self._end(
            b"session_sha256 = %s and string_to_array(scope, ' ') @> '{online_access}'"
            b" and not string_to_array(scope, ' ') @> '{offline_access}'",
            [session_sha256],
        )

    def client_changed(self, before: Client, after: Client) -> None:
        """End what a client was given, if it is to be granted other things, or nothing.

        Call it before the change: if that fails, too much has ended, and not too little.
        """
        if after.disabled or after.scopes != before.scopes:
            self.of_client(after.client_id)

    def of_user_and_client(self, username: str, client_id: str) -> int:
        """End what one user gave one client, and forget that they agreed."""
        with self._open() as connection:
            connection.execute(
                b"delete from authorization_server.consent where username = %s and client_id = %s",
                [username, client_id],
            )
        return self._end(b"username = %s and client_id = %s", [username, client_id])

    def live_of(self, username: str) -> dict[str, str]:
        """What a user's authorizations that have not ended grant, by client."""
        with self._open() as connection:
            rows = connection.execute(
                b"select client_id, scope from authorization_server.approval"
                b" where username = %s and revoked_at is null and code_used_at is not null"
                b" and (created_at > now() - %s or exists (select from authorization_server.refresh"
                b" where refresh.sid = approval.sid and used_at is null and expires_at > now()))"
                b" order by created_at",
                [username, timedelta(seconds=_LONGEST_S)],
            ).fetchall()
        found: dict[str, str] = {}
        for client_id, scope in rows:
            words = [*found.get(client_id, "").split(), *scope.split()]
            found[client_id] = " ".join(dict.fromkeys(words))
        return found

    def _end(self, condition: bytes, values: list[str] | list[bytes]) -> int:
        with self._open() as connection:
            rows = connection.execute(
                b"update authorization_server.approval set revoked_at = now()"
                b" where revoked_at is null and " + condition + b" returning sid",
                values,
            ).fetchall()
            self._revoke(rows)
        return len(rows)

    def _revoke(self, rows: list[tuple[str]]) -> None:
        """End access tokens, before what says so is committed: what fails can be done again."""
        if not rows:
            return
        until = datetime.now(UTC) + timedelta(seconds=_LONGEST_S + 2 * LEEWAY_S)
        self._revocations.revoke_all([sid for (sid,) in rows], until)
