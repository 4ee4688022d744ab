"""Rows of work items and of what their subscribers wait for, on an open transaction."""

# The texts of SQL are made of this package's own pieces and of checked tags; every value travels
# as a parameter.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from archive.errors import QueryError
from archive.header import folded_names
from archive.keys import DicomJson
from archive.match import document_condition
from archive.values import Condition, joined, uid_list
from archive.workitem_document import (
    PATIENT_ID,
    SOP_UID,
    START,
    STATE,
    STUDY_UID,
    TRANSACTION,
    codes_of,
    element,
    first,
    studies_of,
)
from archive.workitem_errors import WorkitemExists, WorkitemNotFound

Connect = Callable[[], AbstractContextManager[psycopg.Connection]]
KEPT_EVENTS = 10_000  # for each subscriber; older ones are lost to one who never comes
KEPT_DAYS = 30
_COLUMN_OF = {STATE: "workitem.state", PATIENT_ID: "workitem.patient_id"}
_LOCK = "archive:workitems"
_COLUMNS = "uid, state, attributes, studies, version, own, cancel_request, transaction_uid"


@dataclass(slots=True)
class Workitem:
    """One work item as the table has it.

    Attributes:
        attributes: the whole data set; never with the Transaction UID.
        studies: every study that it names.
        own: this server performs it.
        cancel_request: what the newest request to cancel said.
        transaction: the performer's lock; not for anybody's eyes.
    """

    uid: str
    state: str
    attributes: DicomJson
    studies: list[str]
    version: int
    own: bool = False
    cancel_request: DicomJson | None = None
    transaction: str | None = field(default=None, repr=False)


@contextmanager
def writing(connect: Connect) -> Iterator[psycopg.Connection]:
    """One writer at a time: the order of the events is then the order of the commits."""
    with connect() as connection, connection.transaction():
        connection.execute("select pg_advisory_xact_lock(hashtext(%s))", [_LOCK])
        yield connection


def load(
    connection: psycopg.Connection, uid: str, studies: frozenset[str] | None = None
) -> Workitem:
    """One work item. Raises WorkitemNotFound, also for one of other studies."""
    row = connection.execute(
        f"select {_COLUMNS} from archive.workitem where uid = %s", [uid]
    ).fetchone()
    item = Workitem(*row) if row else None
    if item is None or not is_visible(item.studies, studies):
        raise WorkitemNotFound(f"there is no work item {uid}")
    return item


def is_visible(named: Iterable[str], studies: frozenset[str] | None) -> bool:
    """Whether a caller limited to these studies may see an item that names those."""
    found = set(named)
    return studies is None or (bool(found) and found <= studies)


def insert(connection: psycopg.Connection, uid: str, document: DicomJson) -> Workitem:
    """A new row. Raises WorkitemExists."""
    item = Workitem(uid, "SCHEDULED", document, studies_of(document), 1)
    cursor = connection.execute(
        "insert into archive.workitem (uid, state, attributes, names, studies, patient_id, codes,"
        " start_at) values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing",
        [uid, item.state, *_derived(item)],
    )
    if cursor.rowcount == 0:
        raise WorkitemExists(f"{uid} exists already", "The Target Workitem already exists.")
    return item


def save(connection: psycopg.Connection, item: Workitem) -> None:
    """Write the item back, one version later."""
    item.attributes = item.attributes | {STATE: element(STATE, item.state)}
    item.studies = studies_of(item.attributes)
    item.version += 1
    request = None if item.cancel_request is None else Jsonb(item.cancel_request)
    connection.execute(
        "update archive.workitem set state = %s, attributes = %s, names = %s, studies = %s,"
        " patient_id = %s, codes = %s, start_at = %s, version = %s, own = %s,"
        " cancel_request = %s, transaction_uid = %s, changed_at = now() where uid = %s",
        [
            item.state,
            *_derived(item),
            item.version,
            item.own,
            request,
            item.transaction,
            item.uid,
        ],
    )


def _derived(item: Workitem) -> list[Any]:
    document = item.attributes
    return [
        Jsonb(document),
        Jsonb(folded_names([document])),
        item.studies,
        str(first(document, PATIENT_ID) or ""),
        codes_of(document),
        str(first(document, START) or ""),
    ]


def tell(connection: psycopg.Connection, item: Workitem, messages: Iterable[DicomJson]) -> None:
    """Queue events for each AE that is subscribed to the item."""
    for message in messages:
        connection.execute(
            "insert into archive.workitem_event (ae, uid, studies, message)"
            " select ae, uid, %s, %s from archive.workitem_subscription where uid = %s"
            " order by ae",
            [item.studies, Jsonb(message), item.uid],
        )
    _forget_old(connection, "select ae from archive.workitem_subscription where uid = %s", item.uid)


def tell_one(
    connection: psycopg.Connection, ae: str, item: Workitem, messages: Iterable[DicomJson]
) -> None:
    """Queue events for one AE."""
    for message in messages:
        connection.execute(
            "insert into archive.workitem_event (ae, uid, studies, message)"
            " values (%s, %s, %s, %s)",
            [ae, item.uid, item.studies, Jsonb(message)],
        )
    _forget_old(connection, "select %s", ae)


def _forget_old(connection: psycopg.Connection, subscribers: str, parameter: str) -> None:
    """Nobody's queue grows for ever."""
    connection.execute(
        "delete from archive.workitem_event where at < now() - make_interval(days => %s)",
        [KEPT_DAYS],
    )
    connection.execute(
        f"delete from archive.workitem_event old using (select s.ae, (select e.sequence"
        f" from archive.workitem_event e where e.ae = s.ae order by e.sequence desc"
        f" offset %s limit 1) sequence from ({subscribers}) s (ae)) full_up"
        f" where old.ae = full_up.ae and old.sequence <= full_up.sequence",
        [KEPT_EVENTS, parameter],
    )


def matching(keys: Iterable[tuple[str, str]], fuzzy: bool) -> Condition:
    """A condition on rows of archive.workitem; keys of a sequence are met by one of its items.

    Raises:
        QueryError: an attribute or a value that cannot be matched.
    """
    wanted = tuple((path, value) for path, value in keys if set(value) - {"*"})
    if any(TRANSACTION in path.split(".") for path, _ in wanted):
        raise QueryError("the Transaction UID is a secret")
    whole = document_condition("workitem.attributes", "workitem.names", wanted, fuzzy)
    narrowed = (_narrowing(path, value) for path, value in wanted)
    return joined([*(one for one in narrowed if one is not None), whole], " and ")


def _narrowing(path: str, value: str) -> Condition | None:
    """The same question to a column that has an index, where there is one."""
    plain = not set(value) & set('*?"')
    if path == SOP_UID and plain:
        return Condition("workitem.uid = any(%s)", (uid_list(value),))
    if path.rpartition(".")[2] == STUDY_UID and plain:
        return Condition("workitem.studies && %s", (uid_list(value),))
    column = _COLUMN_OF.get(path)
    return Condition(f"{column} = %s", (value.strip(" "),)) if column and plain else None
