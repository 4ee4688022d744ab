"""Storage commitment requests and their results, kept so that a restart forgets none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta

import psycopg
from psycopg.types.json import Jsonb

from archive.keys import DicomJson

KEPT = timedelta(days=30)
Reference = tuple[str, str]


@dataclass(frozen=True, slots=True)
class CommitmentRequest:
    """What somebody asked to be vouched for.

    Attributes:
        subject: Who asked.
        referenced: SOP class and SOP instance of each.
        hidden: Studies that the caller may not know of.
        result: Storage Commitment Response Module; None while it is being verified.
    """

    subject: str
    referenced: tuple[Reference, ...]
    hidden: frozenset[str]
    result: DicomJson | None


class Commitments:
    """The requests of the last thirty days.

    Args:
        connect: Lends a connection.
    """

    def __init__(self, connect: Callable[[], AbstractContextManager[psycopg.Connection]]) -> None:
        self._connect = connect

    def begin(
        self, uid: str, subject: str, referenced: Sequence[Reference], hidden: frozenset[str]
    ) -> bool:
        """Remember a request; False where its Transaction UID was used before."""
        with self._connect() as connection:
            connection.execute("delete from archive.commitment where asked_at < now() - %s", [KEPT])
            done = connection.execute(
                "insert into archive.commitment (transaction_uid, subject, referenced, hidden)"
                " values (%s, %s, %s, %s) on conflict do nothing",
                [uid, subject, Jsonb(list(referenced)), Jsonb(sorted(hidden))],
            )
            return done.rowcount == 1

    def is_free(self, uid: str) -> bool:
        """Whether no request has used this Transaction UID."""
        return self.find(uid) is None

    def finish(self, uid: str, result: DicomJson) -> None:
        """Keep the result of a request."""
        with self._connect() as connection:
            connection.execute(
                "update archive.commitment set result = %s where transaction_uid = %s",
                [Jsonb(result), uid],
            )

    def find(self, uid: str) -> CommitmentRequest | None:
        """The request with this Transaction UID."""
        with self._connect() as connection:
            row = connection.execute(
                "select subject, referenced, hidden, result from archive.commitment"
                " where transaction_uid = %s",
                [uid],
            ).fetchone()
        if row is None:
            return None
        subject, referenced, hidden, result = row
        pairs = tuple((sop_class, instance) for sop_class, instance in referenced)
        return CommitmentRequest(subject, pairs, frozenset(hidden), result)
