"""The durable audit trail: who did what, chained by digests, kept until the FHIR store has it."""

from access.audit.reader import Batch, SpoolReader
from access.audit.record import AuditEventKind, AuditRecord, SpooledRecord
from access.audit.spool import AuditSpool, AuditUnavailable

__all__ = [
    "AuditEventKind",
    "AuditRecord",
    "AuditSpool",
    "AuditUnavailable",
    "Batch",
    "SpoolReader",
    "SpooledRecord",
]
