"""Scopes in plain words, for the page on which a person agrees to them."""

from __future__ import annotations

from dataclasses import dataclass

from access.scopes import Grant, Scopes

_KINDS = {
    "*": "all health data",
    "Patient": "personal details: name, birth date, address",
    "Observation": "measurements and results",
    "ImagingStudy": "imaging studies and their pictures",
    "DiagnosticReport": "reports",
    "DocumentReference": "documents",
    "Encounter": "visits and stays",
    "ServiceRequest": "orders",
    "Condition": "problems and diagnoses",
    "AllergyIntolerance": "allergies",
    "MedicationRequest": "prescriptions",
    "Procedure": "procedures",
    "Immunization": "vaccinations",
    "Practitioner": "the list of clinicians",
    "Organization": "the list of organisations",
    "Endpoint": "addresses at which pictures are kept",
    "Task": "work items",
    "Provenance": "who made or changed what",
    "Appointment": "appointments",
}
_PLAIN = {
    "openid": "Know that it is you who signs in",
    "fhirUser": "Know who you are in the directory of clinicians and patients",
    "profile": "Know who you are in the directory of clinicians and patients",
    "launch": "Know what was open when you started it",
    "launch/patient": "Know which patient you chose",
    "launch/encounter": "Know which visit you chose",
    "launch/imagingstudy": "Know which imaging study you chose",
    "online_access": "Go on while you are signed in here",
    "offline_access": "Go on after you have signed out, until you take it back",
}
# Without these an app that asked for them cannot begin at all.
_REQUIRED = frozenset({"launch", "launch/patient", "launch/encounter", "launch/imagingstudy"})
_CODES = {
    "laboratory": "laboratory results",
    "imaging": "imaging results",
    "vital-signs": "vital signs",
    "social-history": "social history",
    "survey": "questionnaires",
    "LP29684-5": "radiology",
    "problem-list-item": "the problem list",
    "encounter-diagnosis": "diagnoses of visits",
    "health-concern": "health concerns",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One scope on the page.

    Attributes:
        text: what it means.
        changes: whether it lets the app change something.
        required: cannot be unticked.
    """

    scope: str
    text: str
    changes: bool
    required: bool


def lines(scope: str) -> list[Line]:
    """Each scope in words, in the order asked for."""
    return [
        Line(one, _text(one), _changes(one), one in _REQUIRED)
        for one in dict.fromkeys(scope.split())
    ]


def is_required(scope: str) -> bool:
    """Whether a scope cannot be left out."""
    return scope in _REQUIRED


def _text(scope: str) -> str:
    if scope in _PLAIN:
        return _PLAIN[scope]
    return "; ".join(_grant(grant) for grant in Scopes.parse(scope).grants) or scope


def _grant(grant: Grant) -> str:
    what = _KINDS.get(grant.resource_type, f"data of the kind {grant.resource_type}")
    some = _some(grant)
    whose = "of this patient" if grant.context == "patient" else "of everyone whom you may see"
    return f"{_verbs(grant)} {what}{some}, {whose}"


def _verbs(grant: Grant) -> str:
    found = ["See"] if grant.interactions & {"r", "s"} else []
    found += [
        word
        for letter, word in (("c", "add"), ("u", "change"), ("d", "delete"))
        if letter in grant.interactions
    ]
    text = found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"
    return text[0].upper() + text[1:]


def _some(grant: Grant) -> str:
    """What a filter leaves, such as ` (laboratory results only)`."""
    if grant.filter is None:
        return ""
    parts = []
    for name, value in grant.filter:
        codes = [one.rpartition("|")[2] for one in value.split(",")]
        words = " or ".join(_CODES.get(code, code) for code in codes)
        parts.append(words if name == "category" else f"{name} {words}")
    return f" ({'; '.join(parts)} only)"


def _changes(scope: str) -> bool:
    return any(grant.interactions & set("cud") for grant in Scopes.parse(scope).grants)
