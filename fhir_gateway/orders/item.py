"""The mapping of an imaging order to a worklist item (PS3.4 table K.6-1): pure, deterministic."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from archive.keys import DicomJson
from fhir_gateway.dicom_values import SCHEMES
from fhir_gateway.names import to_person_name
from fhir_gateway.orders import reading
from fhir_gateway.orders.reading import Order, Resource, Visit
from records import codes, identifiers

SHORT, LONG, TEXT = 16, 64, 10240
SEXES = {"male": "M", "female": "F", "other": "O"}
PRIORITIES = {"stat": "STAT", "asap": "HIGH", "urgent": "HIGH", "routine": "ROUTINE"}
DESIGNATORS = {system: scheme for scheme, system in SCHEMES.items() if scheme != "SRT"}


class NotSchedulable(Exception):
    """An order that cannot be offered to a modality; the text says what it lacks, no values."""


@dataclass(frozen=True, slots=True)
class SentPatient:
    """The identifier that goes to the modality, and comes back with the images."""

    value: str
    system: str


def to_item(order: Order, zone: str | None) -> DicomJson:
    """The worklist item of an order, one scheduled step for each visit.

    Args:
        zone: IANA zone of the site, in which modalities read times; None keeps FHIR's offset.

    Raises:
        NotSchedulable: an attribute is missing that every modality needs.
    """
    steps = [_step(order, visit, zone) for visit in order.visits]
    return _filled(
        {
            **_patient(order),
            **_procedure(order),
            **_visit(order),
            "00400100": ("SQ", steps),
        }
    )


def sent_patient(patient: Resource) -> SentPatient:
    """Which identifier of a Patient is its PatientID: the medical record number, else the first.

    Raises:
        NotSchedulable: it has none that fits.
    """
    found = [one for one in patient.get("identifier", []) if one.get("value")]
    current = [one for one in found if one.get("use") != "old"] or found
    records = [one for one in current if _is_record_number(one)]
    for one in [*records, *current]:
        if len(one["value"]) <= LONG and "\\" not in one["value"]:
            return SentPatient(str(one["value"]), str(one.get("system", "")))
    raise NotSchedulable("the patient has no identifier of 64 characters at most")


def _is_record_number(identifier: Resource) -> bool:
    kind = codes.MEDICAL_RECORD_TYPE
    return any(
        (coding.get("system"), coding.get("code")) == (kind.system, kind.code)
        for coding in identifier.get("type", {}).get("coding", [])
    )


def _patient(order: Order) -> dict[str, tuple[str, Any]]:
    patient, sent = order.patient, sent_patient(order.patient)
    local, universal, kind = identifiers.issuer_of(sent.system)
    qualifiers = _filled({"00400032": ("UT", universal), "00400033": ("CS", kind)})
    name = to_person_name(patient.get("name", []))
    if not name:
        raise NotSchedulable("the patient has no name")
    born = str(patient.get("birthDate", ""))
    return {
        "00100010": ("PN", name),
        "00100020": ("LO", sent.value),
        "00100021": ("LO", (local or "")[:LONG]),
        "00100024": ("SQ", [qualifiers]),
        "00100030": ("DA", born.replace("-", "") if len(born) == len("2026-01-01") else None),
        "00100040": ("CS", SEXES.get(patient.get("gender", ""))),
    }


def _procedure(order: Order) -> dict[str, tuple[str, Any]]:
    request = order.request
    requester = to_person_name(order.requester)
    code = request.get("code", {})
    reasons = [*request.get("reasonCode", []), *order.reasons]
    accession = reading.accession_of(request)
    return {
        "00080050": ("SH", accession_number(accession)),
        "00080051": ("SQ", [_accession_issuer(accession)]),
        "00080090": ("PN", requester),
        "0020000D": ("UI", reading.study_uid_of(request)),
        "00321032": ("PN", requester),
        "00321060": ("LO", _words(code)[:LONG] or None),
        "00321064": ("SQ", _coded([code])),
        "00401001": ("SH", _requested_procedure_id(request)),
        "00401002": ("LO", "; ".join(filter(None, map(_words, reasons)))[:LONG]),
        "0040100A": ("SQ", _coded(reasons)),
        "00401003": ("SH", PRIORITIES.get(request.get("priority", "routine"))),
        "00401400": ("LT", "\n".join(n["text"] for n in request.get("note", []))[:TEXT]),
        "00402016": ("LO", _number(request, codes.PLACER_TYPE)),
        "00402017": ("LO", _number(request, codes.FILLER_TYPE)),
    }


def _visit(order: Order) -> dict[str, tuple[str, Any]]:
    encounter = order.encounter or {}
    visit = reading.identifier_of_type(encounter, codes.VISIT_TYPE)
    number = visit or next(iter(encounter.get("identifier", [])), {})
    return {
        "00380010": ("LO", str(number.get("value", ""))[:LONG]),
        "00380300": ("LO", order.location[:LONG]),
    }


def _step(order: Order, visit: Visit, zone: str | None) -> DicomJson:
    start, stations = _start(visit, zone), _stations(visit)
    code = order.request.get("code", {})
    return _filled(
        {
            "00080060": ("CS", _modality(order, visit)),
            "00400001": ("AE", stations),
            "00400002": ("DA", f"{start:%Y%m%d}"),
            "00400003": ("TM", f"{start:%H%M%S}"),
            "00400006": ("PN", to_person_name(visit.people[0]) if visit.people else None),
            "00400007": ("LO", (_words(code) or _words(visit.booking))[:LONG]),
            "00400008": ("SQ", _coded([code])),
            "00400009": ("SH", step_id(visit.booking)),
            "00400011": ("SH", _place_name(visit)[:SHORT]),
            "00400400": ("LT", str(visit.booking.get("patientInstruction", ""))[:TEXT]),
        }
    )


def step_id(booking: Resource) -> str:
    """Scheduled Procedure Step ID of a booking: the same for as long as the booking exists."""
    name = f"{booking['resourceType']}/{booking['id']}"
    return base64.b32encode(hashlib.sha256(name.encode()).digest()).decode()[:SHORT]


def accession_number(accession: Resource | None) -> str | None:
    """As DICOM can carry it; a longer one would come back cut and name another order."""
    value = str((accession or {}).get("value", ""))
    return value if len(value) <= SHORT and "\\" not in value else None


def _accession_issuer(accession: Resource | None) -> DicomJson:
    local, universal, kind = identifiers.issuer_of(str((accession or {}).get("system", "")))
    return _filled(
        {"00400031": ("UT", local), "00400032": ("UT", universal), "00400033": ("CS", kind)}
    )


def _requested_procedure_id(request: Resource) -> str:
    """A number of the order that fits into 16 characters, else one made of its id."""
    for kind in (codes.FILLER_TYPE, codes.PLACER_TYPE, codes.ACCESSION_TYPE):
        number = _number(request, kind)
        if number and len(number) <= SHORT:
            return number
    return step_id(request)


def _number(request: Resource, kind: codes.Code) -> str | None:
    found = reading.identifier_of_type(request, kind)
    return str(found["value"])[:LONG] if found else None


def _start(visit: Visit, zone: str | None) -> datetime:
    booking = visit.booking
    text = (
        booking.get("start")
        or booking.get("occurrenceDateTime")
        or booking.get("occurrencePeriod", {}).get("start")
    )
    if not text or len(str(text)) < len("2026-01-01T00:00"):
        raise NotSchedulable("neither an appointment nor the order says when")
    moment = datetime.fromisoformat(str(text))
    return moment.astimezone(ZoneInfo(zone)) if zone and moment.tzinfo else moment


def _stations(visit: Visit) -> list[str]:
    titles = [
        str(one["value"]).strip()
        for place in visit.places
        for one in place.get("identifier", [])
        if one.get("system") == identifiers.AE_TITLE and one.get("value")
    ]
    fitting = [title for title in dict.fromkeys(titles) if 0 < len(title) <= SHORT]
    if not fitting:
        raise NotSchedulable("no Location, Device or HealthcareService with an AE title")
    return fitting


def _modality(order: Order, visit: Visit) -> str:
    """The first DICOM modality code, from the order itself outwards to the place."""
    booking = visit.booking
    concepts = [*order.request.get("orderDetail", []), *booking.get("serviceType", [])]
    for place in visit.places:
        kinds = place.get("type", [])
        concepts += kinds if isinstance(kinds, list) else [kinds]
        concepts += place.get("specialty", [])
    for concept in concepts:
        for coding in concept.get("coding", []):
            if coding.get("system") == codes.DCM and 0 < len(coding.get("code", "")) <= SHORT:
                return str(coding["code"])
    raise NotSchedulable("no DICOM modality code in order, appointment or place")


def _place_name(visit: Visit) -> str:
    names = (place.get("name") for place in visit.places if isinstance(place.get("name"), str))
    return next((name for name in names if name), "")


def _words(concept: Mapping[str, Any]) -> str:
    """What a concept, or a booking's description, says."""
    shown = (coding.get("display") for coding in concept.get("coding", []))
    text = concept.get("text") or concept.get("description") or next(filter(None, shown), "")
    return str(text).strip()


