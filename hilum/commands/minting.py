"""Operator tokens, minted with the key of the data folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from access import AuditEventKind, AuditRecord, Caller
from access.scopes import Scopes
from hilum.commands import operating
from hilum.settings import Settings
from hilum.wiring import OPERATOR_CLIENT, token_authority

LONGEST_S = 30 * 24 * 3600
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}


def seconds_of(lifetime: str) -> int:
    """Seconds of a text such as 90s, 15m, 8h or 30d.

    Raises:
        ValueError: it is not of that form, or longer than 30 days.
    """
    found = re.fullmatch(r"(\d{1,7})([smhd])", lifetime.strip())
    if found is None:
        raise ValueError(f"--lifetime {lifetime}: write a number and s, m, h or d, such as 8h")
    seconds = int(found[1]) * UNITS_S[found[2]]
    if not 0 < seconds <= LONGEST_S:
        raise ValueError(f"--lifetime {lifetime}: between 1s and 30d")
    return seconds


def mint(
    settings: Settings,
    *,
    subject: str,
    scope: str,
    lifetime: str,
    studies: Sequence[str] | None = None,
    patient: str | None = None,
) -> str:
    """An access token; `patient` is the Patient's id, whom `patient/` scopes are about.

    Raises:
        ValueError: the lifetime or the scope would give nothing.
    """
    seconds = seconds_of(lifetime)
    grants = Scopes.parse(scope).grants
    if not grants:
        raise ValueError(f"--scope {scope!r} grants nothing; an example: 'system/*.rs'")
    if patient is None and any(grant.context == "patient" for grant in grants):
        raise ValueError("a patient/ scope needs --patient, the id of a Patient")
    authority = token_authority(settings)
    token = authority.mint(
        subject=subject,
        scope=scope,
        lifetime_s=seconds,
        client=OPERATOR_CLIENT,
        studies=studies,
        context=None if patient is None else {"patient": patient},
    )
    _record(settings, authority.verify(token))
    return token


def _record(settings: Settings, caller: Caller) -> None:
    """A token is power: who made which is in the audit trail."""
    record = AuditRecord(
        action="E",
        event=AuditEventKind.TOKEN,
        outcome="success",
        caller=caller,
        at=datetime.now(UTC),
        detail="token by the command line",
    )
    operating.write(settings, record)
