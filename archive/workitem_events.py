"""What subscribers of a work item are told (PS3.4 CC.2.4), as DICOM JSON messages."""

from __future__ import annotations

from typing import Any

from archive.keys import DicomJson
from archive.workitem_document import (
    CANCEL_CODE,
    CANCEL_REASON,
    PERFORMERS,
    PROGRESS,
    READINESS,
    STATE,
    STATIONS,
    UPS_PUSH,
    data_set,
    element,
    first,
    values_of,
)

STATE_REPORT, CANCEL_REQUESTED, PROGRESS_REPORT, ASSIGNED = 1, 2, 3, 5
EVENT_TYPE, MESSAGE_ID, REQUESTING_AE = "00001002", "00000110", "00741236"
CONTACT_URI, CONTACT_NAME = "0074100A", "0074100C"
_PERFORMER_CODE, _PERFORMER_ORGANIZATION = "00404009", "00404036"
_EVENT_REPORT = 0x0100
_REQUESTED = (CANCEL_REASON, CANCEL_CODE, CONTACT_URI, CONTACT_NAME)


def numbered(message: DicomJson, sequence: int) -> DicomJson:
    """The message with a Message ID that follows the order of the events."""
    return message | {MESSAGE_ID: element(MESSAGE_ID, sequence % 0xFFFF + 1)}


def state_report(uid: str, document: DicomJson) -> DicomJson:
    """The state or the readiness of the input is a new one."""
    told = {name: document[name] for name in (STATE, READINESS) if name in document}
    progress = first(document, PROGRESS) or {}
    told |= {name: progress[name] for name in (CANCEL_REASON, CANCEL_CODE) if name in progress}
    return _message(uid, STATE_REPORT, told)


def cancel_requested(uid: str, request: DicomJson, requester: str) -> DicomJson:
    """Somebody wishes that the performer stops."""
    told = {name: request[name] for name in _REQUESTED if name in request}
    return _message(uid, CANCEL_REQUESTED, told | data_set({REQUESTING_AE: requester}))


def progress_report(uid: str, document: DicomJson) -> DicomJson:
    """The performer has come further."""
    return _message(uid, PROGRESS_REPORT, {PROGRESS: document[PROGRESS]})


def assigned(uid: str, document: DicomJson) -> DicomJson:
    """The station or person that is to do the work."""
    told: DicomJson = {}
    if values_of(document, STATIONS):
        told[STATIONS] = document[STATIONS]
    person = first(document, PERFORMERS) or {}
    for name in (_PERFORMER_CODE, _PERFORMER_ORGANIZATION):
        if values_of(person, name):
            told[name] = person[name]
    return _message(uid, ASSIGNED, told)


def of_creation(uid: str, document: DicomJson) -> list[DicomJson]:
    """What a new work item tells those who are subscribed to all."""
    found = [state_report(uid, document)]
    if values_of(document, STATIONS) or values_of(document, PERFORMERS):
        found.append(assigned(uid, document))
    return found


def of_update(uid: str, before: DicomJson, after: DicomJson) -> list[DicomJson]:
    """What a change tells: readiness, assignment, progress."""

    def differ(*names: str) -> bool:
        return any(_plain(before, name) != _plain(after, name) for name in names)

    found = []
    if differ(READINESS):
        found.append(state_report(uid, after))
    if differ(STATIONS, PERFORMERS):
        found.append(assigned(uid, after))
    if differ(PROGRESS):
        found.append(progress_report(uid, after))
    return found


def _plain(document: DicomJson, name: str) -> list[Any]:
    return values_of(document, name)


def _message(uid: str, kind: int, told: DicomJson) -> DicomJson:
    head = {"00000002": UPS_PUSH, "00000100": _EVENT_REPORT, "00001000": uid, EVENT_TYPE: kind}
    return data_set(head) | told
