"""The guard: who may. Callers, scopes, tokens, audit spool. Knows neither store."""

from access.audit import AuditEventKind, AuditRecord, AuditSpool, SpoolReader
from access.caller import Caller
from access.errors import AccessError, Forbidden, InvalidToken, Unauthorized, Undecided
from access.revocation import Revocations
from access.scopes import Grant, Interaction, Scopes
from access.tokens import TokenAuthority

__all__ = [
    "AccessError",
    "AuditEventKind",
    "AuditRecord",
    "AuditSpool",
    "Caller",
    "Forbidden",
    "Grant",
    "Interaction",
    "InvalidToken",
    "Revocations",
    "Scopes",
    "SpoolReader",
    "TokenAuthority",
    "Unauthorized",
    "Undecided",
]
