"""The data set of a work item: what may be created, changed and finished (PS3.4 CC.2.5, CC.2.6)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from pydicom.valuerep import VR

from archive.dictionary import dictionary_vr
from archive.keys import DicomJson
from archive.workitem_errors import InvalidWorkitem

UPS_PUSH = "1.2.840.10008.5.1.4.34.6.1"
STATES = ("SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED")
FINAL = frozenset({"COMPLETED", "CANCELED"})
DEFAULT_WORKLIST = "HILUM"
DEPTH_LIMIT = 16

SOP_CLASS, SOP_UID, TRANSACTION = "00080016", "00080018", "00081195"
STUDY_UID, PATIENT_ID = "0020000D", "00100020"
STATE, PROGRESS, PERFORMED = "00741000", "00741002", "00741216"
PRIORITY, LABEL, WORKLIST_LABEL = "00741200", "00741204", "00741202"
START, MODIFIED, READINESS = "00404005", "00404010", "00404041"
CODE, STATIONS, PERFORMERS = "00404018", "00404025", "00404034"
INPUT, OUTPUT, REQUEST = "00404021", "00404033", "0040A370"
CANCELED_AT, CANCEL_REASON, CANCEL_CODE = "00404052", "00741238", "0074100E"
CODE_VALUE, CODE_SCHEME, CODE_MEANING, LONG_CODE = "00080100", "00080102", "00080104", "00080119"

_NAME = re.compile(r"[0-9A-F]{8}")
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*", re.ASCII)
_DATE_TIME = re.compile(r"\d{4}(\d{2}){0,5}(\.\d{1,6})?([+-]\d{4})?", re.ASCII)
_VRS = frozenset(vr.value for vr in VR if len(vr.value) == 2)
_ENUMERATED = {
    PRIORITY: ("HIGH", "MEDIUM", "LOW"),
    READINESS: ("INCOMPLETE", "UNAVAILABLE", "READY"),
}
# Type 1 when created; where a later update names one of these it may not be empty either.
_REQUIRED = (PRIORITY, LABEL, START, READINESS)
_NEVER_EMPTY = (*_REQUIRED, WORKLIST_LABEL, CODE)
# Type 2 when created: present, but perhaps empty.
_PRESENT = (
    CODE, STATIONS, "00404026", "00404027", "00741210", "00400400", INPUT, "00100010", PATIENT_ID,
    "00100021", "00100024", "00100030", "00100040", "00101002", "00380010", "00380014", "00081080",
    "00081084", REQUEST,
)  # fmt: skip
# Only the performer has something to say in these, and only after creation.
_EMPTY_AT_FIRST = (TRANSACTION, PROGRESS, PERFORMED)
_UNCHANGEABLE = (
    SOP_CLASS, SOP_UID, STATE, "00100010", PATIENT_ID, "00100021", "00100024", "00100030",
    "00100040", "00380010", "00380014", "00081080", "00081084", REQUEST, "00741224",
)  # fmt: skip
# Final state codes R, P and X of table CC.2.5-3.
_FINAL_ALWAYS = (SOP_CLASS, SOP_UID, PRIORITY, MODIFIED, START, READINESS, STATE)
_FINAL_PERFORMED = ("00404028", "00404050", "00404019", "00404051", OUTPUT)
_FINAL_CANCELED = (CANCELED_AT, CANCEL_CODE)


def element(name: str, *values: Any) -> DicomJson:
    """One element of DICOM JSON with the VR of the dictionary; without values it is empty."""
    vr = dictionary_vr(int(name, 16))
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def data_set(values: dict[str, Any]) -> DicomJson:
    """DICOM JSON of simple values by tag; a list is several values, None an empty attribute."""
    return {
        name: element(name, *(value if isinstance(value, list) else [value]))
        if value is not None
        else element(name)
        for name, value in values.items()
    }


def code_item(value: str, scheme: str, meaning: str) -> DicomJson:
    """One item of a code sequence; a value beyond 16 characters is a long one (PS3.3 8.1)."""
    name = CODE_VALUE if len(value) <= 16 else LONG_CODE
    return data_set({name: value, CODE_SCHEME: scheme, CODE_MEANING: meaning})


def values_of(document: DicomJson, name: str) -> list[Any]:
    """The values of an attribute that are not empty."""
    found = document.get(name, {}).get("Value") or []
    return [value for value in found if value not in (None, "", {})]


def first(document: DicomJson, name: str) -> Any:
    """The first value, or None."""
    return next(iter(values_of(document, name)), None)


def now() -> str:
    """This moment as a DT value in UTC."""
    return datetime.now(UTC).strftime("%Y%m%d%H%M%S+0000")


def check(document: DicomJson, depth: int = 0) -> None:
    """Whether this is DICOM JSON that can be kept.

    Raises:
        InvalidWorkitem: names the attribute, never its value.
    """
    if depth > DEPTH_LIMIT:
        raise InvalidWorkitem("the sequences are nested too deep")
    if not isinstance(document, dict):
        raise InvalidWorkitem("a data set must be a JSON object")
    for name, found in document.items():
        if not isinstance(found, dict) or not _NAME.fullmatch(name):
            raise InvalidWorkitem(f"{name[:16]!a} is no attribute of DICOM JSON")
        vr = found.get("vr")
        known = dictionary_vr(int(name, 16))
        if vr not in _VRS or (known not in (vr, "UN") and known not in ("OW", "US", "SS")):
            raise InvalidWorkitem(f"{name} has a wrong VR, or none")
        unknown = set(found) - {"vr", "Value", "InlineBinary"}
        values = found.get("Value", [])
        if unknown or not isinstance(values, list):
            raise InvalidWorkitem(f"{name} is not written as DICOM JSON")
        for value in values:
            _check_value(name, str(vr), value, depth)


def _check_value(name: str, vr: str, value: Any, depth: int) -> None:
    if value is None:
        return
    if vr == "SQ":
        check(value, depth + 1)
        return
    if vr == "PN":
        good = isinstance(value, dict) and all(isinstance(one, str) for one in value.values())
    elif vr in ("US", "SS", "UL", "SL", "FL", "FD", "UV", "SV", "IS", "DS"):
        good = isinstance(value, int | float | str) and not isinstance(value, bool)
    else:
        good = isinstance(value, str)
    if good and vr == "UI":
        good = len(value) <= 64 and (value == "" or _UID.fullmatch(value) is not None)
    if good and vr == "DT":
        good = value == "" or _DATE_TIME.fullmatch(value) is not None
    if not good or "\0" in str(value):
        raise InvalidWorkitem(f"{name} has a value that its VR does not allow")


def created(uid: str, document: DicomJson) -> tuple[DicomJson, bool]:
    """The data set of a new work item, and whether something had to be added to it.

    Raises:
        InvalidWorkitem: an attribute of type 1 is missing, or one is there that may not be.
    """
    check(document)
    for name in _REQUIRED:
        _require(document, name)
    for name in _EMPTY_AT_FIRST:
        if values_of(document, name):
            raise InvalidWorkitem(f"{name} must be empty when a work item is created")
    if first(document, STATE) != "SCHEDULED":
        raise InvalidWorkitem("a work item begins in the state SCHEDULED (0074,1000)")
    if first(document, SOP_CLASS) not in (None, UPS_PUSH):
        raise InvalidWorkitem("the SOP class of a work item is UPS Push")
    if first(document, SOP_UID) not in (None, uid):
        raise InvalidWorkitem("the data set names another SOP Instance UID")
    _check_choices(document)
    missing = [name for name in _PRESENT if name not in document]
    label = first(document, WORKLIST_LABEL) or DEFAULT_WORKLIST
    kept = {name: value for name, value in document.items() if name[:4] != "0000"}
    kept.pop(TRANSACTION, None)
    kept |= {name: element(name) for name in (*missing, PROGRESS, PERFORMED)}
    kept |= data_set({SOP_CLASS: UPS_PUSH, SOP_UID: uid, MODIFIED: now(), WORKLIST_LABEL: label})
    return kept, bool(missing) or not values_of(document, WORKLIST_LABEL)


def updated(document: DicomJson, changes: DicomJson) -> DicomJson:
    """The data set with the changed attributes; a sequence is replaced as a whole.

    Raises:
        InvalidWorkitem: an attribute that cannot be changed, or a value that is not allowed.
    """
    check(changes)
    for name in _UNCHANGEABLE:
        if name in changes:
            raise InvalidWorkitem(f"{name} cannot be changed")
    for name in _NEVER_EMPTY:
        if name in changes:
            _require(changes, name)
    _check_choices(changes)
    kept = {name: v for name, v in changes.items() if name[:4] != "0000" and name != TRANSACTION}
    return document | kept | {MODIFIED: element(MODIFIED, now())}


def _require(document: DicomJson, name: str) -> None:
    if not values_of(document, name):
        raise InvalidWorkitem(f"{name} is missing or has no value")


def _check_choices(document: DicomJson) -> None:
    for name, allowed in _ENUMERATED.items():
        value = first(document, name)
        if value is not None and value not in allowed:
            raise InvalidWorkitem(f"{name} must be one of {', '.join(allowed)}")
    codes = values_of(document, CODE)
    if len(codes) > 1:
        raise InvalidWorkitem(f"{CODE} holds more than one item")
    if codes and code_of(codes[0]) is None:
        raise InvalidWorkitem(f"{CODE} holds no complete code")


def missing_at_end(document: DicomJson, state: str) -> list[str]:
    """Attributes without which the item may not be COMPLETED or CANCELED (CC.2.5.1.1)."""
    missing = [name for name in _FINAL_ALWAYS if not values_of(document, name)]
    sequence, wanted = (
        (PERFORMED, _FINAL_PERFORMED) if state == "COMPLETED" else (PROGRESS, _FINAL_CANCELED)
    )
    item = first(document, sequence)
    if item is None:
        return [*missing, sequence]
    return missing + [f"{sequence}.{name}" for name in wanted if not values_of(item, name)]


def with_cancellation(document: DicomJson, request: DicomJson) -> DicomJson:
    """The data set with what CANCELED needs: when, and why, as far as the request says it."""
    progress = dict(first(document, PROGRESS) or {})
    progress |= {name: request[name] for name in (CANCEL_REASON, CANCEL_CODE) if name in request}
    if not values_of(progress, CANCEL_CODE):
        unspecified = code_item("110513", "DCM", "Discontinued for unspecified reason")
        progress[CANCEL_CODE] = element(CANCEL_CODE, unspecified)
    progress[CANCELED_AT] = element(CANCELED_AT, now())
    return document | {PROGRESS: element(PROGRESS, progress)}


def code_of(item: DicomJson) -> tuple[str, str] | None:
    """Scheme and value of a code item, or None where one is missing."""
    value = first(item, CODE_VALUE) or first(item, LONG_CODE)
    scheme = first(item, CODE_SCHEME)
    return (str(scheme), str(value)) if scheme and value else None


def codes_of(document: DicomJson) -> list[str]:
    """The scheduled workitem codes, each as `scheme|value`."""
    pairs = (code_of(item) for item in values_of(document, CODE))
    return [f"{pair[0]}|{pair[1]}" for pair in pairs if pair is not None]


def studies_of(document: DicomJson) -> list[str]:
    """Every Study Instance UID that the data set names, at any depth."""
    return sorted(set(_studies(document)))


def _studies(document: DicomJson) -> Iterator[str]:
    for name, found in document.items():
        if name == STUDY_UID:
            yield from (str(value) for value in values_of(document, name))
        elif found.get("vr") == "SQ":
            for item in values_of(document, name):
                yield from _studies(item)


def input_studies(document: DicomJson) -> list[str]:
    """The studies that the work is to be done on: of the input, else of the item itself."""
    items: Iterable[DicomJson] = values_of(document, INPUT)
    found = {str(uid) for item in items for uid in values_of(item, STUDY_UID)}
    return sorted(found or {str(uid) for uid in values_of(document, STUDY_UID)})
