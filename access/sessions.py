"""Browser sessions: a random cookie here, its hash and its user in the database."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from access.tokens import LEEWAY_S
from access.users import MIGRATIONS, SCHEMA, User
from database import migrate

_TOKEN_BYTES = 32
_MEMORY = 10_000
# A session is looked up once in so long; a logout elsewhere counts no later.
_REMEMBER_S = 5.0
# Each request keeps a session alive; it is written down once in this part of the idle time.
_TOUCHES = 30


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long a session lives.

    Attributes:
        idle_s: without any request.
        longest_s: however busy it is.
    """

    idle_s: float = 15 * 60
    longest_s: float = 12 * 3600


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A sign-in at another identity provider.

    Attributes:
        id_token: by which it knows later whom to sign out.
        at: when the person had proved who they are; None: it does not say.
    """

    id_token: str = field(repr=False)
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Session:
    """Who is signed in, the secret that each form of theirs carries, and since when.

    Attributes:
        opened_at: when the session began.
        signed_in_at: when the user had proved who they are; None: nobody knows.
    """

    user: User
    csrf: str
    opened_at: datetime
    signed_in_at: datetime | None

    def is_since(self, moment: datetime) -> bool:
        """Whether the user has proved who they are at this moment or later."""
        # Another provider's clock may be late; a session that began here before that is not new.
        bound = moment - timedelta(seconds=LEEWAY_S)
        is_known = self.signed_in_at is not None and self.signed_in_at >= bound
        return is_known and self.opened_at >= moment

    def owns(self, form_token: str) -> bool:
        """Whether a form was made for this session."""
        return hmac.compare_digest(self.csrf.encode(), form_token.encode())


class Sessions:
    """The table of sessions; safe to share between threads.

    Args:
        dsn: of our database.
        lifetimes: of a session.
        ending: ends what apps may do only while this session lives, by the hash of its token. It
            is called before the end of the session is committed.
    """

    def __init__(
        self,
        dsn: str,
        lifetimes: Lifetimes | None = None,
        ending: Callable[[bytes], object] | None = None,
    ) -> None:
        migrate(dsn, SCHEMA, MIGRATIONS)
        self._ending = ending
        self._lifetimes = lifetimes or Lifetimes()
        self._pool = ConnectionPool(dsn, min_size=1, max_size=4, timeout=5, open=True)
        self._known: dict[bytes, tuple[float, Session]] = {}
        self._lock = threading.Lock()

    def open(
        self, user: User, before: str | None = None, elsewhere: Elsewhere | None = None
    ) -> str:
        """Begin a session; its token, for the cookie.

        Args:
            user: who has just proved to be who they are.
            before: token that the browser came with. It ends here: a session that somebody else
                planted in this browser does not become the user's.
            elsewhere: where they proved it; None: here and now.
        """
        if before is not None:
            self.close(before)
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        with self._pool.connection() as connection:
            connection.execute(
                b"delete from access.session where seen_at < now() - %s or created_at < now() - %s",
                [self._idle, self._longest],
            )
            connection.execute(
                b"insert into access.session (token_sha256, username, csrf, id_token, signed_in_at)"
                b" values (%s, %s, %s, %s, case when %s then %s::timestamptz else now() end)",
                [
                    _digest(token),
                    user.username,
                    secrets.token_urlsafe(_TOKEN_BYTES),
                    elsewhere.id_token if elsewhere else None,
                    elsewhere is not None,
                    elsewhere.at if elsewhere else None,
                ],
            )
        return token

    def find(self, token: str) -> Session | None:
        """The session of a cookie, kept alive by this; None: none, or it is over."""
        digest = _digest(token)
        with self._lock:
            at, known = self._known.get(digest, (0.0, None))
        if known is not None and time.monotonic() - at < _REMEMBER_S:
            return known
        found = self._look_up(digest)
        with self._lock:
            self._known.pop(digest, None)
            if found is not None:
                if len(self._known) >= _MEMORY:
                    self._known.clear()
                self._known[digest] = (time.monotonic(), found)
        return found

    def lives(self, token_sha256: bytes) -> bool:
        """Whether the session whose token has this hash is open, kept alive by this.

        What an app may do only while its user is signed in goes by the hash: nobody but the
        browser keeps the token itself.
        """
        return self._look_up(token_sha256) is not None

    def close(self, token: str) -> str | None:
        """End a session, and what apps may do only while it lives.

        Returns:
            The id_token of the other identity provider at which the user signed in.
        """
        digest = _digest(token)
        with self._pool.connection() as connection:
            row = connection.execute(
                b"delete from access.session where token_sha256 = %s returning id_token", [digest]
            ).fetchone()
            if self._ending is not None:
                self._ending(digest)
        with self._lock:
            self._known.pop(digest, None)
        return row[0] if row is not None else None

    def shut(self) -> None:
        """Let go of the database."""
        self._pool.close()

    @property
    def _idle(self) -> timedelta:
        return timedelta(seconds=self._lifetimes.idle_s)

    @property
    def _longest(self) -> timedelta:
        return timedelta(seconds=self._lifetimes.longest_s)

    def _look_up(self, digest: bytes) -> Session | None:
        with self._pool.connection() as connection, connection.cursor(row_factory=dict_row) as rows:
            row = rows.execute(
                b"select csrf, now() - seen_at > %s as stale, username, display_name, role,"
                b" fhir_user, disabled, session.created_at as opened_at, signed_in_at"
                b" from access.session join access.account using (username)"
                b" where token_sha256 = %s and seen_at >= now() - %s"
                b" and session.created_at >= now() - %s and not disabled",
                [self._idle / _TOUCHES, digest, self._idle, self._longest],
            ).fetchone()
            if row is None:
                return None
            if row.pop("stale"):
                rows.execute(
                    b"update access.session set seen_at = now() where token_sha256 = %s", [digest]
                )
            own = {name: row.pop(name) for name in ("csrf", "opened_at", "signed_in_at")}
            return Session(User(**row), **own)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
