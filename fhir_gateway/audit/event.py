"""An audit record as a FHIR AuditEvent in the shape of IHE Basic Audit Log Patterns (BALP 1.1).

The agents follow `OAUTHaccessTokenUse.Comprehensive`: the application, and the person for whom it
acts. A token is told by its `jti`, never by itself.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from access import AuditEventKind, AuditRecord, Caller
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
    AuditEventKind.REPAIR: codes.AUDIT_LOG_USED,
    AuditEventKind.RETIRE: codes.AUDIT_LOG_USED,
    AuditEventKind.ANCHOR: codes.AUDIT_LOG_USED,
}
SUBTYPES = {
    AuditEventKind.FHIR_SEARCH: codes.REST_SEARCH,
    AuditEventKind.LOGIN: codes.LOGGED_IN,
    AuditEventKind.LOGOUT: codes.LOGGED_OUT,
    AuditEventKind.TOKEN: codes.TOKEN_ISSUED,
    AuditEventKind.REVOKE: codes.LOGGED_OUT,
    AuditEventKind.DENIED: codes.RESTRICTED_USE,
    AuditEventKind.START: codes.APPLICATION_STARTED,
    AuditEventKind.STOP: codes.APPLICATION_STOPPED,
}
WRITE_SUBTYPES = {"C": codes.REST_CREATE, "U": codes.REST_UPDATE, "D": codes.REST_DELETE}
# Events in which data goes from us to the client: it is the destination, we are the source.
GIVING = frozenset({AuditEventKind.FHIR_READ, AuditEventKind.RETRIEVE, AuditEventKind.EXPORT})
JTI = "urn:ietf:params:oauth:jti:"
HOST_NAME, IP_ADDRESS = "1", "2"  # AuditEvent.agent.network.type


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
        path = record.resource or ""
        return codes.REST_VREAD if "/_history/" in path else codes.REST_READ
    if record.event is AuditEventKind.FHIR_WRITE:
        return WRITE_SUBTYPES.get(record.action)
    return SUBTYPES.get(record.event)


def _agents(spooled: SpooledRecord) -> list[dict[str, Any]]:
    caller = spooled.record.caller
    ours, theirs = _roles(spooled.record)
    server = {
        "type": codes.concept(ours),
        "who": {"display": f"Hilum {spooled.source}"},
        "requestor": caller is None,
        "network": {"address": spooled.host or spooled.source, "type": HOST_NAME},
    }
    if caller is None:
        return [server]
    person = caller.kind != "system"
    client: dict[str, Any] = {
        "type": codes.concept(theirs),
        "who": _who(caller.client or caller.subject, identifiers.CLIENT),
        "requestor": not person and caller.client is None,
    }
    if caller.address:
        client["network"] = {"address": caller.address, "type": IP_ADDRESS}
    agents = [client, server]
    if theirs is codes.APPLICATION:  # no second one of this type: BALP allows one
        agents[0] = _application(caller, person)
    elif caller.client:
        agents.append(_application(caller, person))
    if person:
        agents.append(_person(caller))
    return agents


def _roles(record: AuditRecord) -> tuple[Code, Code]:
    """What we are and what the client is in an event."""
    if record.event is AuditEventKind.FHIR_WRITE and record.action == "D":
        return codes.CUSTODIAN, codes.APPLICATION
    if record.event in GIVING:
        return codes.SOURCE_ROLE, codes.DESTINATION_ROLE
    return codes.DESTINATION_ROLE, codes.SOURCE_ROLE


def _application(caller: Caller, person: bool) -> dict[str, Any]:
    """The application of the token (BALP oClient)."""
    agent: dict[str, Any] = {
        "type": codes.concept(codes.APPLICATION),
        "who": _who(caller.client or caller.subject, identifiers.CLIENT),
        "requestor": not person,
    }
    if caller.address:
        agent["network"] = {"address": caller.address, "type": IP_ADDRESS}
    if caller.token_id and not person:
        agent["policy"] = [f"{JTI}{caller.token_id}"]
    return agent


def _person(caller: Caller) -> dict[str, Any]:
    """The person for whom the application acts (BALP oUser)."""
    agent: dict[str, Any] = {
        "type": codes.concept(codes.INFORMATION_RECIPIENT),
        "who": _who(caller.subject, identifiers.USER),
        "name": caller.subject,
        "requestor": True,
    }
    if caller.fhir_user:
        agent["altId"] = caller.fhir_user
    if caller.token_id:
        agent["policy"] = [f"{JTI}{caller.token_id}"]
    return agent


def _who(name: str, system: str) -> dict[str, Any]:
    return {"identifier": {"system": system, "value": name}, "display": name}


def _entities(record: AuditRecord, literal: bool) -> list[dict[str, Any]]:
    found = [
        _entity(one, codes.ENTITY_PERSON, codes.ROLE_PATIENT, literal)
        for one in dict.fromkeys((*filter(None, [record.patient]), *record.patients))
    ]
    if record.study:
        what = {"type": "ImagingStudy", "identifier": identifiers.study_identifier(record.study)}
        found.append(_object(what))
    # A search has no object but its query: BALP lets one entity only be of that type.
    if record.resource and record.event is not AuditEventKind.FHIR_SEARCH:
        kind, role = codes.ENTITY_SYSTEM_OBJECT, codes.ROLE_DOMAIN_RESOURCE
        found.append(_entity(record.resource, kind, role, literal))
    if record.query:
        found.append(
            {
                "type": codes.ENTITY_SYSTEM_OBJECT.coding,
                "role": codes.ROLE_QUERY.coding,
                "query": b64encode(record.query.encode()).decode(),
            }
        )
    if record.caller and record.caller.token_id:
        found.append(_token(record.caller))
    return found


def _token(caller: Caller) -> dict[str, Any]:
    """The token by which it was allowed: its id and what it grants."""
    identifier = {"system": identifiers.URI, "value": f"{JTI}{caller.token_id}"}
    entity: dict[str, Any] = {
        "type": codes.ENTITY_OTHER.coding,
        "role": codes.ROLE_SECURITY.coding,
        "what": {"identifier": identifier},
    }
    if scope := str(caller.scopes):
        entity["detail"] = [{"type": "scope", "valueString": scope}]
    return entity


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
