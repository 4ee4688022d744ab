"""Storage commitments in the database: what peers asked of us, and what we asked of peers."""

# The texts of SQL are made of this module's own pieces; every value travels as a parameter.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, NamedTuple

from psycopg.types.json import Jsonb

from archive.connection import connected
from database import migrate
from dimse.peers import MIGRATIONS, SCHEMA

RequestState = Literal["asked", "answered", "refused"]


class Reference(NamedTuple):
    """One instance that is to be committed to."""

    sop_class: str
    instance: str


class FailedReference(NamedTuple):
    """One instance that is not, with its Failure Reason (0008,1197)."""

    sop_class: str
    instance: str
    reason: int


@dataclass(frozen=True, slots=True)
class Commitment:
    """One transaction that a peer asked for.

    Attributes:
        peer: Its name in the peer table when it asked; None: it was not in there.
        failures: None until every instance has been verified.
    """

    id: int
    transaction_uid: str
    calling_ae: str
    address: str
    peer: str | None
    referenced: tuple[Reference, ...]
    failures: tuple[FailedReference, ...] | None
    attempts: int


@dataclass(frozen=True, slots=True)
class CommitmentResult:
    """What became of a transaction that we asked for.

    Attributes:
        committed: SOP Instance UIDs that the peer vouches for.
        failures: SOP Instance UIDs that it does not, with its Failure Reason.
    """

    transaction_uid: str
    state: RequestState
    committed: tuple[str, ...]
    failures: tuple[tuple[str, int], ...]


_COLUMNS = "id, transaction_uid, calling_ae, address, peer, referenced, failures, attempts"


class CommitmentTable:
    """Both tables; safe to share between threads and processes."""

    def __init__(self, dsn: str) -> None:
        migrate(dsn, SCHEMA, MIGRATIONS)
        self._dsn = dsn

    def add(
        self,
        transaction_uid: str,
        calling: tuple[str, str, str | None],
        referenced: Sequence[Reference],
        lease_s: float,
    ) -> Commitment | None:
        """Keep a request durably, for the caller to work on within `lease_s` seconds.

        The same request once more is reported once more: its sender may not have had the answer.

        Args:
            calling: AE title, address, and the name in the peer table.

        Returns:
            None if the transaction UID is in use for other instances.
        """
        rows = Jsonb([list(one) for one in referenced])
        with connected(self._dsn) as connection:
            row = connection.execute(
                "insert into dimse.commitment"
                " (transaction_uid, calling_ae, address, peer, referenced, due_at)"
                " values (%s, %s, %s, %s, %s, now() + %s)"
                " on conflict (calling_ae, transaction_uid) do update set state = 'open',"
                " failures = null, attempts = 0, due_at = excluded.due_at, ended_at = null"
                " where commitment.referenced = excluded.referenced"
                f" returning {_COLUMNS}".encode(),
                [transaction_uid, *calling, rows, timedelta(seconds=lease_s)],
            ).fetchone()
        return _commitment(row) if row else None

    def take(self, count: int, lease_s: float) -> list[Commitment]:
        """Transactions that are due, for the caller to work on within `lease_s` seconds."""
        with connected(self._dsn) as connection:
            rows = connection.execute(
                "update dimse.commitment set due_at = now() + %s where id in"
                " (select id from dimse.commitment where state = 'open' and due_at <= now()"
                f" order by due_at limit %s for update skip locked) returning {_COLUMNS}".encode(),
                [timedelta(seconds=lease_s), count],
            ).fetchall()
        return [_commitment(row) for row in rows]

    def hold(self, number: int, lease_s: float) -> None:
        """Say that work on a transaction goes on."""
        self._update(number, "due_at = now() + %s", timedelta(seconds=lease_s))

    def verified(self, number: int, failures: Sequence[FailedReference]) -> None:
        """Keep what the verification found."""
        self._update(number, "failures = %s", Jsonb([list(one) for one in failures]))

    def reported(self, number: int) -> None:
        """The peer has the report."""
        self._update(number, "state = 'reported', note = '', ended_at = now()")

    def later(self, number: int, delay_s: float, note: str) -> None:
        """The report did not arrive; try again."""
        self._update(
            number,
            "attempts = attempts + 1, due_at = now() + %s, note = %s",
            timedelta(seconds=delay_s),
            note[:500],
        )

    def give_up(self, number: int, note: str) -> None:
        """Try no more."""
        self._update(number, "state = 'given up', note = %s, ended_at = now()", note[:500])

    def ask(
        self, transaction_uid: str, peer: tuple[str, str], referenced: Sequence[Reference]
    ) -> None:
        """Keep what we are about to ask of a peer (its name and AE title)."""
        with connected(self._dsn) as connection:
            connection.execute(
                "insert into dimse.commitment_request"
                " (transaction_uid, peer, ae_title, referenced) values (%s, %s, %s, %s)",
                [transaction_uid, *peer, Jsonb([list(one) for one in referenced])],
            )

    def refused(self, transaction_uid: str) -> None:
        """The peer does not commit to anything."""
        with connected(self._dsn) as connection:
            connection.execute(
                "update dimse.commitment_request set state = 'refused', answered_at = now()"
                " where transaction_uid = %s and state = 'asked'",
                [transaction_uid],
            )

    def answer(
        self,
        transaction_uid: str,
        ae_title: str,
        committed: Sequence[str],
        failures: Sequence[tuple[str, int]],
    ) -> bool:
        """Keep a peer's report; only what was asked of that peer counts. False: nothing was."""
        with connected(self._dsn) as connection, connection.transaction():
            row = connection.execute(
                "select referenced from dimse.commitment_request"
                " where transaction_uid = %s and ae_title = %s for update",
                [transaction_uid, ae_title],
            ).fetchone()
            if row is None:
                return False
            asked = {instance for _, instance in row[0]}
            connection.execute(
                "update dimse.commitment_request set state = 'answered', answered_at = now(),"
                " committed = %s, failures = %s where transaction_uid = %s",
                [
                    Jsonb([uid for uid in committed if uid in asked]),
                    Jsonb([[uid, reason] for uid, reason in failures if uid in asked]),
                    transaction_uid,
                ],
            )
        return True

    def result(self, transaction_uid: str) -> CommitmentResult | None:
        """What is known of a transaction that we asked for."""
        with connected(self._dsn) as connection:
            row = connection.execute(
                "select state, committed, failures from dimse.commitment_request"
                " where transaction_uid = %s",
                [transaction_uid],
            ).fetchone()
        if row is None:
            return None
        failures = tuple((str(uid), int(reason)) for uid, reason in row[2])
        return CommitmentResult(transaction_uid, row[0], tuple(row[1]), failures)

    def _update(self, number: int, assignments: str, *values: Any) -> None:
        with connected(self._dsn) as connection:
            connection.execute(
                f"update dimse.commitment set {assignments} where id = %s".encode(),
                [*values, number],
            )


def _commitment(row: tuple[Any, ...]) -> Commitment:
    number, transaction_uid, calling_ae, address, peer, referenced, failures, attempts = row
    return Commitment(
        number,
        transaction_uid,
        calling_ae,
        address,
        peer,
        tuple(Reference(*one) for one in referenced),
        None if failures is None else tuple(FailedReference(*one) for one in failures),
        attempts,
    )
