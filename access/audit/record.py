"""One audit record, and how it stands in the spool: a line of JSON that names the one before."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any, Literal
from uuid import uuid4

import orjson

from access.caller import Caller
from access.scopes import Scopes

MAX_TEXT_CHARS = 2_000
MAX_PATIENTS = 100
TEXTS = ("study", "patient", "resource", "query", "detail")
# What neither a FHIR string nor XML may hold: a stranger can put it into a path or an AE title, and
# the store and the syslog receiver would refuse the record.
_NO_TEXT = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Action = Literal["C", "R", "U", "D", "E"]
Outcome = Literal["success", "minor", "serious", "major"]


class AuditEventKind(StrEnum):
    """What happened, in the words of the doors; the last three are about the trail itself."""

    STORE = "store"
    QUERY = "query"
    RETRIEVE = "retrieve"
    UPDATE = "update"
    DELETE = "delete"
    FHIR_READ = "fhir-read"
    FHIR_SEARCH = "fhir-search"
    FHIR_WRITE = "fhir-write"
    EXPORT = "export"
    LOGIN = "login"
    LOGOUT = "logout"
    TOKEN = "token"  # noqa: S105  (a kind of event)
    REVOKE = "revoke"
    NOTIFY = "notify"
    DENIED = "denied"
    START = "start"
    STOP = "stop"
    REPAIR = "repair"
    RETIRE = "retire"
    ANCHOR = "anchor"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One thing that a caller did or was refused. Identifiers only, never names or content.

    Attributes:
        action: AuditEvent.action (create, read, update, delete, execute).
        study: Study Instance UID, where one is concerned.
        patient: FHIR reference such as `Patient/1`, where known.
        patients: further Patients whose data was handed out, such as by a search.
        resource: FHIR reference, or the path of a DICOM resource.
        query: what was asked, with values that could name a person already taken out.
        detail: reason of a denial or failure, without patient data.
    """

    action: Action
    event: AuditEventKind
    outcome: Outcome
    caller: Caller | None
    at: datetime
    study: str | None = None
    patient: str | None = None
    patients: tuple[str, ...] = ()
    resource: str | None = None
    query: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class SpooledRecord:
    """One line of the spool.

    Attributes:
        id: globally unique; also the id of the AuditEvent.
        source: the door it came from.
        host: the machine it was written on; empty in spools of earlier versions.
        sequence: place in its chain, from 1; 0 in spools of earlier versions.
    """

    id: str
    source: str
    record: AuditRecord
    host: str = ""
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Head:
    """The last record of a chain: its place and the SHA-256 of its line."""

    sequence: int
    digest: str


START = Head(0, "0" * 64)


def digest_of(line: bytes) -> str:
    """SHA-256 of a line of the spool, its line feed left out; hexadecimal."""
    return sha256(line.rstrip(b"\n")).hexdigest()


def encode(record: AuditRecord, source: str, host: str, after: Head) -> bytes:
    """The line of a record that follows `after` in its chain."""
    texts = {name: _text(getattr(record, name)) for name in TEXTS}
    line = {
        "sequence": after.sequence + 1,
        "previous": after.digest,
        "id": str(uuid4()),
        "source": source,
        "host": host,
        "action": record.action,
        "event": record.event.value,
        "outcome": record.outcome,
        "at": record.at.isoformat(),
        "caller": record.caller and _caller_out(record.caller),
        "patients": [_text(one) for one in record.patients[:MAX_PATIENTS]],
        **texts,
    }
    return orjson.dumps({k: v for k, v in line.items() if v not in (None, [])}) + b"\n"


def decode(line: bytes) -> SpooledRecord:
    """The record in a line. Raises ValueError when it is none."""
    try:
        found = orjson.loads(line)
        who = found.get("caller")
        record = AuditRecord(
            action=found["action"],
            event=AuditEventKind(found["event"]),
            outcome=found["outcome"],
            caller=_caller_in(who) if who else None,
            at=datetime.fromisoformat(found["at"]),
            patients=tuple(found.get("patients", ())),
            **{name: found.get(name) for name in TEXTS},
        )
        sequence, host = int(found.get("sequence", 0)), str(found.get("host", ""))
        return SpooledRecord(str(found["id"]), str(found["source"]), record, host, sequence)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("not an audit record") from error


def place_of(line: bytes) -> tuple[int, str]:
    """Sequence number and digest of the one before, as a line states them.

    Raises:
        ValueError: it states none.
    """
    try:
        found = orjson.loads(line)
        return int(found["sequence"]), str(found["previous"])
    except (KeyError, TypeError) as error:
        raise ValueError("not a record of a chain") from error


def _caller_out(caller: Caller) -> dict[str, Any]:
    return {
        "subject": _text(caller.subject) or "",
        "kind": caller.kind,
        "client": _text(caller.client),
        "address": _text(caller.address),
        "fhir_user": _text(caller.fhir_user),
        "token": _text(caller.token_id),
        "scope": _text(str(caller.scopes)) if caller.token_id else None,
    }


def _text(text: str | None) -> str | None:
    """A text as it can be kept everywhere; None for none."""
    return _NO_TEXT.sub("\ufffd", text[:MAX_TEXT_CHARS]) if text else None


def _caller_in(found: Mapping[str, Any]) -> Caller:
    return Caller(
        subject=found["subject"],
        kind=found["kind"],
        scopes=Scopes.parse(found.get("scope") or ""),
        client=found.get("client"),
        address=found.get("address"),
        fhir_user=found.get("fhir_user"),
        token_id=found.get("token"),
    )
