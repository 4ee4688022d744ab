"""An AuditEvent has the parts that IHE BALP asks for, and no token, name or secret."""

from __future__ import annotations

from base64 import b64decode
from datetime import UTC, datetime
from xml.etree import ElementTree

import pytest

from access import AuditEventKind, AuditRecord, Caller, Scopes
from access.audit import SpooledRecord
from fhir_gateway.audit import to_audit_event
from fhir_gateway.audit.dicom_message import audit_message, syslog_message

PERSON = Caller(
    "dr.one",
    "user",
    Scopes.parse("user/Patient.rs user/Observation.rs"),
    client="viewer",
    address="192.0.2.1",
    fhir_user="Practitioner/9",
    token_id="jti-1",
)
BACKEND = Caller(
    "warehouse",
    "system",
    Scopes.parse("system/*.rs"),
    client="warehouse",
    address="192.0.2.2",
    token_id="jti-2",
)

# BALP 1.1: subtype, action, and the roles of client and server.
PATTERNS = {
    "Read": ("read", "R", "110152", "110153"),
    "Query": ("search", "E", "110153", "110152"),
    "Create": ("create", "C", "110153", "110152"),
    "Update": ("update", "U", "110153", "110152"),
    "Delete": ("delete", "D", "110150", "custodian"),
}
EVENTS = {
    "Read": (AuditEventKind.FHIR_READ, "R"),
    "Query": (AuditEventKind.FHIR_SEARCH, "E"),
    "Create": (AuditEventKind.FHIR_WRITE, "C"),
    "Update": (AuditEventKind.FHIR_WRITE, "U"),
    "Delete": (AuditEventKind.FHIR_WRITE, "D"),
}


def event(pattern="Read", caller=PERSON, **changes):
    kind, action = EVENTS[pattern]
    about = {"resource": "Observation/1", "patient": "Patient/1"}
    if pattern == "Query":
        about["query"] = "Observation?patient=Patient/1"
    base = {"outcome": "success", "at": datetime.now(UTC), **about, **changes}
    record = AuditRecord(event=changes.pop("event", kind), action=action, caller=caller, **base)
    return to_audit_event(SpooledRecord("id-1", "web", record, "archive-1", 1))


def agents(found, code):
    return [one for one in found["agent"] if one["type"]["coding"][0]["code"] == code]


def entities(found, code):
    return [one for one in found.get("entity", []) if one["type"]["code"] == code]


