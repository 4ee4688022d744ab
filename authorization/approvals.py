"""The authorizations that people gave: their codes, refresh tokens and end."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from psycopg.rows import dict_row

from authorization.context import LaunchContext
from authorization.errors import AuthorizationError
from authorization.forgetting import Forgetting
from authorization.requests import digest
from authorization.table import Pool, Table

_TOKEN_BYTES = 32
_COLUMNS = (
    b"approval.sid, approval.client_id, approval.username, approval.fhir_user, approval.scope,"
    b" approval.context, approval.nonce, approval.redirect_uri, approval.code_challenge,"
    b" approval.session_sha256, approval.signed_in_at"
)


class Reused(AuthorizationError):
    """A code or refresh token came a second time: somebody has a copy.

    Attributes:
        sid: of the authorization, which has ended by this.
    """

    def __init__(self, sid: str) -> None:
        super().__init__("used before; everything that was issued on it has ended")
        self.sid = sid


@dataclass(frozen=True, slots=True)
class Approval:
    """One authorization: who let which app do what."""

    sid: str
    client_id: str
    username: str
    fhir_user: str | None
    scope: str
    context: LaunchContext
    nonce: str | None
    redirect_uri: str
    code_challenge: str
    session_sha256: bytes | None
    signed_in_at: datetime | None

    def has(self, scope: str) -> bool:
        """Whether this very scope was granted."""
        return scope in self.scope.split()

    @property
    def is_online(self) -> bool:
        """Whether it ends with the browser session in which it was given."""
        return self.has("online_access") and not self.has("offline_access")


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A refresh token, and what it was issued on.

    Attributes:
        is_used: it was followed by another one.
        is_live: it can be used now.
    """

    token: str = field(repr=False)
    approval: Approval
    issued_at: datetime
    expires_at: datetime
    is_used: bool
    is_live: bool


class Approvals(Table):
    """The table of authorizations. Blocking: call it from a thread."""

    def __init__(self, database: str | Pool) -> None:
        super().__init__(database)
        self._forgetting = Forgetting()

    def take(self, code: str, client_id: str) -> Approval | None:
        """The authorization of a code, which is used up by this; None: no such code.

        Raises Reused: it was used before.
        """
        with self._open() as connection, connection.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute(
                b"update authorization_server.approval set code_used_at = now()"
                b" where code_sha256 = %s and client_id = %s and code_used_at is null"
                b" and code_expires_at > now() and revoked_at is null returning " + _COLUMNS,
                [digest(code), client_id],
            ).fetchone()
            if row is not None:
                return _approval(row)
            again = cursor.execute(
                b"select sid from authorization_server.approval"
                b" where code_sha256 = %s and code_used_at is not null",
                [digest(code)],
            ).fetchone()
        if again is not None:
            self.revoke(again["sid"])
            raise Reused(again["sid"])
        return None

    def issue_refresh(self, sid: str, lifetime_s: float) -> str:
        """A new refresh token on an authorization."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        with self._open() as connection:
            self._forgetting.now_and_then(connection)
            connection.execute(
                b"insert into authorization_server.refresh (token_sha256, sid, expires_at)"
                b" values (%s, %s, now() + %s)",
                [digest(token), sid, timedelta(seconds=lifetime_s)],
            )
        return token

    def find_refresh(self, token: str) -> RefreshToken | None:
        """A refresh token that is neither used, nor too old, nor ended.

        Raises Reused: it was followed by another one; the whole family has ended.
        """
        found = self.look_at_refresh(token)
        if found is not None and found.is_used:
            self.revoke(found.approval.sid)
            raise Reused(found.approval.sid)
        return found if found is not None and found.is_live else None

    def look_at_refresh(self, token: str) -> RefreshToken | None:
        """A refresh token in whatever state; looking at it changes nothing."""
        with self._open() as connection, connection.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute(
                b"select issued_at, expires_at, used_at is not null as is_used,"
                b" used_at is null and revoked_at is null and expires_at > now() as is_live, "
                + _COLUMNS
                + b" from authorization_server.refresh join authorization_server.approval"
                b" using (sid) where token_sha256 = %s",
                [digest(token)],
            ).fetchone()
        if row is None:
            return None
        own = {name: row.pop(name) for name in ("issued_at", "expires_at", "is_used", "is_live")}
        return RefreshToken(token=token, approval=_approval(row), **own)

    def use_refresh(self, token: RefreshToken) -> None:
        """Use up a refresh token, once. Raises Reused: somebody else was faster."""
        with self._open() as connection:
            done = connection.execute(
                b"update authorization_server.refresh set used_at = now()"
                b" where token_sha256 = %s and used_at is null",
                [digest(token.token)],
            )
            used = bool(done.rowcount)
        if not used:
            self.revoke(token.approval.sid)
            raise Reused(token.approval.sid)

    def revoke(self, sid: str) -> None:
        """End an authorization: nothing more is issued on it."""
        with self._open() as connection:
            connection.execute(
                b"update authorization_server.approval set revoked_at = now()"
                b" where sid = %s and revoked_at is null",
                [sid],
            )


def _approval(row: dict[str, Any]) -> Approval:
    return Approval(**{**row, "context": LaunchContext.from_json(row["context"])})
