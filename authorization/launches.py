"""Launches that began here: a random id stands for what is open at the user's screen."""

from __future__ import annotations

import secrets
from datetime import timedelta

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from authorization.context import LaunchContext
from authorization.errors import AuthorizationError
from authorization.requests import digest
from authorization.table import Table

OPEN_S = 5 * 60
_RANDOM_BYTES = 32


class NoLaunch(AuthorizationError):
    """There is no such launch for this app, user and session: one text for every cause."""

    def __init__(self) -> None:
        super().__init__("the launch is unknown, used, over, or somebody else's")


class Launches(Table):
    """The table of launches. Blocking: call it from a thread."""

    def begin(
        self, client_id: str, username: str, context: LaunchContext, session: str | None
    ) -> str:
        """Begin a launch; the id, for the app's `launch` parameter.

        Args:
            client_id: of the app, the only one that may use it.
            username: the only one for whom it may.
            context: what is open.
            session: token of the browser session that it is bound to; None: any of the user's.
        """
        launch = secrets.token_urlsafe(_RANDOM_BYTES)
        with self._open() as connection:
            connection.execute(
                b"delete from authorization_server.launch where expires_at < now() - %s",
                [timedelta(days=1)],
            )
            connection.execute(
                b"insert into authorization_server.launch (launch_sha256, client_id, username,"
                b" session_sha256, context, expires_at) values (%s, %s, %s, %s, %s, now() + %s)",
                [
                    digest(launch),
                    client_id,
                    username,
                    digest(session) if session is not None else None,
                    Jsonb(context.as_json()),
                    timedelta(seconds=OPEN_S),
                ],
            )
        return launch

    def take(
        self, launch: str, client_id: str, username: str, session: str | None
    ) -> LaunchContext:
        """What a launch stands for; it is used up by this, whoever comes with it.

        Raises NoLaunch.
        """
        with self._open() as connection, connection.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute(
                b"update authorization_server.launch set used_at = now()"
                b" where launch_sha256 = %s and used_at is null and expires_at > now()"
                b" returning client_id, username, session_sha256, context",
                [digest(launch)],
            ).fetchone()
        if row is None or (row["client_id"], row["username"]) != (client_id, username):
            raise NoLaunch
        bound = row["session_sha256"]
        if bound is not None and (session is None or bound != digest(session)):
            raise NoLaunch
        return LaunchContext.from_json(row["context"])
