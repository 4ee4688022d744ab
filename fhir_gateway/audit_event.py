"""An audit record as a FHIR AuditEvent in the shape of IHE Basic Audit Log Patterns (BALP)."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from access import AuditEventKind, AuditRecord
from access.audit import SpooledRecord
from records import codes, identifiers
from records.codes import Code

OUTCOMES = {"success": "0", "minor": "4", "serious": "8", "major": "12"}
TYPES = {
    AuditEventKind.STORE: codes.AUDIT_DICOM_STORE,
    AuditEventKind.QUERY: codes.AUDIT_DICOM_QUERY,
    AuditEventKind.RETRIEVE: codes.AUDIT_ACCESS,
    # PS3.15 A.5.3.5: one event for reading, changing and deleting; the action tells which.
    AuditEventKind.UPDATE: codes.AUDIT_ACCESS,
    AuditEventKind.DELETE: codes.AUDIT_ACCESS,
    AuditEventKind.FHIR_READ: codes.AUDIT_REST,
    AuditEventKind.FHIR_SEARCH: codes.AUDIT_REST,
    AuditEventKind.FHIR_WRITE: codes.AUDIT_REST,
    AuditEventKind.EXPORT: codes.AUDIT_EXPORT,
    AuditEventKind.LOGIN: codes.AUDIT_LOGIN,
    AuditEventKind.LOGOUT: codes.AUDIT_LOGIN,
    AuditEventKind.TOKEN: codes.AUDIT_LOGIN,
    AuditEventKind.REVOKE: codes.AUDIT_LOGIN,
    AuditEventKind.NOTIFY: codes.AUDIT_EXPORT,
    AuditEventKind.DENIED: codes.AUDIT_ALERT,
    AuditEventKind.START: codes.AUDIT_APPLICATION,
    AuditEventKind.STOP: codes.AUDIT_APPLICATION,
    AuditEventKind.REPAIR: codes.AUDIT_APPLICATION,
    AuditEventKind.RETIRE: codes.AUDIT_APPLICATION,
    AuditEventKind.ANCHOR: codes.AUDIT_APPLICATION,
}
WRITE_SUBTYPES = {"C": codes.REST_CREATE, "U": codes.REST_UPDATE, "D": codes.REST_DELETE}


def to_audit_event(spooled: SpooledRecord, *, literal: bool = True) -> dict[str, Any]:
    """The AuditEvent of one record; its id is the record's, so writing it twice is harmless.

    Args:
        literal: refer to FHIR resources by literal reference. The store refuses one to a
            resource that is not there (any more); then a logical one is written.
    """
    record = spooled.record
    event: dict[str, Any] = {
        "resourceType": "AuditEvent",
        "id": spooled.id,
        "type": TYPES[record.event].coding,
        "action": record.action,
        "recorded": record.at.isoformat(timespec="milliseconds"),
        "outcome": OUTCOMES[record.outcome],
        "agent": _agents(spooled),
        "source": {
            "observer": {"display": f"Hilum {spooled.source}"},
            "type": [codes.APPLICATION_SERVER.coding],
        },
    }
    if subtype := _subtype(record):
        event["subtype"] = [subtype.coding]
    if record.detail:
        event["outcomeDesc"] = record.detail
    literal = literal and record.outcome == "success" and record.action != "D"
    if entities := _entities(record, literal):
        event["entity"] = entities
    return event


def _subtype(record: AuditRecord) -> Code | None:
    if record.event is AuditEventKind.FHIR_READ:
        return codes.REST_READ
    if record.event is AuditEventKind.FHIR_SEARCH:
        return codes.REST_SEARCH
    if record.event is AuditEventKind.FHIR_WRITE:
        return WRITE_SUBTYPES.get(record.action)
    return None


def _agents(spooled: SpooledRecord) -> list[dict[str, Any]]:
    caller = spooled.record.caller
    server = {
        "type": codes.concept(codes.DESTINATION_ROLE),
        "who": {"display": f"Hilum {spooled.source}"},
        "requestor": False,
    }
    if caller is None:
        return [server | {"requestor": True}]
    kind = codes.INFORMATION_RECIPIENT if caller.kind == "user" else codes.SOURCE_ROLE
    requester: dict[str, Any] = {
        "type": codes.concept(kind),
        "who": {"display": caller.subject},
        "requestor": True,
    }
    if caller.address:
        requester["network"] = {"address": caller.address, "type": "2"}
    agents = [requester, server]
    if caller.client:
        agents.append(
            {
                "type": codes.concept(codes.APPLICATION),
                "who": {"display": caller.client},
                "requestor": False,
            }
        )
    return agents


def _entities(record: AuditRecord, literal: bool) -> list[dict[str, Any]]:
    found = []
    if record.patient:
        found.append(_entity(record.patient, codes.ENTITY_PERSON, codes.ROLE_PATIENT, literal))
    if record.study:
        what = {"type": "ImagingStudy", "identifier": identifiers.study_identifier(record.study)}
        found.append(_object(what))
    if record.resource and record.resource != record.patient:
        found.append(
            _entity(
                record.resource, codes.ENTITY_SYSTEM_OBJECT, codes.ROLE_DOMAIN_RESOURCE, literal
            )
        )
    if record.query:
        found.append(
            {
                "type": codes.ENTITY_SYSTEM_OBJECT.coding,
                "role": codes.ROLE_QUERY.coding,
                "query": b64encode(record.query.encode()).decode(),
            }
        )
    return found


def _entity(reference: str, kind: Code, role: Code, literal: bool) -> dict[str, Any]:
    """A FHIR resource by reference, or anything else by its path."""
    resource_type, _, identity = reference.partition("/")
    is_fhir = resource_type[:1].isupper() and bool(identity) and "/" not in identity
    if not is_fhir:
        return {"type": kind.coding, "role": role.coding, "what": {"display": reference}}
    what: dict[str, Any] = {"reference": reference}
    if not literal:
        what = {
            "type": resource_type,
            "identifier": {"system": identifiers.LOCAL_RESOURCE, "value": reference},
        }
    return {"type": kind.coding, "role": role.coding, "what": what}


def _object(what: dict[str, Any]) -> dict[str, Any]:
    return {
        "what": what,
        "type": codes.ENTITY_SYSTEM_OBJECT.coding,
        "role": codes.ROLE_DOMAIN_RESOURCE.coding,
    }
