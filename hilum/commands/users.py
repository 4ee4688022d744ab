"""`hilum users`: who may sign in."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import psycopg
import typer
from rich.markup import escape
from rich.table import Table

from access.errors import AccessError
from access.roles import MEANINGS, ROLES
from access.users import User, Users, normal
from fhir_gateway.leavings import Leavings
from hilum.commands.console import DataOption, database_of, fail, out, read_settings
from hilum.commands.operating import endings_of, recorded

app = typer.Typer(
    help="The people who may sign in at the viewer and over DICOM, and their roles.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

RoleOption = Annotated[
    str, typer.Option(help="; ".join(f"{role} {MEANINGS[role]}" for role in ROLES) + ".")
]


@contextmanager
def _users(data: Path | None) -> Iterator[Users]:
    """The table; what is refused becomes a message and exit status 1.

    What apps were allowed ends with other rights, within two seconds.
    """
    try:
        dsn = database_of(data)
        with endings_of(data) as endings:
            yield Users(dsn, endings.of_user, Leavings(dsn).of_user)
    except AccessError as error:
        fail(error)
    except psycopg.OperationalError as error:
        fail(f"the database does not answer: {error}")


@app.command("add")
def add(
    username: str,
    role: RoleOption = "viewer",
    name: Annotated[str, typer.Option(help="Name as it is shown.")] = "",
    fhir_user: Annotated[
        str | None,
        typer.Option(help="Who this is in FHIR: Practitioner/17; for the role patient, Patient/4."),
    ] = None,
    data: DataOption = None,
) -> None:
    """Add a user. The password is asked for, or read from standard input."""
    with _users(data) as users:
        user = User(normal(username), name, role, fhir_user)  # type: ignore[arg-type]
        secret = _password()
        with recorded(read_settings(data), f"user {user.username} added: {user.told}"):
            users.add(user, secret)
        out.print(f"{user.username} may sign in and {MEANINGS[user.role]}", highlight=False)


@app.command("set")
def change(
    username: str,
    role: Annotated[str | None, typer.Option(help="One of " + ", ".join(ROLES) + ".")] = None,
    name: Annotated[str | None, typer.Option(help="Name as it is shown.")] = None,
    fhir_user: Annotated[
        str | None, typer.Option(help="Who this is in FHIR; 'none' for nobody.")
    ] = None,
    data: DataOption = None,
) -> None:
    """Change what is given of a user. A new role ends the sessions and what apps were allowed."""
    with _users(data) as users:
        user = users.find(username)
        kept = user.fhir_user if fhir_user is None else fhir_user
        changed = replace(
            user,
            role=user.role if role is None else role,  # type: ignore[arg-type]
            display_name=user.display_name if name is None else name,
            fhir_user=None if kept == "none" else kept,
        )
        _change(data, users, changed)
        out.print(f"{changed.username} {MEANINGS[changed.role]}", highlight=False)


@app.command("list")
def show_all(data: DataOption = None) -> None:
    """Show the users."""
    with _users(data) as users:
        table = Table("username", "name", "role", "FHIR", "may sign in", show_edge=False)
        for user in users.list():
            state = "no (disabled)" if user.disabled else "yes"
            name = escape(user.display_name)
            table.add_row(user.username, name, user.role, user.fhir_user or "", state)
        out.print(table if table.row_count else "no users; `hilum users add NAME --role ROLE`")


@app.command("password")
def password(username: str, data: DataOption = None) -> None:
    """Give a new password, asked for or read from standard input.

    Ends the sessions and what apps were allowed.
    """
    with _users(data) as users:
        user, secret = users.find(username), _password()
        with recorded(read_settings(data), f"user {user.username}: new password"):
            users.set_password(user.username, secret)
        out.print(f"{user.username} has a new password", highlight=False)


@app.command("disable")
def disable(username: str, data: DataOption = None) -> None:
    """Keep a user from signing in; ends the sessions and what apps were allowed."""
    with _users(data) as users:
        user = users.find(username)
        _change(data, users, replace(user, disabled=True))
        out.print(f"{normal(username)} may not sign in any more", highlight=False)


@app.command("enable")
def enable(username: str, data: DataOption = None) -> None:
    """Let a disabled user sign in again."""
    with _users(data) as users:
        user = users.find(username)
        _change(data, users, replace(user, disabled=False))
        out.print(f"{normal(username)} may sign in", highlight=False)


@app.command("unlock")
def unlock(username: str, data: DataOption = None) -> None:
    """Forget a user's wrong passwords, so that the next try need not wait."""
    with _users(data) as users:
        user = users.find(username)
        with recorded(read_settings(data), f"user {user.username}: lock reset"):
            users.unlock(user.username)
        out.print(f"{normal(username)} may try again", highlight=False)


@app.command("remove")
def remove(username: str, data: DataOption = None) -> None:
    """Remove a user for good; the audit trail keeps the name."""
    with _users(data) as users:
        user = users.find(username)
        with recorded(read_settings(data), f"user {user.username}: removed"):
            users.remove(user.username)
        out.print(f"{normal(username)} removed", highlight=False)


def _change(data: Path | None, users: Users, user: User) -> None:
    with recorded(read_settings(data), f"user {user.username}: changed: {user.told}"):
        users.change(user)


def _password() -> str:
    """From a prompt, twice, or the first line of standard input; never from the command line."""
    if sys.stdin.isatty():
        found: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
        return found
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        fail("no password on standard input")
    return line
