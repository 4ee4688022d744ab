"""What of a type a caller may export, from the scopes: all of it, or what some filters let pass.

Rows are also asked of the store with the caller's own grant; these filters make its pages
exact, and tell who may fetch a file afterwards.
"""

from __future__ import annotations

from typing import Any

from access import Caller, Scopes
from access.scopes import Filter, Grant

ALL: Filter = ()


def may_export(caller: Caller, resource_type: str) -> bool:
    """Whether the caller may export any of this type."""
    return bool(rules_of(caller, resource_type))


def rules_of(caller: Caller, resource_type: str) -> frozenset[Filter]:
    """Filters of which a resource must pass one; with the empty one among them, none is needed.

    An export needs read and search. Grants that are held to one patient give nothing here:
    an app with one patient's data reads it by search.
    """
    if caller.studies is not None:
        return frozenset()
    read, search = (_unbound(caller, resource_type, letter) for letter in ("r", "s"))
    found = frozenset(
        tuple(sorted(set((one.filter or ALL) + (other.filter or ALL))))
        for one in read
        for other in search
    )
    return frozenset({ALL}) if ALL in found else found


def _unbound(caller: Caller, resource_type: str, letter: Any) -> list[Grant]:
    return [g for g in caller.grants_for(resource_type, letter) if caller.patient_of(g) is None]


def still_covers(now: Caller, then: Caller, resource_type: str) -> bool:
    """Whether all that `then` could export of a type is granted to `now` as well."""
    present = rules_of(now, resource_type)
    return ALL in present or (bool(present) and rules_of(then, resource_type) <= present)


def caller_as_json(caller: Caller) -> dict[str, Any]:
    """Whom a job works for, for its row."""
    return {
        "subject": caller.subject,
        "kind": caller.kind,
        "scopes": str(caller.scopes),
        "client": caller.client,
        "patient": caller.patient,
        "fhir_user": caller.fhir_user,
        "session": caller.session,
    }


def caller_from_json(stored: dict[str, Any]) -> Caller:
    """Whom a job works for, from its row."""
    return Caller(**{**stored, "scopes": Scopes.parse(stored["scopes"])})