@pytest.mark.parametrize("caller", [PERSON, BACKEND], ids=["person", "backend"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_an_event_follows_its_pattern(pattern, caller):
    subtype, action, client, server = PATTERNS[pattern]

    found = event(pattern, caller)

    assert found["type"]["code"] == "rest"
    assert [one["code"] for one in found["subtype"]] == [subtype]
    assert (found["action"], found["outcome"]) == (action, "0")
    for code in (client, server):
        (one,) = agents(found, code)
        assert one["who"]
        assert one["network"]["address"]
    (patient,) = entities(found, "1")
    assert (patient["role"]["code"], patient["what"]) == ("1", _patient(pattern))
    (thing,) = entities(found, "2")
    if pattern == "Query":
        assert set(thing) == {"type", "role", "query"}
        assert b64decode(thing["query"]) == b"Observation?patient=Patient/1"
    else:
        assert thing["role"]["code"] == "4"


def _patient(pattern):
    if pattern == "Delete":  # what it says must hold when the resource is gone
        identifier = {"system": "https://hilum.dev/fhir/sid/resource", "value": "Patient/1"}
        return {"type": "Patient", "identifier": identifier}
    return {"reference": "Patient/1"}


def test_the_application_and_the_person_of_a_token_are_agents():
    found = event(caller=PERSON)

    (application,) = agents(found, "110150")
    (person,) = agents(found, "IRCP")
    assert application["who"]["identifier"]["value"] == "viewer"
    assert person["who"]["identifier"]["value"] == person["name"] == "dr.one"
    assert person["policy"] == ["urn:ietf:params:oauth:jti:jti-1"]
    assert person["altId"] == "Practitioner/9"
    assert [one["requestor"] for one in found["agent"]].count(True) == 1
    assert person["requestor"]
    assert "network" not in person


def test_a_backend_is_the_one_who_asked():
    found = event(caller=BACKEND)

    (application,) = agents(found, "110150")
    assert application["policy"] == ["urn:ietf:params:oauth:jti:jti-2"]
    assert application["requestor"]
    assert agents(found, "IRCP") == []


def test_the_token_is_told_by_its_id_and_what_it_grants():
    (token,) = entities(event(), "4")

    assert token["role"]["code"] == "13"
    assert token["what"]["identifier"]["value"] == "urn:ietf:params:oauth:jti:jti-1"
    (scope,) = token["detail"]
    assert scope["valueString"] == "user/Observation.rs user/Patient.rs"


def test_each_patient_of_a_search_is_named_once():
    found = event("Query", patient=None, patients=("Patient/1", "Patient/2", "Patient/1"))

    names = [one["what"]["reference"] for one in entities(found, "1")]
    assert names == ["Patient/1", "Patient/2"]


@pytest.mark.parametrize(
    ("kind", "type_", "subtype"),
    [
        (AuditEventKind.LOGIN, "110114", "110122"),
        (AuditEventKind.LOGOUT, "110114", "110123"),
        (AuditEventKind.TOKEN, "110114", "110126"),
        (AuditEventKind.DENIED, "110113", "110132"),
        (AuditEventKind.EXPORT, "110106", None),
        (AuditEventKind.NOTIFY, "110106", None),
    ],
)
def test_what_is_no_rest_interaction_has_the_codes_of_dicom(kind, type_, subtype):
    record = AuditRecord(
        action="E", event=kind, outcome="success", caller=PERSON, at=datetime.now(UTC)
    )
    found = to_audit_event(SpooledRecord("id-1", "web", record, "archive-1", 1))

    assert found["type"]["code"] == type_
    assert [one["code"] for one in found.get("subtype", [])] == ([subtype] if subtype else [])


def test_a_dicom_audit_message_says_the_same():
    message = ElementTree.fromstring(audit_message(event("Query", outcome="minor", detail="no")))

    what = message.find("EventIdentification")
    assert (what.get("EventActionCode"), what.get("EventOutcomeIndicator")) == ("E", "4")
    assert what.find("EventID").get("csd-code") == "rest"
    assert what.find("EventOutcomeDescription").text == "no"
    roles = [one.find("RoleIDCode").get("csd-code") for one in message.findall("ActiveParticipant")]
    assert roles == ["110153", "110152", "110150", "IRCP"]
    assert message.find("ActiveParticipant").get("NetworkAccessPointID") == "192.0.2.1"
    assert message.find("AuditSourceIdentification").get("AuditSourceID") == "Hilum web"
    objects = message.findall("ParticipantObjectIdentification")
    assert [one.get("ParticipantObjectTypeCode") for one in objects] == ["1", "2", "4"]
    query = objects[1].find("ParticipantObjectQuery").text
    assert b64decode(query) == b"Observation?patient=Patient/1"


def test_the_order_of_a_dicom_audit_message_is_that_of_its_schema():
    message = ElementTree.fromstring(audit_message(event()))

    names = [part.tag for part in message]
    order = [
        "EventIdentification",
        "ActiveParticipant",
        "AuditSourceIdentification",
        "ParticipantObjectIdentification",
    ]
    assert names == sorted(names, key=order.index)


def test_a_syslog_message_has_a_header_and_a_byte_order_mark():
    head, _, body = syslog_message(event(), "archive-1").partition(b"\xef\xbb\xbf")

    assert head.startswith(b"<85>1 ")
    assert head.split(b" ")[2:6] == [b"archive-1", b"hilum", b"-", b"DICOM+RFC3881"]
    assert body.startswith(b"<?xml")
