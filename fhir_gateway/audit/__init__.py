"""The audit trail on its way out of the spool: to the FHIR store, and by syslog where asked."""

from fhir_gateway.audit.event import to_audit_event
from fhir_gateway.audit.shipper import REJECTED, AuditShipper

__all__ = ["REJECTED", "AuditShipper", "to_audit_event"]
