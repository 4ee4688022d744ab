"""What a caller who may see a part is told when the store says no.

The store's own words name resources that stand in the way, and tell one that is gone from one
that was never there. Whoever may not see them all is told neither.
"""

from __future__ import annotations

from typing import Any

from access import Caller
from fhir_gateway.outcome import Refusal

TOLD = {
    403: "the token does not grant this",
    404: "no such resource",
    409: "the resource is in use, or was changed meanwhile",
    410: "no such resource",
}


def keep_quiet(caller: Caller, resource_type: str, status: int) -> None:
    """Replace the store's refusal by one that tells nothing.

    Raises:
        Refusal: instead of a 403, 404, 409 or 410 of the store.
    """
    if status in TOLD and not caller.may_on_all(resource_type, "r"):
        raise _refusal(status)


def quiet_entries(caller: Caller, bundle: dict[str, Any]) -> dict[str, Any]:
    """The same for each entry of the answer to a batch."""
    if not caller.limited:
        return bundle
    return {**bundle, "entry": [_quiet(entry) for entry in bundle.get("entry", [])]}


def _quiet(entry: dict[str, Any]) -> dict[str, Any]:
    status = str(entry.get("response", {}).get("status", ""))[:3]
    if not status.isdigit() or int(status) not in TOLD:
        return entry
    refusal = _refusal(int(status))
    kept = {name: value for name, value in entry.items() if name not in ("resource", "response")}
    return kept | {"response": {"status": str(refusal.status), "outcome": refusal.outcome}}


def _refusal(status: int) -> Refusal:
    return Refusal(404 if status == 410 else status, TOLD[status])
