"""The people who may sign in: names, roles and passwords, in the database."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from access import passwords, throttle
from access.caller import Caller
from access.errors import AccessError
from access.roles import ROLES, Role, scopes_of
from database import migrate

SCHEMA = "access"
MIGRATIONS = Path(__file__).parent / "migrations"
_USERNAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
_FHIR_USER = re.compile(r"(Practitioner|PractitionerRole|Patient)/[A-Za-z0-9.-]{1,64}")
_PATIENT = "Patient/"
# No hash looks like this: nobody signs in with a password.
_NO_PASSWORD = "!"  # noqa: S105
_COLUMNS = b"username, display_name, role, fhir_user, disabled"


class UserError(AccessError):
    """A user cannot be added or changed so; the text says why."""


class LoginRefused(AccessError):
    """The name or the password is wrong, or the user is disabled: nobody is told which."""

    def __init__(self) -> None:
        super().__init__("the username or the password is wrong")


class TooManyAttempts(AccessError):
    """There were too many wrong passwords for this name."""

    def __init__(self, wait_s: float) -> None:
        self.wait_s = int(wait_s) + 1
        super().__init__(f"too many wrong passwords; try again in {_words(self.wait_s)}")


@dataclass(frozen=True, slots=True)
class User:
    """A person who may sign in.

    Attributes:
        username: lower case; what is typed at the login.
        fhir_user: who this is in the FHIR store, such as `Practitioner/17`; a `Patient/...` has
            the role patient, and nobody else has.
        disabled: kept for the record, may not sign in.
    """

    username: str
    display_name: str
    role: Role
    fhir_user: str | None = None
    disabled: bool = False

    def __post_init__(self) -> None:
        if not _USERNAME.fullmatch(self.username):
            raise UserError("a username is 1 to 64 letters, digits and . _ @ -, lower case")
        if self.role not in ROLES:
            raise UserError(f"{self.role!r} is not a role; there are {', '.join(ROLES)}")
        if len(self.display_name) > 200 or not self.display_name.isprintable():
            raise UserError("a display name is at most 200 printable characters")
        if self.fhir_user is not None and not _FHIR_USER.fullmatch(self.fhir_user):
            raise UserError("a FHIR user is a reference such as Practitioner/17 or Patient/4")
        # Whoever is a patient is held to their own record by this, at every door.
        if (self.role == "patient") != (self.patient is not None):
            raise UserError(
                "the role patient, and no other, goes with a reference to a Patient; give both "
                "(for another role Practitioner/17, or none)"
            )

    def caller(self, *, address: str | None = None, client: str | None = None) -> Caller:
        """This person at one of the doors."""
        return Caller(
            self.username,
            "user",
            scopes_of(self.role),
            client=client,
            address=address,
            fhir_user=self.fhir_user,
        )

    @property
    def rights(self) -> tuple[Role, str | None, bool]:
        """What sessions and authorizations end with when it changes."""
        return self.role, self.fhir_user, self.disabled

    @property
    def told(self) -> str:
        """What they may do and as whom, for the audit trail."""
        words = (f"role {self.role}", self.fhir_user, "disabled" if self.disabled else None)
        return ", ".join(one for one in words if one)

    @property
    def patient(self) -> str | None:
        """Logical id of the Patient that this user is; None for everyone else."""
        own = self.fhir_user or ""
        return own.removeprefix(_PATIENT) if own.startswith(_PATIENT) else None


class Users:
    """The table of users.

    Args:
        dsn: of our database.
        ending: ends what apps were allowed in a user's name. It is called before a change of
            rights, of the password or a removal is committed: what fails in between has ended too
            much and changed nothing, and can be done again.
        beginning: clears what an earlier holder has left under a name, before a new one has it.
    """

    def __init__(
        self,
        dsn: str,
        ending: Callable[[str], object] | None = None,
        beginning: Callable[[str], object] | None = None,
    ) -> None:
        migrate(dsn, SCHEMA, MIGRATIONS)
        self._beginning = beginning
        self._dsn = dsn
        self._ending = ending

    def add(self, user: User, password: str) -> None:
        """Add a user. Raises UserError if the name is taken, WeakPassword."""
        kept = passwords.hash_password(password, user.username)
        with self._open() as connection:
            self._add(connection, user, kept, None)

    def sign_in_from(self, origin: str, user: User) -> User:
        """The user that another identity provider vouches for, added or brought up to date.

        Args:
            origin: issuer and subject there: what the user is known by from now on.
            user: as the provider describes them; the name counts at the first time only.

        Raises:
            UserError: somebody else has the name here, the user is disabled here, or was the last
                administrator; see `shut_out`.
        """
        with self._open() as connection:
            _one_at_a_time(connection)
            row = connection.execute(
                b"select username, disabled from access.account where federated = %s", [origin]
            ).fetchone()
            if row is None:
                if _find(connection, user.username) is not None:
                    raise UserError(
                        f"somebody else has the username {user.username!r} here; ask an "
                        "administrator to remove that user, or for another name at the provider"
                    )
                self._add(connection, user, _NO_PASSWORD, origin)
                return user
            known = replace(user, username=row[0])
            if row[1]:
                raise UserError(
                    f"the user {known.username!r} is disabled here; an administrator can enable it"
                )
            self._change(connection, known)
            return known

    def shut_out(self, origin: str) -> str | None:
        """End all that somebody has for whom a provider vouches no more; their name here, if any.

        The row stays: it is the provider that lets nobody in.
        """
        with self._open() as connection:
            row = connection.execute(
                b"select username from access.account where federated = %s", [origin]
            ).fetchone()
            if row is None:
                return None
            self._end(connection, row[0])
            return str(row[0])

    def is_empty(self) -> bool:
        """Whether there is nobody who could sign in."""
        with self._open() as connection:
            return connection.execute(b"select from access.account limit 1").fetchone() is None

    def list(self) -> list[User]:
        """All users by name."""
        with self._open() as connection, connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(b"select " + _COLUMNS + b" from access.account order by username")
            return [User(**row) for row in cursor]

    def find(self, username: str) -> User:
        """The user of this name. Raises UserError if there is none."""
        with self._open() as connection:
            found = _find(connection, username)
        if found is None:
            raise _nobody(username)
        return found

    def change(self, user: User) -> None:
        """Change all but the name and the password; a change of rights ends what they have.

        Raises UserError if there is no such user, or it is the last administrator.
        """
        with self._open() as connection:
            self._change(connection, user)

    def remove(self, username: str) -> None:
        """Remove a user and what they have. Raises UserError as `change` does."""
        with self._open() as connection:
            with _administrators(connection):
                done = connection.execute(
                    b"delete from access.account where username = %s", [normal(username)]
                )
                if not done.rowcount:
                    raise _nobody(username)
            self._end(connection, normal(username))

    def set_password(self, username: str, password: str) -> None:
        """Give a new password; ends what they have and what wrong ones had brought.

        Raises UserError: nobody has the name, or it is of a user who signs in at a provider, whom
        a password would let past it.
        """
        kept = passwords.hash_password(password, normal(username))
        with self._open() as connection:
            if _find(connection, username) is None:
                raise _nobody(username)
            if not _keep(connection, normal(username), kept):
                raise UserError(f"{username!r} signs in at another provider, without a password")
            throttle.succeed(connection, normal(username))
            self._end(connection, normal(username))

    def unlock(self, username: str) -> None:
        """Forget the wrong passwords of a user. Raises UserError if there is none."""
        with self._open() as connection:
            if _find(connection, username) is None:
                raise _nobody(username)
            throttle.succeed(connection, normal(username))

    def authenticate(self, username: str, password: str) -> User:
        """The user of this name and password.

        Raises:
            LoginRefused: wrong name or password, or disabled.
            TooManyAttempts: too many wrong ones came before; this one was not looked at.
        """
        name = normal(username)
        with self._open() as connection:
            connection.autocommit = True
            wait_s = throttle.begin(connection, name)
            if wait_s > 0:
                raise TooManyAttempts(wait_s)
            kept = _password(connection, name)
            if not passwords.is_right(password, kept) or kept is None:
                raise LoginRefused
            user = _find(connection, name)
            if user is None or user.disabled:
                raise LoginRefused
            throttle.succeed(connection, name)
            if passwords.is_outdated(kept):
                _keep(connection, name, passwords.rehash(password))
            return user

    def _add(
        self, connection: psycopg.Connection[Any], user: User, kept: str, federated: str | None
    ) -> None:
        _insert(connection, user, kept, federated)
        if self._beginning is not None:
            self._beginning(user.username)

    def _change(self, connection: psycopg.Connection[Any], user: User) -> None:
        with _administrators(connection):
            before = _find(connection, user.username)
            if before is None:
                raise _nobody(user.username)
            _update(connection, user)
        if before.rights != user.rights:
            self._end(connection, user.username)

    def _end(self, connection: psycopg.Connection[Any], username: str) -> None:
        """End sessions and what apps were allowed; the last before the change is committed."""
        connection.execute(b"delete from access.session where username = %s", [username])
        if self._ending is not None:
            self._ending(username)

    @contextmanager
    def _open(self) -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(self._dsn, connect_timeout=5) as connection:
            yield connection


def normal(username: str) -> str:
    """A username as it is kept: people also type capitals and spaces around it."""
    return username.strip().lower()


def _find(connection: psycopg.Connection[Any], username: str) -> User | None:
    if not _USERNAME.fullmatch(normal(username)):
        return None  # PostgreSQL refuses some texts with an error: a NUL, half a character
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            b"select " + _COLUMNS + b" from access.account where username = %s", [normal(username)]
        ).fetchone()
    return User(**row) if row else None


def _insert(
    connection: psycopg.Connection[Any], user: User, kept: str, federated: str | None
) -> None:
    """Add a row. Raises UserError if the name is taken."""
    done = connection.execute(
        b"insert into access.account"
        b" (username, display_name, role, fhir_user, disabled, password, federated)"
        b" values (%s, %s, %s, %s, %s, %s, %s) on conflict do nothing",
        [
            user.username,
            user.display_name,
            user.role,
            user.fhir_user,
            user.disabled,
            kept,
            federated,
        ],
    )
    if not done.rowcount:
        raise UserError(
            f"there is a user {user.username!r} already; change that one, or choose another name"
        )


def _update(connection: psycopg.Connection[Any], user: User) -> None:
    connection.execute(
        b"update access.account set display_name = %s, role = %s, fhir_user = %s,"
        b" disabled = %s where username = %s",
        [user.display_name, user.role, user.fhir_user, user.disabled, user.username],
    )


def _password(connection: psycopg.Connection[Any], username: str) -> str | None:
    """The hash of a user's password; None if there is no such user."""
    if not _USERNAME.fullmatch(username):
        return None
    row = connection.execute(
        b"select password from access.account where username = %s", [username]
    ).fetchone()
    return str(row[0]) if row else None


def _keep(connection: psycopg.Connection[Any], username: str, kept: str) -> bool:
    done = connection.execute(
        b"update access.account set password = %s, password_at = now() where username = %s"
        b" and federated is null",
        [kept, username],
    )
    return bool(done.rowcount)


def _one_at_a_time(connection: psycopg.Connection[Any]) -> None:
    """Let no other change of users come in between, until this one is over."""
    connection.execute(b"lock table access.account in share row exclusive mode")


@contextmanager
def _administrators(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Undo the change if it leaves nobody who could administer."""
    # Two changes that each leave the other administrator would leave none.
    _one_at_a_time(connection)
    before = _count_administrators(connection)
    yield
    if before and not _count_administrators(connection):
        raise UserError("this is the last administrator; add another one first")


def _count_administrators(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute(
        b"select count(*) from access.account where role = 'administrator' and not disabled"
    ).fetchone()
    return int(row[0]) if row else 0


def _nobody(username: str) -> UserError:
    return UserError(f"there is no user {username!r}; `hilum users list` shows all")


def _words(wait_s: int) -> str:
    return f"{wait_s} seconds" if wait_s < 120 else f"{wait_s // 60 + 1} minutes"
