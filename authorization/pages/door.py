"""What every page shares: who may post a form, where to sign in, and the audit trail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import parse_qs, quote

from starlette.requests import Request

from access.audit import AuditEventKind, AuditRecord, AuditSpool
from access.audit.announcing import announced
from access.browser import Cookie
from access.caller import Caller
from access.http import address_of
from access.sessions import Session
from access.users import User
from authorization.clients import Clients
from authorization.forms import MAX_FIELDS, BadForm, posted
from authorization.requests import Requests

T = TypeVar("T")


@dataclass(frozen=True)
class Door:
    """The tables and the trail behind the pages."""

    requests: Requests
    clients: Clients
    cookie: Cookie
    audit: AuditSpool

    def is_ours(self, request: Request, session: Session, csrf: str) -> bool:
        """Whether a page of ours, made for this session, sent the form."""
        return session.owns(csrf) and self.cookie.is_same_origin(request)

    def record_denial(self, caller: Caller, why: str) -> None:
        """Write down that an app did not get what it asked for."""
        self._record(AuditEventKind.DENIED, caller, "minor", why)

    def record_launch(self, caller: Caller, user: User, client: str, patient: str | None) -> None:
        """Write down that an app is launched for a user, by themselves or by a backend."""
        detail = f"launch of {client} for {user.username}"
        self._record(AuditEventKind.TOKEN, replace(caller, patient=patient), "success", detail)

    def recorded(self, request: Request, user: User, what: str, change: Callable[[], T]) -> T:
        """Write down that somebody changes who may do what, then make the change. Blocking.

        What cannot be written down is not done; what is not done after all is written down, too.
        """
        caller = user.caller(client="browser", address=address_of(request))
        record = self._about(AuditEventKind.UPDATE, caller, "success", what)
        with announced(self.audit.record, record):
            return change()

    def _record(self, event: AuditEventKind, caller: Caller, outcome: str, detail: str) -> None:
        self.audit.record(self._about(event, caller, outcome, detail))

    @staticmethod
    def _about(event: AuditEventKind, caller: Caller, outcome: str, detail: str) -> AuditRecord:
        return AuditRecord(
            action="U" if event is AuditEventKind.UPDATE else "E",
            event=event,
            outcome="success" if outcome == "success" else "minor",
            caller=caller,
            at=datetime.now(UTC),
            patient=f"Patient/{caller.patient}" if caller.patient else None,
            detail=detail,
        )


def login_url(path: str, again: bool = False) -> str:
    """Where to sign in and come back to a page; `again` though somebody is signed in."""
    return f"/login?{'again=1&' if again else ''}next={quote(path, safe='')}"


async def fields_of(request: Request) -> dict[str, list[str]]:
    """The fields of a form. Raises BadForm."""
    try:
        text = (await posted(request)).decode()
        return parse_qs(text, keep_blank_values=True, max_num_fields=4 * MAX_FIELDS)
    except ValueError as error:
        raise BadForm("the form cannot be read") from error
