"""What people chose for an open request, and what they agreed to for the next time."""

from __future__ import annotations

from dataclasses import dataclass, field

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from authorization.context import LaunchContext
from authorization.narrowing import covers
from authorization.table import Table


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen so far: the context, and which questions need not be asked again."""

    context: LaunchContext = field(default_factory=LaunchContext)
    chosen: frozenset[str] = frozenset()

    @property
    def study(self) -> str | None:
        """Reference of the ImagingStudy that was chosen."""
        for entry in self.context.fhir_context:
            reference = str(entry.get("reference", ""))
            if reference.startswith("ImagingStudy/"):
                return reference
        return None


@dataclass(frozen=True, slots=True)
class Consent:
    """One user's standing answer to one client.

    Attributes:
        asked: every scope that was on the page.
        granted: those that stayed ticked.
    """

    client_id: str
    asked: str
    granted: str

    def answers(self, offered: str) -> str | None:
        """What it says to these scopes; None: there are some that it says nothing about."""
        if not covers(self.asked, offered):
            return None
        return " ".join(one for one in offered.split() if covers(self.granted, one))


class Choices(Table):
    """Both tables. Blocking: call it from a thread."""

    def find(self, request_id: str, username: str) -> Choice:
        """What this user chose for a request; what another one chose does not count."""
        with self._open() as connection, connection.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute(
                b"select context, chosen from authorization_server.choice"
                b" where request_id = %s and username = %s",
                [request_id, username],
            ).fetchone()
        if row is None:
            return Choice()
        return Choice(LaunchContext.from_json(row["context"]), frozenset(row["chosen"]))

    def keep(self, request_id: str, username: str, choice: Choice) -> None:
        """Keep what was chosen."""
        with self._open() as connection:
            connection.execute(
                b"insert into authorization_server.choice (request_id, username, context, chosen)"
                b" values (%s, %s, %s, %s) on conflict (request_id) do update set"
                b" username = excluded.username, context = excluded.context,"
                b" chosen = excluded.chosen",
                [
                    request_id,
                    username,
                    Jsonb(choice.context.as_json()),
                    Jsonb(sorted(choice.chosen)),
                ],
            )

    def consent(self, username: str, client_id: str) -> Consent | None:
        """The standing answer of a user to a client."""
        found = [one for one in self.consents(username) if one.client_id == client_id]
        return found[0] if found else None

    def consents(self, username: str) -> list[Consent]:
        """All standing answers of a user, by client."""
        with self._open() as connection, connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(
                b"select client_id, asked, granted from authorization_server.consent"
                b" where username = %s order by client_id",
                [username],
            )
            return [Consent(**row) for row in cursor]

    def remember(self, username: str, consent: Consent) -> None:
        """Keep an answer in place of the one before."""
        with self._open() as connection:
            connection.execute(
                b"insert into authorization_server.consent (username, client_id, asked, granted)"
                b" values (%s, %s, %s, %s) on conflict (username, client_id) do update set"
                b" asked = excluded.asked, granted = excluded.granted, decided_at = now()",
                [username, consent.client_id, consent.asked, consent.granted],
            )
