"""An AuditEvent as a DICOM audit message (PS3.15 A.5.1), ready for syslog (RFC 5424).

AuditEvent was made after that message, so each part has its counterpart.
"""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as Xml

from records import codes, identifiers
from records.codes import Code

# Facility 10 (security), severity 5 (notice) or 4 (warning).
NOTICE, WARNING = 10 * 8 + 5, 10 * 8 + 4
APPLICATION_NAME = "hilum"
MESSAGE_ID = "DICOM+RFC3881"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
SYSTEM_NAMES = {codes.DCM: "DCM"}
RFC_3881 = "RFC-3881"
PATIENT_NUMBER = Code(RFC_3881, "2", "Patient Number")
SEARCH_CRITERIA = Code(RFC_3881, "10", "Search Criteria")
URI = Code(RFC_3881, "12", "URI")
STUDY_UID = Code("DCM", "110180", "Study Instance UID")


def syslog_message(event: dict[str, Any], host: str) -> bytes:
    """One RFC 5424 message with the audit message in it."""
    priority = NOTICE if event["outcome"] == "0" else WARNING
    head = f"<{priority}>1 {event['recorded']} {host or '-'} {APPLICATION_NAME} - {MESSAGE_ID} - "
    return head.encode("ascii", "replace") + BYTE_ORDER_MARK + audit_message(event)


def audit_message(event: dict[str, Any]) -> bytes:
    """The XML of PS3.15 A.5.1."""
    message = Xml.Element("AuditMessage")
    _identify(message, event)
    for agent in event["agent"]:
        _add_participant(message, agent)
    observer = event["source"]["observer"]["display"]
    source = Xml.SubElement(message, "AuditSourceIdentification", AuditSourceID=observer)
    for kind in event["source"]["type"]:
        _add_code(source, "AuditSourceTypeCode", kind)
    for entity in event.get("entity", []):
        _add_object(message, entity)
    return bytes(Xml.tostring(message, encoding="utf-8", xml_declaration=True))


def _identify(message: Xml.Element, event: dict[str, Any]) -> None:
    part = Xml.SubElement(
        message,
        "EventIdentification",
        EventActionCode=event["action"],
        EventDateTime=event["recorded"],
        EventOutcomeIndicator=event["outcome"],
    )
    _add_code(part, "EventID", event["type"])
    for subtype in event.get("subtype", []):
        _add_code(part, "EventTypeCode", subtype)
    if "outcomeDesc" in event:
        Xml.SubElement(part, "EventOutcomeDescription").text = event["outcomeDesc"]


def _add_participant(message: Xml.Element, agent: dict[str, Any]) -> None:
    who = agent["who"]
    given = {
        "UserID": who.get("identifier", {}).get("value") or who["display"],
        "UserIsRequestor": "true" if agent["requestor"] else "false",
    }
    if "altId" in agent:
        given["AlternativeUserID"] = agent["altId"]
    if "name" in agent:
        given["UserName"] = agent["name"]
    if "network" in agent:
        given["NetworkAccessPointID"] = agent["network"]["address"]
        given["NetworkAccessPointTypeCode"] = agent["network"]["type"]
    part = Xml.SubElement(message, "ActiveParticipant", given)
    for coding in agent["type"]["coding"]:
        _add_code(part, "RoleIDCode", coding)


def _add_object(message: Xml.Element, entity: dict[str, Any]) -> None:
    identity, kind = _named(entity)
    part = Xml.SubElement(
        message,
        "ParticipantObjectIdentification",
        ParticipantObjectID=identity,
        ParticipantObjectTypeCode=entity["type"]["code"],
        ParticipantObjectTypeCodeRole=entity["role"]["code"],
    )
    _add_code(part, "ParticipantObjectIDTypeCode", kind.coding)
    if "query" in entity:
        Xml.SubElement(part, "ParticipantObjectQuery").text = entity["query"]
    for detail in entity.get("detail", []):
        given = {"type": detail["type"], "value": detail["valueString"]}
        Xml.SubElement(part, "ParticipantObjectDetail", given)


def _named(entity: dict[str, Any]) -> tuple[str, Code]:
    """What the object is called, and what kind of name that is."""
    if "query" in entity:
        return "query", SEARCH_CRITERIA
    what = entity["what"]
    identifier = what.get("identifier", {})
    if identifier.get("system") == identifiers.DICOM_UID:
        return identifiers.uid_of(identifier["value"]), STUDY_UID
    name = what.get("reference") or identifier.get("value") or what["display"]
    is_person = entity["type"]["code"] == codes.ENTITY_PERSON.code
    return name, PATIENT_NUMBER if is_person else URI


def _add_code(parent: Xml.Element, name: str, coding: dict[str, Any]) -> None:
    system = coding["system"]
    given = {"csd-code": coding["code"], "codeSystemName": SYSTEM_NAMES.get(system, system)}
    Xml.SubElement(parent, name, given | {"originalText": coding["display"]})