def _coded(concepts: Iterable[Mapping[str, Any]]) -> list[DicomJson]:
    """Concepts as items of a code sequence, the first coding of each that DICOM can carry."""
    found = []
    for concept in concepts:
        codings = [one for one in concept.get("coding", []) if one.get("code")]
        known = [one for one in codings if one.get("system") in DESIGNATORS] or codings
        if known:
            found.append(_code_item(known[0], _words(concept)))
    return found


def _code_item(coding: Mapping[str, Any], words: str) -> DicomJson:
    code, system = str(coding["code"]), str(coding.get("system", ""))
    local = system.removeprefix(f"{codes.SID_SCHEME}/")
    return _filled(
        {
            ("00080100" if len(code) <= SHORT else "00080119"): (
                "SH" if len(code) <= SHORT else "UC",
                code,
            ),
            "00080102": ("SH", DESIGNATORS.get(system, local if len(local) <= SHORT else "99FHIR")),
            "00080104": ("LO", (str(coding.get("display") or words) or code)[:LONG]),
        }
    )


def _filled(attributes: Mapping[str, tuple[str, Any]]) -> DicomJson:
    """DICOM JSON of the attributes that have a value.

    A backslash in a line of text would make two values of it.
    """
    result: DicomJson = {}
    for tag, (vr, value) in sorted(attributes.items()):
        values = [one for one in (value if isinstance(value, list) else [value]) if one]
        if vr in ("LO", "SH"):
            values = [one.replace("\\", "/") for one in values]
        if values:
            result[tag] = {"vr": vr, "Value": values}
    return result
