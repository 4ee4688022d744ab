"""Work items: unified procedure steps with their states (PS3.4 annex CC), in PostgreSQL."""

# The texts of SQL are made of this package's own pieces and of checked tags; every value travels
# as a parameter.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import structlog

from archive import workitem_events as events
from archive import workitem_rows as rows
from archive.keys import DicomJson, Page
from archive.query import Query
from archive.values import Condition
from archive.workitem_document import (
    FINAL,
    STATE,
    STATES,
    check,
    created,
    element,
    missing_at_end,
    updated,
    with_cancellation,
)
from archive.workitem_errors import InvalidWorkitem, StateConflict, WrongTransaction
from archive.workitem_rows import Connect, Workitem
from archive.workitem_subscriptions import Subscriptions

NOT_CLAIMED = "The target URI did not reference a claimed Workitem."
INCONSISTENT = "The submitted request is inconsistent with the current state of the Workitem."
TRANSACTION_MISSING = "The Transaction UID is missing."
TRANSACTION_WRONG = "The Transaction UID is incorrect."
ALREADY_COMPLETED = "The UPS is already COMPLETED."
NO_PERFORMER = "The performer cannot be contacted."

Studies = frozenset[str] | None
log = structlog.get_logger(__name__)


class Workitems:
    """All work items of an archive; `studies` limits a call to what its caller may see."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self.subscriptions = Subscriptions(connect)

    def create(self, uid: str, document: DicomJson, studies: Studies = None) -> bool:
        """Add a work item in the state SCHEDULED; True if its data set had to be completed.

        Raises:
            InvalidWorkitem: the data set breaks table CC.2.5-3, or names other studies.
            WorkitemExists: the UID is taken.
        """
        kept, completed = created(uid, document)
        with rows.writing(self._connect) as connection:
            item = rows.insert(connection, uid, kept)
            if not rows.is_visible(item.studies, studies):
                raise InvalidWorkitem("the work item names no study, or one outside the token's")
            self.subscriptions.join(connection, item)
            rows.tell(connection, item, events.of_creation(uid, kept))
        log.info("workitem_created", workitem=uid)
        return completed

    def get(self, uid: str, studies: Studies = None) -> Workitem:
        """One work item. Raises WorkitemNotFound."""
        with self._connect() as connection:
            return rows.load(connection, uid, studies)

    def update(
        self, uid: str, changes: DicomJson, transaction: str | None, studies: Studies = None
    ) -> None:
        """Change attributes: of a SCHEDULED item without, of one IN PROGRESS with its lock.

        Raises:
            WorkitemError: the state, the Transaction UID or an attribute forbids it.
        """
        with rows.writing(self._connect) as connection:
            item = rows.load(connection, uid, studies)
            if item.state in FINAL:
                raise InvalidWorkitem("a finished work item cannot be changed", INCONSISTENT)
            if item.state == "SCHEDULED" and transaction is not None:
                raise StateConflict("the work item has not been claimed", NOT_CLAIMED)
            if item.state == "IN PROGRESS":
                _check_transaction(item, transaction)
            before = item.attributes
            item.attributes = updated(before, changes)
            rows.save(connection, item)
            if not rows.is_visible(item.studies, studies):
                raise InvalidWorkitem("the change names a study outside the token's")
            rows.tell(connection, item, events.of_update(uid, before, item.attributes))

    def change_state(
        self,
        uid: str,
        state: str,
        transaction: str | None,
        studies: Studies = None,
        *,
        own: bool = False,
    ) -> bool:
        """Claim, complete or cancel; False if a final state was reached before already.

        Args:
            own: this server itself is the performer.

        Raises:
            WorkitemError: the table of transitions (CC.1.1-2) forbids it.
        """
        if state not in STATES[1:]:
            raise InvalidWorkitem("a work item becomes IN PROGRESS, COMPLETED or CANCELED")
        with rows.writing(self._connect) as connection:
            item = rows.load(connection, uid, studies)
            if item.state == state and state in FINAL:
                _check_transaction(item, transaction)
                return False
            _check_transition(item, state, transaction)
            item.state = state
            if state == "IN PROGRESS":
                item.transaction, item.own = transaction, own
            self._save_state(connection, item)
        log.info("workitem_state", workitem=uid, state=state)
        return True

    def request_cancel(
        self, uid: str, request: DicomJson, requester: str, studies: Studies = None
    ) -> bool:
        """Cancel a SCHEDULED item, or pass the wish on to its performer.

        Returns False if the item is CANCELED already.

        Raises:
            StateConflict: it is COMPLETED, or nobody would hear of the wish.
        """
        check(request)
        with rows.writing(self._connect) as connection:
            item = rows.load(connection, uid, studies)
            if item.state == "CANCELED":
                return False
            if item.state == "COMPLETED":
                raise StateConflict("the work item is completed", ALREADY_COMPLETED)
            heard = item.own or self.subscriptions.are_there(connection, uid)
            if item.state == "IN PROGRESS" and not heard:
                raise StateConflict("nobody listens to this work item", NO_PERFORMER)
            item.cancel_request = request
            rows.tell(connection, item, [events.cancel_requested(uid, request, requester)])
            if item.state == "IN PROGRESS":
                rows.save(connection, item)
                return True
            for state in ("IN PROGRESS", "CANCELED"):
                item.state = state
                if state == "CANCELED":
                    item.attributes = with_cancellation(item.attributes, request)
                self._save_state(connection, item)
        log.info("workitem_state", workitem=uid, state="CANCELED")
        return True

    def search(self, query: Query) -> Page:
        """Work items that match, by scheduled start. Raises QueryError."""
        wanted = [rows.matching(query.match, query.fuzzy)]
        if query.studies is not None:
            allowed = (sorted(query.studies),)
            wanted.append(Condition("studies <> '{}' and studies <@ %s::text[]", allowed))
        where = " and ".join(f"({one.sql})" for one in wanted)
        parameters: list[Any] = [p for one in wanted for p in one.parameters]
        limit = None if query.limit is None else max(0, query.limit) + 1
        with self._connect() as connection:
            found = connection.execute(
                f"select attributes from archive.workitem workitem where {where}"
                " order by start_at, uid limit %s offset %s",
                [*parameters, limit, query.offset],
            ).fetchall()
        items: list[DicomJson] = [row[0] for row in found[: query.limit]]
        return Page(items, len(found) > len(items), None)

    def scheduled(self, scheme: str, limit: int = 200) -> list[Workitem]:
        """SCHEDULED items whose workitem code is of a coding scheme, the earliest first."""
        with self._connect() as connection:
            found = connection.execute(
                "select uid, state, attributes, studies, version from archive.workitem"
                " where state = 'SCHEDULED' and exists (select 1 from unnest(codes) code"
                " where starts_with(code, %s)) order by start_at, uid limit %s",
                [f"{scheme}|", limit],
            ).fetchall()
        return [Workitem(*row) for row in found]

    def several(self, uids: Iterable[str]) -> dict[str, Workitem]:
        """Those of the work items that exist, by UID."""
        with self._connect() as connection:
            found = connection.execute(
                "select uid, state, attributes, studies, version, own, cancel_request,"
                " transaction_uid from archive.workitem where uid = any(%s)",
                [sorted(set(uids))],
            ).fetchall()
        return {row[0]: Workitem(*row) for row in found}

    def forget_finished(self, age: timedelta) -> int:
        """Delete items that ended longer ago than this and carry no deletion lock."""
        with rows.writing(self._connect) as connection:
            done = connection.execute(
                "delete from archive.workitem item where state in ('COMPLETED', 'CANCELED')"
                " and changed_at < now() - %s and not exists (select 1 from"
                " archive.workitem_subscription s where s.uid = item.uid and s.locked)",
                [age],
            )
            return done.rowcount

    def _save_state(self, connection: Any, item: Workitem) -> None:
        rows.save(connection, item)
        rows.tell(connection, item, [events.state_report(item.uid, item.attributes)])


def _check_transaction(item: Workitem, transaction: str | None) -> None:
    if transaction is None:
        raise WrongTransaction("the Transaction UID is missing", TRANSACTION_MISSING)
    if transaction != item.transaction:
        raise WrongTransaction("the Transaction UID is not the right one", TRANSACTION_WRONG)


def _check_transition(item: Workitem, state: str, transaction: str | None) -> None:
    """Table CC.1.1-2 of PS3.4."""
    if transaction is None:
        raise WrongTransaction("the Transaction UID is missing", TRANSACTION_MISSING)
    if item.state == "SCHEDULED":
        if state != "IN PROGRESS":
            raise StateConflict("the work item is not IN PROGRESS yet", INCONSISTENT)
        return
    _check_transaction(item, transaction)
    if item.state in FINAL:
        raise StateConflict("the work item is finished", INCONSISTENT)
    if state == "IN PROGRESS":
        raise StateConflict("the work item is IN PROGRESS already", INCONSISTENT)
    ended = item.attributes | {STATE: element(STATE, state)}
    if missing := missing_at_end(ended, state):
        raise StateConflict(f"{state} needs values of {', '.join(missing)}", INCONSISTENT)
